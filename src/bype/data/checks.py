"""Checks of arrays of images and labels: shape, dtype, range."""

import logging

import numpy as np
from torch import Tensor

from bype.core.errors import InputError

log = logging.getLogger("bype")

CHUNK = 2**24  # bytes read at once, so that a mapped file is never loaded as a whole
MAX_LABEL = 2**16 - 1
LEAST_IMAGES = 10  # in a set to train on, of which a tenth is for validation and another for testing


def channel_first(pixels: np.ndarray, name: str, least: int = LEAST_IMAGES) -> np.ndarray:
    """A view (n, c, h, w) of an array (n, d), (n, h, w) or (n, c, h, w), after a check of its dtype."""
    if pixels.dtype != np.uint8 and pixels.dtype.kind != "f":
        raise InputError(f"{name}: expected uint8 or floats in [0, 1], got {pixels.dtype}")
    if pixels.ndim not in (2, 3, 4) or len(pixels) < least or 0 in pixels.shape:
        raise InputError(
            f"{name}: expected at least {least} images (n, d), (n, h, w) or (n, c, h, w), got {pixels.shape}"
        )
    if pixels.ndim == 2:
        return pixels[:, None, None, :]
    return pixels[:, None] if pixels.ndim == 3 else pixels


def check_values(pixels: np.ndarray, name: str, levels: int) -> tuple[float, float]:
    """The smallest and the largest stored value; checks that floats are in [0, 1] and integers below `levels`."""
    low, high = np.inf, -np.inf
    step = per_chunk(pixels)
    for start in range(0, len(pixels), step):
        part = as_float32(pixels[start : start + step]) if pixels.dtype.kind == "f" else pixels[start : start + step]
        least, greatest = float(part.min()), float(part.max())  # NaN if there is one
        if pixels.dtype.kind == "f" and not (least >= 0 and greatest <= 1):
            first = int((~((part >= 0) & (part <= 1))).reshape(len(part), -1).any(1).argmax())
            raise InputError(
                f"{name}: expected floats in [0, 1], got values from {least:g} to {greatest:g}, first in image "
                f"{start + first}"
            )
        if pixels.dtype.kind != "f" and greatest >= levels:
            raise InputError(f"{name}: expected values below levels={levels}, got {int(greatest)}")
        low, high = min(low, least), max(high, greatest)
    return low, high


def warn_of_likely_mistakes(pixels: np.ndarray, high: float, levels: int, name: str) -> None:
    """Warns about valid arrays that are probably a mistake."""
    n, c, h, w = pixels.shape
    if w in (1, 3, 4) and min(c, h) > 4:
        log.warning(
            "%s: %s is read as (n, c, h, w), %d channels; if it is (n, h, w, c), pass "
            "images.transpose(0, 3, 1, 2)", name, (n, c, h, w), c,
        )  # fmt: skip
    if pixels.dtype.kind != "f" and high <= 1 < levels - 1:
        log.warning(
            "%s: all values are 0 or 1 of %d levels, which is almost black; if 1 means white, pass floats, or multiply "
            "by 255", name, levels,
        )  # fmt: skip


def check_labels(labels: np.ndarray, n: int, name: str) -> np.ndarray:
    """Labels as int64, (n,); checks that they are integers from 0 to 65,535."""
    if labels.shape != (n,) or labels.dtype.kind not in "iub":
        raise InputError(f"{name}: expected {n} integer labels, got {labels.dtype} {labels.shape}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MAX_LABEL:
        raise InputError(f"{name}: expected labels from 0 to {MAX_LABEL}, got values from {low} to {high}")
    return labels.astype(np.int64)


def as_float32(values: np.ndarray) -> np.ndarray:
    """Floats as float32; values too large for it become infinite."""
    with np.errstate(over="ignore"):  # values too large for float32 are out of range anyway
        return values.astype(np.float32)


def per_chunk(pixels: np.ndarray | Tensor) -> int:
    """The number of images to read at once."""
    return max(1, CHUNK // max(1, pixels[:1].nbytes))
