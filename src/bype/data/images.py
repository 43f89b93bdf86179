"""Images in memory (or in a mapped file), the three parts of a set, and how the user's own are split."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bype.errors import InputError

SPLIT_SEED = 0  # of the 80/10/10 split, whatever seed a run has: all runs see the same test items

CHUNK = 2**24  # bytes looked at at once, so that a mapped file is never in memory whole
MAX_LABEL = 2**16 - 1

log = logging.getLogger("bype")


@dataclass(frozen=True)
class Images:
    """The images of one split, on one device, and their labels if there are any.

    Args:
        pixels: Shape (n, c, h, w), uint8 or a floating dtype.
        labels: Shape (n,), int64, or None.
        levels: The number of values a stored pixel can take; None for floats.
        rows: Which rows of `pixels` the images are, (n,), where `pixels` is a mapped file that several splits share;
            None: all of them.
        origin: Which row of the array that was split each image is, (n,), or None where nothing was shuffled.
    """

    pixels: Tensor
    labels: Tensor | None = None
    levels: int | None = 256
    rows: Tensor | None = None
    origin: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels if self.rows is None else self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (c, h, w) of one image."""
        c, h, w = self.pixels.shape[1:]
        return c, h, w

    def stored(self, index: Tensor | slice | None = None) -> Tensor:
        """The stored values at `index` (all of them by default), shape (b, c, h, w)."""
        if self.rows is not None:
            return self.pixels[self.rows if index is None else self.rows[index]]
        return self.pixels if index is None else self.pixels[index]

    def scaled(self, index: Tensor | slice | None = None, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """The images at `index` (all of them by default) as pixels in [0, 1], shape (b, c, h, w), a copy."""
        stored = self.stored(index)
        is_view = self.rows is None and not isinstance(index, Tensor)
        return scale(stored.clone() if is_view and self.levels is None else stored, self.levels, dtype)

    def batches(self, size: int, *, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
        """The images in order, scaled, `size` at a time; the last batch may be shorter."""
        for start in range(0, len(self), size):
            yield self.scaled(slice(start, start + size), dtype=dtype)

    def to(self, device: torch.device | str) -> "Images":
        """The same images on another device, still in their stored dtype; a mapped file stays mapped on the CPU."""
        labels = None if self.labels is None else self.labels.to(device)
        if self.rows is not None and torch.device(device).type == "cpu":
            return replace(self, labels=labels)
        return replace(self, pixels=self.stored().to(device), labels=labels, rows=None)

    def first(self, n: int | None) -> "Images":
        """The first n images, or all of them."""
        return self[slice(n)]

    def every(self, step: int) -> "Images":
        """Each `step`-th image, from the first."""
        return self[slice(None, None, step)]

    def __getitem__(self, index: slice | Tensor) -> "Images":
        """Some of the images: by a slice, a tensor of rows, or a mask."""
        if not isinstance(index, slice | Tensor):
            raise TypeError(f"Expected a slice, rows or a mask, but got {index!r}; `scaled(index)` gives pixels.")
        labels = None if self.labels is None else self.labels[index]
        origin = None if self.origin is None else self.origin[index.cpu() if isinstance(index, Tensor) else index]
        if self.rows is not None:
            return replace(self, rows=self.rows[index], labels=labels, origin=origin)
        return replace(self, pixels=self.pixels[index], labels=labels, origin=origin)


def scale(pixels: Tensor, levels: int | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """(v + 1/2)/levels of stored values v; floats are only cast."""
    return pixels.to(dtype) if levels is None else pixels.to(dtype, copy=True).add_(0.5).div_(levels)


def joined(parts: Sequence[Images]) -> Images:
    """Several parts of one set as one."""
    first = parts[0]
    labels = [p.labels for p in parts if p.labels is not None]
    origin = [p.origin for p in parts if p.origin is not None]
    together: dict[str, Any] = {
        "labels": torch.cat(labels) if len(labels) == len(parts) else None,
        "origin": torch.cat(origin) if len(origin) == len(parts) else None,
    }
    if all(p.rows is not None and p.pixels is first.pixels for p in parts):
        return replace(first, rows=torch.cat([p.rows for p in parts if p.rows is not None]), **together)
    return replace(first, pixels=torch.cat([p.stored() for p in parts]), rows=None, **together)


@dataclass(frozen=True)
class Dataset:
    """A data set in three parts.

    Args:
        name: Its name, or its path.
        train: What is trained on.
        validation: What training is stopped by.
        test: What is scored.
        files: The file of each image, by its row in `origin`, where the set was read from files.
        classes: The name of each label, where class folders have named them.
    """

    name: str
    train: Images
    validation: Images
    test: Images
    files: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (c, h, w) of one image."""
        return self.train.shape

    @property
    def levels(self) -> int | None:
        """The number of values a stored pixel can take; None for floats."""
        return self.train.levels

    @property
    def splits(self) -> dict[str, Images]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def part(self, name: str) -> Images:
        """One of the three parts, or `all` of them together.

        Raises:
            InputError: If there is none of that name.
        """
        if name == "all":
            return joined(list(self.splits.values()))
        if name not in self.splits:
            raise InputError(f"split: expected train, validation, test or all, got {name!r}")
        return self.splits[name]

    def source(self, split: str, item: int) -> str:
        """Where an item of a split came from: its file, or its row in the array that was split; else empty."""
        origin = self.part(split).origin
        if origin is None:
            return ""
        row = int(origin[item])
        return self.files[row] if self.files else str(row)

    def to(self, device: torch.device | str) -> "Dataset":
        """The same set on another device."""
        train, validation, test = (images.to(device) for images in self.splits.values())
        return replace(self, train=train, validation=validation, test=test)

    def checksum(self) -> str:
        """SHA-256 over the stored values, shapes and labels of all three parts; floats count as float32."""
        total = hashlib.sha256()
        for images in self.splits.values():
            dtype = torch.float32 if images.pixels.is_floating_point() else images.pixels.dtype
            total.update(f"{dtype} {(len(images), *images.shape)}".encode())
            step = _per_chunk(images.pixels)
            for start in range(0, len(images), step):
                total.update(images.stored(slice(start, start + step)).to(dtype).cpu().contiguous().numpy().data)
            if images.labels is not None:
                total.update(f"{images.labels.dtype} {tuple(images.labels.shape)}".encode())
                total.update(images.labels.cpu().contiguous().numpy().data)
        return total.hexdigest()


def from_arrays(images: Any, labels: Any = None, *, name: str = "arrays", levels: int = 256) -> Dataset:
    """A data set from the user's own arrays or tensors, in a seeded 80/10/10 split.

    Args:
        images: Shape (n, d), (n, h, w) or (n, c, h, w); uint8, or floats in [0, 1].
        labels: Shape (n,), integers from 0 to 65,535, or None.
        name: What to call the set.
        levels: The number of values a uint8 pixel can take.

    Raises:
        InputError: If a shape or dtype does not fit, there are fewer than 10 images, or a float is not in [0, 1].
    """
    pixels = channel_first(_as_array(images, f"{name}: images"), name)
    _, high = check_values(pixels, name, levels)
    warn_of_likely_mistakes(pixels, high, levels, name)
    targets = None if labels is None else check_labels(_as_array(labels, f"{name}: labels"), len(pixels), name)
    return split(pixels, targets, name, levels)


def _as_array(values: Any, where: str) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError, OverflowError) as e:  # ragged lists, dtypes that numpy lacks
        raise InputError(f"{where}: expected an array, got {type(values).__name__} ({e})") from None


def channel_first(pixels: np.ndarray, name: str, least: int = 10) -> np.ndarray:
    """An array (n, d), (n, h, w) or (n, c, h, w) as (n, c, h, w), its dtype checked; nothing is copied."""
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
    """The least and the greatest stored value, after checking that floats are in [0, 1] and others below `levels`."""
    low, high = np.inf, -np.inf
    step = _per_chunk(pixels)
    for start in range(0, len(pixels), step):
        part = _float32(pixels[start : start + step]) if pixels.dtype.kind == "f" else pixels[start : start + step]
        least, greatest = float(part.min()), float(part.max())  # NaN if there is one
        if pixels.dtype.kind == "f" and not (least >= 0 and greatest <= 1):
            first = int((~((part >= 0) & (part <= 1))).reshape(len(part), -1).any(1).argmax())
            raise InputError(
                f"{name}: expected floats in [0, 1], got values from {least:g} to {greatest:g}, image "
                f"{start + first} first"
            )
        if pixels.dtype.kind != "f" and greatest >= levels:
            raise InputError(f"{name}: expected values below levels={levels}, got {int(greatest)}")
        low, high = min(low, least), max(high, greatest)
    return low, high


def warn_of_likely_mistakes(pixels: np.ndarray, high: float, levels: int, name: str) -> None:
    """Says where an array is well-formed, and is hardly what its owner means."""
    n, c, h, w = pixels.shape
    if w in (1, 3, 4) and min(c, h) > 4:
        log.warning(
            "%s: %s is read as (n, c, h, w), %d channels; if it is (n, h, w, c), give it as "
            "images.transpose(0, 3, 1, 2)", name, (n, c, h, w), c,
        )  # fmt: skip
    if pixels.dtype.kind != "f" and high <= 1 < levels - 1:
        log.warning(
            "%s: values 0 and 1 of %d levels are all but black; if 1 is white, give the array as floats, or 255 times "
            "itself", name, levels,
        )  # fmt: skip


def check_labels(labels: np.ndarray, n: int, name: str) -> np.ndarray:
    """Labels as int64, (n,), checked to be whole numbers from 0 to 65,535."""
    if labels.shape != (n,) or labels.dtype.kind not in "iub":
        raise InputError(f"{name}: expected {n} integer labels, got {labels.dtype} {labels.shape}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MAX_LABEL:
        raise InputError(f"{name}: expected labels from 0 to {MAX_LABEL}, got values from {low} to {high}")
    return labels.astype(np.int64)


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
    """A seeded split: one `part`-th of the images validates, another one tests.

    Args:
        pixels: Shape (n, c, h, w), uint8 or floats in [0, 1].
        labels: Shape (n,), int64, or None.
        name: What to call the set.
        levels: The number of values a uint8 pixel can take.
        part: 10 for 80/10/10, 15 for 26:2:2.
        mapped: Leave the pixels where they are, in a mapped file, instead of copying them into memory.
        files: The file of each image, if each has one.
        classes: The names of the labels, if they have any.
    """
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    held = len(pixels) // part
    bounds = {"train": (0, len(pixels) - 2 * held), "validation": (-2 * held, -held), "test": (-held, None)}
    shared = None
    if mapped:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot be written to, which nobody does
            shared = torch.from_numpy(pixels)

    def take(start: int, stop: int | None) -> Images:
        rows = order[start:stop]
        targets = None if labels is None else torch.from_numpy(labels[rows.numpy()])
        stored = None if pixels.dtype.kind == "f" else levels
        if shared is not None:
            return Images(shared, targets, stored, rows, origin=rows)
        taken = np.ascontiguousarray(pixels[rows.numpy()])
        return Images(torch.from_numpy(_float32(taken) if stored is None else taken), targets, stored, origin=rows)

    parts = {which: take(*b) for which, b in bounds.items()}
    return Dataset(name, **parts, files=tuple(files), classes=tuple(classes))


def _float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large for float32 is out of range in any case
        return values.astype(np.float32)


def _per_chunk(pixels: np.ndarray | Tensor) -> int:
    """How many images make a chunk."""
    return max(1, CHUNK // max(1, pixels[0].nbytes))
