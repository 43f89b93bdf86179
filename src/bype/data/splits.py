"""Seeded splits of the user's own arrays."""

import logging
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bype.core.config import parse_size
from bype.core.errors import InputError
from bype.core.torch_state import fixed_torch_state
from bype.data.arraylike import as_array
from bype.data.checks import (
    LEAST_IMAGES,
    as_float32,
    channel_first,
    check_labels,
    check_values,
    warn_of_likely_mistakes,
)
from bype.data.images import Dataset, Images
from bype.data.rows import SPLIT_SEED, SplitsLike, given_rows, random_rows

log = logging.getLogger("bype")


@fixed_torch_state()
def from_arrays(
    images: object,
    labels: object = None,
    *,
    name: str = "arrays",
    levels: int = 256,
    shape: int | str | Sequence[int] | None = None,
    channels_last: bool = False,
    stratify: bool = False,
    splits: SplitsLike | None = None,
) -> Dataset:
    """A data set from the user's own arrays, tensors or data frames, in a seeded 80/10/10 split or their own splits.

    Args:
        images: Shape (n, d), (n, h, w) or (n, c, h, w); uint8, or floats in [0, 1].
        labels: Shape (n,) or (n, 1): whole numbers from 0 to 65,535, or text, which names the classes; or None.
        name: The name of the set.
        levels: The number of values a uint8 pixel can take.
        shape: The size of the images in the rows of an array (n, d), `HxW` or (h, w), where d = c h w.
        channels_last: The images are (n, h, w, c).
        stratify: Whether each class has the same fractions of the splits, up to one image.
        splits: The rows of each split by its name, `{"train": ..., "validation": ..., "test": ...}`, as indices or
            masks; or the name of each row's split, (n,). A missing split is a seeded tenth of the training images.

    Raises:
        InputError: If a shape or dtype is not supported, there are fewer than 10 images, or a float is not in [0, 1];
            or if an array is masked or sparse.

    >>> from_arrays([[0.0, 0.5, 0.5, 1.0]] * 10, ["cat", "dog"] * 5, shape="2x2").classes
    ('cat', 'dog')
    """
    size = None if shape is None else parse_size(shape, "shape")
    values = as_array(images, f"{name}: images")
    pixels = channel_first(values, name, shape=size, channels_last=channels_last)
    _, high = check_values(pixels, name, levels)
    if not channels_last:
        warn_of_likely_mistakes(pixels, high, levels, name)
    targets: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    if labels is not None:
        targets, classes = check_labels(as_array(labels, f"{name}: labels"), len(pixels), name)
    if stratify and targets is None:
        raise InputError(f"{name}: expected labels to stratify by, got none")
    by = targets if stratify else None
    rows = random_rows(len(pixels), 10, by) if splits is None else given_rows(splits, len(pixels), name, by)
    return from_rows(pixels, targets, name, levels, rows, classes=classes)


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
    skipped: int = 0,
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
        skipped: The number of bad files that were left out.
    """
    rows = random_rows(len(pixels), part)
    return from_rows(pixels, labels, name, levels, rows, mapped=mapped, files=files, classes=classes, skipped=skipped)


def from_rows(
    pixels: np.ndarray,
    labels: np.ndarray | None,
    name: str,
    levels: int,
    rows: Mapping[str, Tensor],
    *,
    mapped: bool = False,
    files: Sequence[str] = (),
    classes: Sequence[str] = (),
    skipped: int = 0,
) -> Dataset:
    """A data set whose splits are these rows of an array; the other arguments are those of `split`."""
    shared = None
    if mapped:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the array is read-only, and nothing writes to it
            shared = torch.from_numpy(pixels)

    def take(own: Tensor) -> Images:
        targets = None if labels is None else torch.from_numpy(labels[own.numpy()])
        if shared is not None:
            return Images(shared, targets, None if pixels.dtype.kind == "f" else levels, own, origin=own, checked=True)
        return _images(pixels, own, targets, levels)

    parts = {which: take(own) for which, own in rows.items()}
    train, validation, test = (parts[which] for which in ("train", "validation", "test"))
    return Dataset(name, train, validation, test, files=tuple(files), classes=tuple(classes), skipped=skipped)


def training_rows(n: int) -> np.ndarray:
    """The rows of an 80/10/10 `split` of n that are for training."""
    return random_rows(n)["train"].numpy()


def _images(pixels: np.ndarray, rows: Tensor, labels: Tensor | None, levels: int) -> Images:
    """The images in these rows of an array, copied."""
    taken = np.ascontiguousarray(pixels[rows.numpy()])
    if pixels.dtype.kind == "f":
        return Images(torch.from_numpy(as_float32(taken)), labels, None, origin=rows, checked=True)
    return Images(torch.from_numpy(taken), labels, levels, origin=rows, checked=True)


def from_file_arrays(
    images: np.ndarray,
    labels: np.ndarray | None,
    name: str,
    *,
    mapped: bool = False,
    files: Sequence[str] = (),
    classes: Sequence[str] = (),
    skipped: int = 0,
    shape: tuple[int, int] | None = None,
    least: int = LEAST_IMAGES,
) -> Dataset:
    """A data set from the arrays of a file, after checks; one with the same value in every pixel is rejected."""
    pixels = channel_first(images, name, shape=shape, least=least)
    targets = None
    if labels is not None:
        targets, names = check_labels(labels, len(pixels), name)
        classes = classes or names
    low, high = check_values(pixels, name, 256)
    if least >= LEAST_IMAGES:  # single images may be blank, a set to train on is then a mistake
        _check_not_constant(low, high, name)
    if not files:
        warn_of_likely_mistakes(pixels, high, 256, name)
    return split(pixels, targets, name, 256, mapped=mapped, files=files, classes=classes, skipped=skipped)


def _check_not_constant(low: float, high: float, name: str) -> None:
    if low == high:
        raise InputError(f"{name}: expected images that differ, got the value {low:g} in every pixel")


def from_split_arrays(
    images: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    name: str,
    *,
    shape: tuple[int, int] | None = None,
) -> Dataset:
    """A data set in the splits of a file; each that is missing is a seeded tenth of the training images.

    Args:
        images: The images of `train` and at least one of `validation` and `test`. Arrays (n, h, w, c) of 1, 3 or 4
            channels are recognised by their shape.
        labels: The labels of the same splits, or of none.
        name: The name of the set.
        shape: Height and width of the images in the rows of an array (n, d).
    """
    parts: dict[str, np.ndarray] = {}
    low, high = np.inf, -np.inf
    for which, values in images.items():
        last = values.ndim == 4 and values.shape[-1] in (1, 3, 4) and values.shape[1] not in (1, 3, 4)
        parts[which] = channel_first(values, f"{name}: {which}", shape=shape, channels_last=last)
        least, greatest = check_values(parts[which], f"{name}: {which}", 256)
        low, high = min(low, least), max(high, greatest)
    _check_not_constant(low, high, name)
    first = parts["train"]
    for which, part in parts.items():
        if part.shape[1:] != first.shape[1:] or (part.dtype.kind == "f") != (first.dtype.kind == "f"):
            raise InputError(
                f"{name}: expected images of one shape and kind, got {first.dtype} {first.shape} in train and "
                f"{part.dtype} {part.shape} in {which}"
            )
    warn_of_likely_mistakes(first, high, 256, name)
    targets, classes = _split_labels(parts, labels, name)
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(SPLIT_SEED))
    held, stop = len(first) // 10, len(first)
    rows = {which: torch.arange(len(part)) for which, part in parts.items()}
    for which in ("test", "validation"):
        if which not in parts:
            rows[which] = order[stop - held : stop]
            stop -= held
    if stop < len(first):
        rows["train"] = order[:stop]

    def take(which: str) -> Images:
        source = which if which in parts else "train"
        chosen = None if source not in targets else torch.from_numpy(targets[source])[rows[which]]
        return _images(parts[source], rows[which], chosen, 256)

    return Dataset(name, take("train"), take("validation"), take("test"), classes=classes)


def _split_labels(
    parts: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], name: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The labels of each split as int64, and the names of the classes, which all splits share."""
    if not labels:
        return {}, ()
    if missing := [which for which in parts if which not in labels]:
        log.warning("%s: the labels are not read, since %s has none", name, missing[0])
        return {}, ()
    for which, part in parts.items():
        if labels[which].shape not in ((len(part),), (len(part), 1)):
            check_labels(labels[which], len(part), f"{name}: {which}")  # raises
    kinds = {labels[which].dtype.kind in "OSTU" for which in parts}
    if len(kinds) > 1:
        raise InputError(f"{name}: expected labels that are numbers or text in all splits, got both")
    sizes = np.cumsum([len(part) for part in parts.values()])
    together = np.concatenate([labels[which].reshape(-1) for which in parts])
    numbers, classes = check_labels(together, int(sizes[-1]), name)
    return dict(zip(parts, np.split(numbers, sizes[:-1]), strict=True)), classes
