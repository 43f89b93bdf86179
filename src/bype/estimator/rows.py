"""The rows of X: what a model takes, and back in the units of X."""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data
from torch import Tensor

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.data.frames import frame_columns
from bype.data.images import Dataset, Images
from bype.data.tables import TableSpec


def _pixel_type(X: object) -> type:
    return np.uint8 if getattr(X, "dtype", None) == np.uint8 else np.float64


def checked_columns(
    estimator: BaseEstimator, X: object, *, images: bool, mixed: bool, reset: bool = False
) -> list[np.ndarray]:
    """The columns of X after scikit-learn's checks of its shape and names.

    Args:
        estimator: The estimator, whose number and names of features X must have.
        X: Rows, (n, d): an array, or a pandas or polars data frame.
        images: Whether rows are images.
        mixed: Whether columns may be text.
        reset: Whether X sets the number and the names of the features.

    Raises:
        InputError: If there are too few rows, and of `ValueError` or `TypeError` as scikit-learn does.
    """
    least = 2 if reset else 1
    named = frame_columns(X, "X")
    if named is not None:
        frame = list(named.values())
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if len(frame[0]) < least:
            raise InputError(f"X: expected at least {least} rows, got {len(frame[0])}")
        if not images:
            return frame
        pixels = np.stack(frame, 1)
        return list(np.ascontiguousarray(check_array(pixels, dtype=_pixel_type(pixels)).T))
    if images:
        rows = validate_data(estimator, X, reset=reset, dtype=_pixel_type(X), ensure_min_samples=least)
        return list(np.ascontiguousarray(rows.T))
    options = {"dtype": None} if mixed else {"dtype": np.float64}
    rows = validate_data(estimator, X, reset=reset, ensure_min_samples=least, ensure_all_finite=False, **options)
    return list(rows.T)


def image_shape_of(given: Sequence[int], n_features: int) -> tuple[int, int, int]:
    """The shape (c, h, w) of an image.

    Args:
        given: (h, w) or (c, h, w).
        n_features: The number of pixels.

    Raises:
        InputError: If it is another one, or has another number of pixels.
    """
    sides = [whole("image_shape", side, 1) for side in given]
    shape = (1, *sides) if len(sides) == 2 else tuple(sides)
    if len(shape) != 3 or math.prod(shape) != n_features:
        raise InputError(f"image_shape: expected (h, w) or (c, h, w) of {n_features} features, got {given!r}")
    return shape[0], shape[1], shape[2]


def _images(stored: Tensor) -> Images:
    return Images(stored, levels=256 if stored.dtype == torch.uint8 else None)


class RowFormat(NamedTuple):
    """How a model takes the rows of X."""

    shape: tuple[int, int, int]  # of an item, (c, h, w)
    table: TableSpec | None  # None for images
    uint8: bool  # whether X has pixels of 0 to 255

    def dataset(self, columns: Sequence[np.ndarray], train: np.ndarray, validation: np.ndarray) -> Dataset:
        """A data set of some rows to train on and some to validate on.

        Raises:
            InputError: If a value does not fit.
        """
        stored = self._stored(columns)
        own, held = (_images(stored[torch.from_numpy(rows)]) for rows in (train, validation))
        return Dataset("X", own, held, held, table=self.table)

    def inputs(self, columns: Sequence[np.ndarray], like: Tensor) -> Tensor:
        """All rows, (n, c, h, w), in the dtype and on the device of `like`; of a table possibly outside [0, 1].

        Raises:
            InputError: If a value does not fit.
        """
        if self.table is not None:  # in full: training items are float32
            return torch.from_numpy(self.table.encode(columns)).view(-1, *self.shape).to(like)
        return _images(self._stored(columns)).scaled().to(like)

    def units(self, images: Tensor) -> np.ndarray:
        """Items (n, c, h, w) in the units of X, (n, d)."""
        rows = images.detach().double().flatten(1).cpu().numpy()
        if self.table is None:
            return cast(np.ndarray, rows * 256 - 0.5 if self.uint8 else rows)
        columns = self.table.decode(rows)
        if all(c.dtype.kind in "fiub" for c in columns):
            return np.stack([c.astype(np.float64) for c in columns], 1)
        return np.stack([c.astype(object) for c in columns], 1)

    def _stored(self, columns: Sequence[np.ndarray]) -> Tensor:
        """The rows as they are stored: float32 with values in [0, 1], or uint8."""
        if self.table is not None:
            return torch.from_numpy(self.table.encode(columns)).float().view(-1, *self.shape)
        pixels = np.stack(columns, 1)
        if pixels.dtype != np.uint8:
            if not (pixels.min() >= 0 and pixels.max() <= 1):
                raise InputError(
                    f"X: expected pixels in [0, 1] or uint8, got from {pixels.min():g} to {pixels.max():g}"
                )
            pixels = pixels.astype(np.float32)
        return torch.from_numpy(pixels).view(-1, *self.shape)
