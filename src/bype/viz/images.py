"""Grids, pairs and galleries of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bype.core.files import write
from bype.core.numbers import readable

SMALL = 96  # smaller images are enlarged by an integer factor, by repeating pixels
GAP = 2  # pixels between images
#: The smallest size of a caption in points, and the width of a printed page's text in inches.
CAPTION, PAGE_WIDTH = 6, 6.5


def legible_size(width: int) -> int:
    """The height in pixels of captions that have at least 6 points where a picture fills the width of a page."""
    return max(11, int(np.ceil(CAPTION / 72 * width / PAGE_WIDTH)))


def shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text on one line, its start cut where it is wider than `width`."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while len(text) > 1 and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text


def to_uint8(images: Tensor) -> np.ndarray:
    """Converts images (n, c, h, w) in [0, 1] to RGB bytes (n, h, w, 3).

    Of three or more channels the first three are used, otherwise the first one as grey.
    """
    x = images.detach().float().clamp(0, 1).cpu()
    x = x[:, :3] if x.shape[1] >= 3 else x[:, :1].expand(-1, 3, -1, -1)
    return (x.permute(0, 2, 3, 1) * 255).round().byte().numpy()


def grid(images: Tensor, columns: int | None = None, *, background: int = 255) -> Image.Image:
    """Arranges images (n, c, h, w) in a grid with `columns` columns, by default about square; enlarges small ones."""
    tiles = to_uint8(images)
    n, h, w, _ = tiles.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    factor = max(1, SMALL // max(h, w))
    tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    h, w = h * factor, w * factor
    canvas = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP, 3), background, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = GAP + (i // columns) * (h + GAP), GAP + (i % columns) * (w + GAP)
        canvas[top : top + h, left : left + w] = tile
    return Image.fromarray(canvas)


def pairs(above: Tensor, below: Tensor, columns: int = 8) -> Image.Image:
    """Arranges two sets of images, (n, c, h, w) each, in a grid, each image of `below` under that of `above`."""
    blank = above.new_ones(1, *above.shape[1:])
    rows = []
    for start in range(0, len(above), columns):
        for part in (above[start : start + columns], below[start : start + columns]):
            rows.append(torch.cat([part, blank.expand(columns - len(part), -1, -1, -1)]))
    return grid(torch.cat(rows), columns)


def gallery(points: Tensor, weights: Tensor | None, title: str, names: Sequence[str] = ()) -> Image.Image:
    """Arranges the points of a prior in a titled grid, with their mixing weights in percent, largest first.

    Args:
        points: The points, (n, c, h, w).
        weights: Their mixing weights, (n,), which sum to 1; None shows no weights and keeps the order.
        title: The title.
        names: What stands above each, such as its number and class.
    """
    order = torch.arange(len(points)) if weights is None else weights.cpu().argsort(descending=True, stable=True)
    columns = min(10 if len(points) <= 100 else 20, len(points))
    rows = -(-len(points) // columns)
    # Not drawn by matplotlib: hundreds of axes take half a minute.
    tiles = to_uint8(points)
    h, w = tiles.shape[1:3]
    factor = max(1, -(-64 // max(h, w)))
    tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    h, w = h * factor, w * factor
    width = columns * (w + GAP) + GAP
    size = legible_size(width)
    line, top = size + 4, 2 * size
    label = line * ((weights is not None) + bool(names))
    font, heading = ImageFont.load_default(size), ImageFont.load_default(size + 2)
    width = max(width, int(heading.getlength(title)) + 2 * GAP)
    canvas = Image.new("RGB", (width, top + rows * (h + label + GAP) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((width / 2, top / 2), title, fill="black", font=heading, anchor="mm")
    for i, m in enumerate(order.tolist()):
        left, upper = GAP + (i % columns) * (w + GAP), top + GAP + (i // columns) * (h + label + GAP)
        canvas.paste(Image.fromarray(tiles[m]), (left, upper + label))
        texts = [shortened(names[m], w, font)] if names else []
        if weights is not None:
            texts.append(f"{readable(100 * weights[m].item())} %")
        for j, text in enumerate(texts):
            draw.text((left + w / 2, upper + (j + 0.5) * line), text, fill="black", font=font, anchor="mm")
    return canvas


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a picture as a PNG file, atomically."""
    write(path, lambda p: picture.save(p, format="PNG"))
