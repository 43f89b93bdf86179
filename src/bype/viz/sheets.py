"""Sheets: many small images of one size in one picture, from which a page shows single tiles."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from bype.viz.images import to_uint8

COLUMNS = 40
LOSSLESS = 32 * 32  # values of an image up to which its tile is stored without loss


class Tile(NamedTuple):
    """The place of an image: the name of its sheet, its column and its row."""

    sheet: str
    x: int
    y: int


class Sheet:
    """A picture of many images (c, h, w), added one batch after another.

    Args:
        name: Its name, which also names its CSS class.
        shape: The shape (c, h, w) of an image.
    """

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        self.name, self.shape = name, shape
        self._tiles: list[np.ndarray] = []

    @property
    def columns(self) -> int:
        """The number of tiles in a row."""
        return COLUMNS

    @property
    def ratio(self) -> float:
        """Height over width of a tile."""
        return self.shape[1] / self.shape[2]

    def add(self, images: Tensor) -> list[Tile]:
        """Adds images (n, c, h, w) in [0, 1]; returns their tiles."""
        first = len(self._tiles)
        self._tiles.extend(to_uint8(images))
        return [Tile(self.name, i % COLUMNS, i // COLUMNS) for i in range(first, len(self._tiles))]

    def uri(self) -> str:
        """The sheet as a `data:` URI: PNG for small images, otherwise WebP with loss."""
        c, h, w = self.shape
        rows = max(1, -(-len(self._tiles) // COLUMNS))
        canvas = np.zeros((rows * h, COLUMNS * w, 3), np.uint8)
        for i, tile in enumerate(self._tiles):
            top, left = i // COLUMNS * h, i % COLUMNS * w
            canvas[top : top + h, left : left + w] = tile
        small, data = c * h * w <= LOSSLESS, io.BytesIO()
        picture = Image.fromarray(canvas) if c >= 3 else Image.fromarray(canvas[..., 0].copy())
        if small:
            picture.save(data, format="PNG", optimize=True)
        else:
            picture.save(data, format="WEBP", quality=80, method=4)
        kind = "png" if small else "webp"
        return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
