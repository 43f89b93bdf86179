"""How objects are shown: one line of text, and a small table in a notebook."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from PIL import Image

#: Images of a strip, at most, and the size to which small ones are enlarged, in pixels.
SHOWN, SMALL = 10, 40


class Strip(NamedTuple):
    """A few images side by side: values in [0, 1], (n, c, h, w), and what they are."""

    images: np.ndarray
    caption: str


class Card(NamedTuple):
    """What an object says of itself.

    Args:
        title: What it is.
        facts: Names and values.
        strip: Some of its images.
    """

    title: str
    facts: Sequence[tuple[str, object]]
    strip: Strip | None = None


def as_text(card: Card) -> str:
    """A card on one line.

    >>> as_text(Card("Images", [("count", 3), ("shape", "1 x 8 x 8")]))
    'Images(count 3, shape 1 x 8 x 8)'
    """
    return f"{card.title}({', '.join(f'{name} {value}' for name, value in card.facts)})"


def as_html(card: Card) -> str:
    """A card as a table for a notebook, in its colours; every text is escaped."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in card.facts
    )
    picture = "" if card.strip is None or not len(card.strip.images) else _picture(card.strip)
    return f"<div><strong>{escape(card.title)}</strong><table><tbody>{rows}</tbody></table>{picture}</div>"


def unit_in_words(unit: str) -> str:
    """The unit of a run's losses, `nats` or `paper` in its record, as a figure names it."""
    return "nats" if unit == "nats" else "the paper's unit"


class Described:
    """Base of objects that are shown by a card: as their repr, and in notebooks."""

    def card(self) -> Card:
        """What the object says of itself."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(self.card())

    def _repr_html_(self) -> str:
        return as_html(self.card())


def _picture(strip: Strip) -> str:
    images = strip.images[:SHOWN]
    x = images[:, :3] if images.shape[1] >= 3 else np.repeat(images[:, :1], 3, 1)
    factor = max(1, SMALL // max(x.shape[2:]))
    tiles = (255 * x.clip(0, 1)).round().astype(np.uint8).transpose(0, 2, 3, 1).repeat(factor, 1).repeat(factor, 2)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=128)
    data = io.BytesIO()
    Image.fromarray(np.concatenate(tiles, 1)).save(data, format="PNG")
    uri = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    caption = escape(strip.caption)
    return f'<figure><img src="{uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
