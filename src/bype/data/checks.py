"""Checks of arrays of images and labels: shape, dtype, range."""

import logging
import math

import numpy as np
from torch import Tensor

from bype.core.errors import InputError

log = logging.getLogger("bype")

CHUNK = 2**24  # bytes read at once, so that a mapped file is never loaded as a whole
BLOCK = 2**27  # bytes of a mapped file gathered at once, in the order of the file
MAX_LABEL = 2**16 - 1
LEAST_IMAGES = 10  # in a set to train on, of which a tenth is for validation and another for testing


def channel_first(
    pixels: np.ndarray,
    name: str,
    *,
    shape: tuple[int, int] | None = None,
    channels_last: bool = False,
    least: int = LEAST_IMAGES,
) -> np.ndarray:
    """A view (n, c, h, w) of an array of images, after a check of its dtype.

    Args:
        pixels: Shape (n, d), (n, h, w) or (n, c, h, w).
        name: The name of the set, for errors.
        shape: Height and width of the images in the rows of an array (n, d), with d = c h w; None makes each row an
            image of height 1.
        channels_last: The array is (n, h, w, c).
        least: The fewest images.

    Raises:
        InputError: If the shape or the dtype is another.
    """
    if pixels.dtype != np.uint8 and pixels.dtype.kind != "f":
        advice = "; for values from 0 to 255, use astype('uint8')" if pixels.dtype.kind in "iu" else ""
        raise InputError(f"{name}: expected uint8 or floats in [0, 1], got {pixels.dtype}{advice}")
    if pixels.ndim not in (2, 3, 4) or len(pixels) < least or 0 in pixels.shape:
        raise InputError(
            f"{name}: expected at least {least} images (n, d), (n, h, w) or (n, c, h, w), got {pixels.shape}"
        )
    if channels_last:
        if pixels.ndim != 4:
            raise InputError(f"{name}: expected images (n, h, w, c) with channels_last, got {pixels.shape}")
        pixels = pixels.transpose(0, 3, 1, 2)
    if shape is not None:
        pixels = _shaped(pixels, shape, name)
    if pixels.ndim == 2:
        _hint_at_shape(pixels.shape[1], name)
        return pixels[:, None, None, :]
    return pixels[:, None] if pixels.ndim == 3 else pixels


def _shaped(pixels: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    h, w = shape
    if pixels.ndim == 2 and pixels.shape[1] % (h * w) == 0:
        return pixels.reshape(len(pixels), -1, h, w)
    if pixels.ndim > 2 and pixels.shape[-2:] == shape:
        return pixels
    raise InputError(f"{name}: --shape {h}x{w}: expected rows of {h * w} values a channel, got {pixels.shape}")


def _hint_at_shape(d: int, name: str) -> None:
    for channels in (1, 3):
        side = math.isqrt(d // channels)
        if side >= 4 and channels * side**2 == d:
            log.warning(
                "%s: each row of %d values is read as an image of 1x%d; --shape %dx%d (from Python, shape='%dx%d') "
                "makes it %s", name, d, d, side, side, side, side, f"{channels}x{side}x{side}",
            )  # fmt: skip


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
            "%s: %s is read as (n, c, h, w), %d channels; if it is (n, h, w, c), pass channels_last=True to "
            "from_arrays, or store images.transpose(0, 3, 1, 2)", name, (n, c, h, w), c,
        )  # fmt: skip
    if pixels.dtype.kind != "f" and high <= 1 < levels - 1:
        log.warning(
            "%s: all values are 0 or 1 of %d levels, which is almost black; if 1 means white, pass floats, or multiply "
            "by 255", name, levels,
        )  # fmt: skip


def check_labels(labels: np.ndarray, n: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as int64, (n,), and the names of their classes, which are empty unless the labels are text.

    Args:
        labels: Shape (n,) or (n, 1): whole numbers from 0 to 65,535, also as floats, or text.
        n: The number of images.
        name: The name of the set, for errors.

    Raises:
        InputError: If the shape, the dtype or a value is another.
    """
    if labels.shape == (n, 1):
        labels = labels[:, 0]
    if labels.dtype.kind in "OST":
        labels = _plain(labels, name)
    if labels.shape != (n,) or labels.dtype.kind not in "iubfU":
        advice = "; of one-hot labels, pass labels.argmax(1)" if labels.ndim == 2 and labels.shape[0] == n else ""
        raise InputError(
            f"{name}: expected {n} labels, whole numbers or text, got {labels.dtype} {labels.shape}{advice}"
        )
    classes: tuple[str, ...] = ()
    if labels.dtype.kind == "U":
        names, labels = np.unique(labels, return_inverse=True)
        classes = tuple(names.tolist())
    if labels.dtype.kind == "f" and not (whole := np.isfinite(labels) & (labels == np.floor(labels))).all():
        row = int(whole.argmin())
        raise InputError(f"{name}: expected {n} labels, whole numbers or text, got {labels[row]} in row {row}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MAX_LABEL:
        raise InputError(f"{name}: expected labels from 0 to {MAX_LABEL}, got values from {low} to {high}")
    return labels.astype(np.int64), classes


def _plain(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels in an array of objects or bytes as an array of numbers or text; others unchanged."""
    values = labels.reshape(-1).tolist()
    try:
        values = [v.decode() if isinstance(v, bytes) else v for v in values]
    except UnicodeDecodeError as e:
        raise InputError(f"{name}: expected labels that are text in UTF-8, got {e.object!r}") from None
    for kind, dtype in ((str, np.str_), (int, np.int64), (int | float, np.float64)):
        if all(isinstance(v, kind) for v in values):
            try:
                return np.array(values, dtype).reshape(labels.shape)
            except OverflowError:
                break
    odd = next((v for v in values if not isinstance(v, str)), "numbers")
    raise InputError(
        f"{name}: expected labels that are all whole numbers or all text, got {str(odd)[:50]!r} among them"
    )


def as_float32(values: np.ndarray) -> np.ndarray:
    """Floats as float32; values too large for it become infinite."""
    with np.errstate(over="ignore"):  # values too large for float32 are out of range anyway
        return values.astype(np.float32)


def per_chunk(pixels: np.ndarray | Tensor) -> int:
    """The number of images to read at once."""
    return max(1, CHUNK // max(1, pixels[:1].nbytes))


def per_block(pixels: np.ndarray | Tensor) -> int:
    """The number of images of a mapped file to gather at once."""
    return max(1, BLOCK // max(1, pixels[:1].nbytes))
