"""Pictures of latents: a map of classes, and nearest neighbours with captions."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bype.viz.axes import draw_classes, library_defaults
from bype.viz.charts import figure_image, subplots
from bype.viz.images import legible_size, to_uint8
from bype.viz.palette import FRAME

#: The axes of a map by t-SNE, whose values have no unit and no meaning of their own.
TSNE_NAMES = ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)")


class ClassMap(NamedTuple):
    """A map of latents."""

    points: Tensor  # (n, 2)
    labels: Sequence[str]  # the class of each, or none
    title: str


def class_map(points: Tensor, labels: Sequence[str], title: str) -> Image.Image:
    """A map of latents by t-SNE with a colour, a marker and a legend entry for each class.

    Args:
        points: The places, (n, 2).
        labels: The class of each, or none.
        title: The title.
    """
    return class_maps([ClassMap(points, labels, title)])


@library_defaults()
def class_maps(maps: Sequence[ClassMap]) -> Image.Image:
    """Maps, two in a row; of the same classes, each has the same colour and marker."""
    columns, (width, height) = min(2, len(maps)), (8.4, 6.6) if len(maps) == 1 else (4.8, 4.0)
    rows = -(-len(maps) // columns)
    figure, axes = subplots(rows, columns, (width * columns, height * rows))
    for axis in axes.flat[len(maps) :]:
        axis.remove()
    for axis, one in zip(axes.flat, maps, strict=False):
        draw_classes(axis, one.points, one.labels, one.title, TSNE_NAMES)
    return figure_image(figure)


class Row(NamedTuple):
    """A row of images under a heading."""

    heading: str
    images: Tensor  # (n, c, h, w)
    captions: Sequence[str]  # n, each of one or more lines


def captioned_rows(rows: Sequence[Row]) -> Image.Image:
    """Rows of images, each under a heading and with captions below its images."""
    h, w = rows[0].images.shape[2:]
    factor = max(1, -(-96 // max(h, w)))
    tile_h, tile_w, gap = h * factor, w * factor, 8
    points = legible_size(max(len(row.images) for row in rows) * (tile_w + gap) + gap)
    font, small = ImageFont.load_default(points + 3), ImageFont.load_default(points)
    head, line = 2 * points + 2, points + 3
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
            draw.rectangle((left - 1, top + head - 1, left + tile_w, top + head + tile_h), outline=FRAME)
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
