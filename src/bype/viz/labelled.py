"""Pictures of images in labelled rows and columns: reconstructions, interpolations, samples, neighbours."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bype.viz.images import legible_size, shortened, to_uint8
from bype.viz.palette import FRAME

#: Side of an image in a picture, at least; smaller ones are enlarged by an integer factor, by repeating pixels.
SIDE = 96
GAP = 8  # pixels between images


class Row(NamedTuple):
    """A row of images."""

    images: Tensor  # (n, c, h, w)
    heading: str = ""  # above the row
    captions: Sequence[str] = ()  # below the images, one each, of one or more lines
    left: str = ""  # beside the row
    right: str = ""


def labelled_rows(rows: Sequence[Row]) -> Image.Image:
    """Rows of images of one size with their headings, captions and labels beside them.

    Texts that are wider than an image, or beside a row than two images or a quarter of all, lose their start.
    """
    h, w = rows[0].images.shape[2:]
    factor = max(1, -(-SIDE // max(h, w)))
    tile_h, tile_w = h * factor, w * factor
    inner = max(len(row.images) for row in rows) * (tile_w + GAP)
    points = legible_size(inner + GAP)
    font, small = ImageFont.load_default(points + 3), ImageFont.load_default(points)
    head, line = 2 * points + 2, points + 3
    side = max(2 * tile_w, inner // 4)  # the letters of a wide picture are larger
    lefts = [shortened(row.left, side, small) for row in rows]
    rights = [shortened(row.right, side, small) for row in rows]
    left = _widest(lefts, small)
    width = max(
        left + inner + _widest(rights, small) + GAP, max(int(font.getlength(row.heading)) for row in rows) + 2 * GAP
    )
    heights = [
        (head if row.heading else 0) + tile_h + line * max((c.count("\n") + 1 for c in row.captions), default=0) + GAP
        for row in rows
    ]
    canvas = Image.new("RGB", (width, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    top = GAP
    for row, height, before, after in zip(rows, heights, lefts, rights, strict=True):
        under = top + (head if row.heading else 0)
        draw.text((GAP, top + head / 2), row.heading, fill="black", font=font, anchor="lm")
        draw.text((left, under + tile_h / 2), before, fill="black", font=small, anchor="rm")
        draw.text((left + inner + GAP, under + tile_h / 2), after, fill="black", font=small, anchor="lm")
        for i, tile in enumerate(_enlarged(row.images, factor)):
            x = left + GAP + i * (tile_w + GAP)
            canvas.paste(Image.fromarray(tile), (x, under))
            draw.rectangle((x - 1, under - 1, x + tile_w, under + tile_h), outline=FRAME)
            for j, text in enumerate(row.captions[i].split("\n") if row.captions else ()):
                place = (x + tile_w / 2, under + tile_h + (j + 0.5) * line)
                draw.text(place, shortened(text, tile_w + GAP, small), fill="black", font=small, anchor="mm")
        top += height
    return canvas


def reconstructions(above: Tensor, below: Tensor, names: Sequence[str], title: str, columns: int = 8) -> Image.Image:
    """Images, (n, c, h, w), each with its reconstruction and its name below."""
    rows = []
    for start in range(0, len(above), columns):
        part = slice(start, start + columns)
        rows.append(Row(above[part], "" if start else title, left="original"))
        rows.append(Row(below[part], captions=names[part], left="reconstruction"))
    return labelled_rows(rows)


def lines(path: Tensor, names: Sequence[Sequence[str]], title: str) -> Image.Image:
    """Images along lines, (n, steps, c, h, w): a row for each, from and to what `names` has, with the place below."""
    steps = path.shape[1]
    places = [f"{i / (steps - 1):.2g}" for i in range(steps)]
    places[0] = "t = 0"
    rows = [
        Row(images, "" if i else title, places if i == len(path) - 1 else (), f"from {start}", f"to {end}")
        for i, (images, (start, end)) in enumerate(zip(path, names, strict=True))
    ]
    return labelled_rows(rows)


def samples(
    images: Tensor, title: str, *, left: Sequence[str] = (), columns: int | None = None, captions: Sequence[str] = ()
) -> Image.Image:
    """Images, (n, c, h, w), in rows under a title; each row may have a label, and each image a caption."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    return labelled_rows(
        [
            Row(part, "" if i else title, captions[i * columns : (i + 1) * columns], left[i] if left else "")
            for i, part in enumerate(images.split(columns))
        ]
    )


def _enlarged(images: Tensor, factor: int) -> np.ndarray:
    return to_uint8(images).repeat(factor, 1).repeat(factor, 2)


def _widest(texts: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """The width of the widest text and a gap; 0 without texts."""
    width = max(font.getlength(text) for text in texts)
    return math.ceil(width) + GAP if width else 0
