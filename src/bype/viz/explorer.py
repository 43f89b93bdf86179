"""The pages of the explorer: images with their captions in, HTML out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bype.viz.pages import render_page
from bype.viz.sheets import Sheet, Tile


@dataclass(frozen=True)
class About:
    """What every page says of the model.

    Args:
        name: The run.
        summary: A sentence on the model.
        notes: What is left out, and why.
        classes: The labels of components.
        points: The number of components that are made of images.
        components: The number of components.
        tests: The number of test images.
        size: The size of an image in words.
    """

    name: str
    summary: str
    notes: Sequence[str]
    classes: Sequence[str]
    points: int
    components: int
    tests: int
    size: str


class Named(NamedTuple):
    """An image with its caption."""

    tile: Tile
    name: str


class Point(NamedTuple):
    """A component of the prior: its number, image and weight."""

    number: int
    tile: Tile
    weight: str


@dataclass(frozen=True)
class Drawn:
    """Samples of one source: the prior, a class, a component, or the surroundings of an image."""

    title: str
    samples: Sequence[Tile]
    shown: Tile | None  # the point or the image
    nearest: Sequence[Named]
    again: str  # the query of another draw
    kind: str  # of the source, and its number or name
    value: str


@dataclass(frozen=True)
class Points:
    """One page of the points, ordered by weight."""

    points: Sequence[Point]
    page: int
    pages: int


@dataclass(frozen=True)
class Slide:
    """Images along the line from one image to another."""

    start: str
    end: str
    steps: Sequence[Tile]
    a: str  # the number of the start, and of the end; empty for own images
    b: str


@dataclass(frozen=True)
class Look:
    """An image with its reconstruction, figures and nearest training images."""

    name: str
    image: Tile
    reconstruction: Tile
    figures: Sequence[tuple[str, str, str]]  # name, value, meaning
    latent: Sequence[Named]
    pixel: Sequence[Named]
    number: str  # of a test image


def draw_page(about: About, drawn: Drawn, points: Points | None, sheet: Sheet) -> str:
    """The page that draws samples."""
    return render_page(
        "explore-draw.html.jinja", about=about, here="/", title="Draw", drawn=drawn, points=points, sheets=[sheet]
    )


def slide_page(about: About, slide: Slide | None, other: str, sheets: Sequence[Sheet]) -> str:
    """The page that slides from one image to another; `other` is the query of another pair."""
    return render_page(
        "explore-slide.html.jinja", about=about, here="/slide", title="Slide", slide=slide, other=other, sheets=sheets
    )


def look_page(about: About, look: Look | None, sheets: Sequence[Sheet]) -> str:
    """The page that looks at one image."""
    return render_page(
        "explore-image.html.jinja", about=about, here="/image", title="Own image", look=look, sheets=sheets
    )


def error_page(about: About, message: str) -> str:
    """A page with one sentence."""
    return render_page(
        "explore-error.html.jinja", about=about, here="", title="Not possible", message=message, sheets=()
    )
