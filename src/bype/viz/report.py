"""One self-contained HTML page about trained models: arrays and metrics in, a page out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bype.viz.pages import page_file, render_page
from bype.viz.sheets import Sheet, Tile
from bype.viz.wording import Metric


class Picture(NamedTuple):
    """A chart: its SVG as a `data:` URI, and what it shows in words."""

    uri: str
    alt: str


class Point(NamedTuple):
    """A component of a prior: number, image, mixing weight, samples, and nearest training items with their names."""

    number: int
    tile: Tile
    weight: str
    samples: Sequence[Tile]
    nearest: Sequence[tuple[Tile, str]]


class Dot(NamedTuple):
    """An item on the latent map, at x and y in [0, 1]: its tile, the number of its class, and its name."""

    x: float
    y: float
    tile: Tile | None
    group: int
    name: str


class Ranked(NamedTuple):
    """A test item with its negative log-likelihood."""

    tile: Tile | None
    name: str
    value: str


@dataclass
class RunPart:
    """What a page shows of one model. Parts that are empty are left out; `notes` says why."""

    name: str
    summary: str
    settings: Sequence[tuple[str, str]]
    metrics: Sequence[tuple[str, Sequence[Metric]]] = ()  # for each split
    notes: list[str] = field(default_factory=list)
    reconstructions: Sequence[tuple[Tile, Tile]] = ()
    samples: Sequence[Tile] = ()
    points_title: str = ""
    points: Sequence[Point] = ()
    interpolations: Sequence[Sequence[Tile]] = ()
    dots: Sequence[Dot] = ()
    map_title: str = ""
    classes: Sequence[str] = ()
    usual: Sequence[Ranked] = ()
    unusual: Sequence[Ranked] = ()
    ranked_title: str = ""
    knn: Picture | None = None


@dataclass
class Table:
    """A table with a caption."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Report:
    """The content of a page: runs, charts of their training, a comparison, and the sheets that tiles are on."""

    title: str
    runs: Sequence[RunPart]
    curves: Sequence[Picture]
    sheets: Sequence[Sheet]
    comparison: Sequence[Table] = ()
    comparison_note: str = ""
    paper_unit: bool = False  # whether a curve is in the unit of `mse`


def render(report: Report) -> str:
    """The page as HTML. It requests nothing: styles, script and images are in it, and its policy forbids requests."""
    return render_page("page.html.jinja", script=page_file("page.js"), report=report)
