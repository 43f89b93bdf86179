"""Seeded splits of the user's own arrays."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.torch_state import fixed_torch_state
from bype.data.checks import (
    LEAST_IMAGES,
    as_float32,
    channel_first,
    check_labels,
    check_values,
    warn_of_likely_mistakes,
)
from bype.data.images import Dataset, Images

SPLIT_SEED = 0  # independent of the seed of a run, so that all runs have the same test set


@fixed_torch_state()
def from_arrays(images: object, labels: object = None, *, name: str = "arrays", levels: int = 256) -> Dataset:
    """A data set from the user's own arrays or tensors, in a seeded 80/10/10 split.

    Args:
        images: Shape (n, d), (n, h, w) or (n, c, h, w); uint8, or floats in [0, 1].
        labels: Shape (n,), integers from 0 to 65,535, or None.
        name: The name of the set.
        levels: The number of values a uint8 pixel can take.

    Raises:
        InputError: If a shape or dtype is not supported, there are fewer than 10 images, or a float is not in [0, 1].
    """
    pixels = channel_first(_as_array(images, f"{name}: images"), name)
    _, high = check_values(pixels, name, levels)
    warn_of_likely_mistakes(pixels, high, levels, name)
    targets = None if labels is None else check_labels(_as_array(labels, f"{name}: labels"), len(pixels), name)
    return split(pixels, targets, name, levels)


def _as_array(values: object, where: str) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError, OverflowError) as e:  # ragged lists, dtypes that numpy lacks
        raise InputError(f"{where}: expected an array, got {type(values).__name__} ({e})") from None


def split(
    pixels: np.ndarray,
    labels: np.ndarray | None,
    name: str,
    levels: int,
    *,
    part: int = 10,
    mapped: bool = False,
    files: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Dataset:
    """A seeded split: one `part`-th of the images for validation, another for testing; none of less than `part`.

    Args:
        pixels: Shape (n, c, h, w), uint8 or floats in [0, 1].
        labels: Shape (n,), int64, or None.
        name: The name of the set.
        levels: The number of values a uint8 pixel can take.
        part: 10 for 80/10/10, 15 for 26:2:2.
        mapped: Keep the pixels in their mapped file instead of copying them into memory.
        files: The file of each image, if the set was read from files.
        classes: The names of the labels, if they have any.
    """
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    n, held = len(pixels), len(pixels) // part
    bounds = {"train": (0, n - 2 * held), "validation": (n - 2 * held, n - held), "test": (n - held, n)}
    shared = None
    if mapped:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the array is read-only, and nothing writes to it
            shared = torch.from_numpy(pixels)

    def take(start: int, stop: int) -> Images:
        rows = order[start:stop]
        targets = None if labels is None else torch.from_numpy(labels[rows.numpy()])
        stored = None if pixels.dtype.kind == "f" else levels
        if shared is not None:
            return Images(shared, targets, stored, rows, origin=rows, checked=True)
        taken = np.ascontiguousarray(pixels[rows.numpy()])
        return Images(
            torch.from_numpy(as_float32(taken) if stored is None else taken), targets, stored, origin=rows, checked=True
        )

    parts = {which: take(*b) for which, b in bounds.items()}
    return Dataset(name, **parts, files=tuple(files), classes=tuple(classes))


def from_file_arrays(
    images: np.ndarray,
    labels: np.ndarray | None,
    name: str,
    *,
    mapped: bool = False,
    files: Sequence[str] = (),
    classes: Sequence[str] = (),
    least: int = LEAST_IMAGES,
) -> Dataset:
    """A data set from the arrays of a file, after checks; one with the same value in every pixel is rejected."""
    pixels = channel_first(images, name, least)
    targets = None if labels is None else check_labels(labels, len(pixels), name)
    low, high = check_values(pixels, name, 256)
    if low == high:
        raise InputError(f"{name}: expected images that differ, got the value {low:g} in every pixel")
    if not files:
        warn_of_likely_mistakes(pixels, high, 256, name)
    return split(pixels, targets, name, 256, mapped=mapped, files=files, classes=classes)
