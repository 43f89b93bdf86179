"""Pictures of latents: a map of classes, and nearest neighbours with captions."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bype.viz.charts import figure_image, library_defaults, subplots
from bype.viz.images import to_uint8

#: The eight colours of Okabe and Ito, which the common kinds of colour blindness keep apart; yellow is darkened.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#B8A800")
MARKERS = ("o", "^", "s", "D", "v")
#: Classes with a colour and marker each; the others are drawn in grey.
MAX_CLASSES = len(COLOURS) * len(MARKERS)


@library_defaults()
def class_map(points: Tensor, labels: Sequence[str], title: str) -> Image.Image:
    """A scatter plot with a colour, a marker and a legend entry for each class.

    Args:
        points: The places, (n, 2).
        labels: The class of each, or none.
        title: The title.
    """
    figure, axes = subplots(1, 1, (8.4, 6.6))
    axis, x = axes[0, 0], points.numpy()
    names = sorted(set(labels), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    own = np.array(labels) if labels else np.full(len(x), "")
    size = 14 if len(x) > 1000 else 24
    styles = [(colour, marker) for marker, colour in product(MARKERS, COLOURS)]
    for name, (colour, marker) in zip(names, styles, strict=False):
        mask = own == name
        axis.scatter(*x[mask].T, s=size, c=colour, marker=marker, alpha=0.75, linewidths=0, label=name or "unlabelled")
    rest = ~np.isin(own, names[:MAX_CLASSES])
    if rest.any():
        label = f"{len(names) - MAX_CLASSES} more classes" if names else None
        axis.scatter(*x[rest].T, s=size, c="#999999", alpha=0.6, linewidths=0, label=label)
    for name in names[:MAX_CLASSES]:
        place = np.median(x[own == name], axis=0)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        axis.annotate(name[:20], place, fontsize=9, ha="center", va="center", weight="bold", bbox=box)
    if names:
        columns = 1 + (min(len(names), MAX_CLASSES) > 20)
        axis.legend(
            loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, markerscale=1.6, ncols=columns, title="class"
        )
    axis.set_title(title, fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
    return figure_image(figure)


class Row(NamedTuple):
    """A row of images under a heading."""

    heading: str
    images: Tensor  # (n, c, h, w)
    captions: Sequence[str]  # n, each of one or more lines


def captioned_rows(rows: Sequence[Row]) -> Image.Image:
    """Rows of images, each under a heading and with captions below its images."""
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    h, w = rows[0].images.shape[2:]
    factor = max(1, -(-96 // max(h, w)))
    tile_h, tile_w, gap, head, line = h * factor, w * factor, 8, 24, 14
    lines = max(text.count("\n") + 1 for row in rows for text in row.captions)
    height = head + tile_h + lines * line + gap
    columns = max(len(row.images) for row in rows)
    wide = max(int(font.getlength(row.heading)) for row in rows)
    width = max(columns * (tile_w + gap), wide) + gap
    canvas = Image.new("RGB", (width, height * len(rows) + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for number, row in enumerate(rows):
        top = number * height
        draw.text((gap, top + head / 2), row.heading, fill="black", font=font, anchor="lm")
        tiles = to_uint8(row.images).repeat(factor, 1).repeat(factor, 2)
        for i, (tile, caption) in enumerate(zip(tiles, row.captions, strict=True)):
            left = gap + i * (tile_w + gap)
            canvas.paste(Image.fromarray(tile), (left, top + head))
            draw.rectangle((left - 1, top + head - 1, left + tile_w, top + head + tile_h), outline="#BBBBBB")
            for j, text in enumerate(caption.split("\n")):
                place = (left + tile_w / 2, top + head + tile_h + (j + 0.5) * line)
                draw.text(place, _shortened(text, tile_w + gap, small), fill="black", font=small, anchor="mm")
    return canvas


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, its start cut where it is wider than the image."""
    if font.getlength(text) <= width:
        return text
    while len(text) > 1 and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text
