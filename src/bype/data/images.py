"""Images in memory (or in a mapped file), and the three splits of a data set."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bype.core.devices import check_device
from bype.core.display import SHOWN, Card, Described, Strip
from bype.core.errors import InputError
from bype.data.checks import per_block, per_chunk
from bype.data.tables import TableSpec


@dataclass(frozen=True, repr=False)
class Images(Described):
    """The images of one split, on one device, and their labels if there are any.

    Args:
        pixels: Shape (n, c, h, w), uint8 or a floating dtype.
        labels: Shape (n,), int64, or None.
        levels: The number of values a stored pixel can take, None for floats; by default 256 for uint8.
        rows: The images' rows of `pixels`, (n,), where `pixels` is a mapped file shared by several splits; None means
            all of them.
        origin: The images' rows of the array before it was split, (n,), or None if nothing was shuffled.
        checked: Whether the values are known to be valid, so that they are not read to check them.

    Raises:
        InputError: If the type, shape, dtype, levels or labels do not fit one another, a float is NaN or outside
            [0, 1], or a stored value is not below `levels`.
    """

    pixels: Tensor
    labels: Tensor | None = None
    levels: int | None = 0  # replaced at once: 256 for uint8, None for floats
    rows: Tensor | None = None
    origin: Tensor | None = None
    checked: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.checked:
            return
        _check_parts(self.pixels, self.labels, self.rows)
        floats = self.pixels.is_floating_point()
        if self.levels == 0:
            object.__setattr__(self, "levels", None if floats else 256)
        if floats and self.levels is not None:
            raise InputError(f"images: expected levels=None for floats, got {self.levels}")
        if not floats and self.levels is None:
            raise InputError("images: expected a number of levels for uint8, got None")
        if floats or self.levels != 256:
            step = per_chunk(self.pixels) if len(self) else 1
            for start in range(0, len(self), step):
                _check_range(self.stored(slice(start, start + step)), self.levels)
        object.__setattr__(self, "checked", True)

    def __len__(self) -> int:
        return len(self.pixels if self.rows is None else self.rows)

    def card(self) -> Card:
        """Their number, shape, kind of values and classes, and the first of them."""
        values = str(self.pixels.dtype).removeprefix("torch.")
        facts: list[tuple[str, object]] = [
            ("count", len(self)),
            ("shape", " x ".join(map(str, self.shape))),
            ("values", f"{values}, {self.levels} levels" if self.levels else values),
        ]
        if self.labels is not None:
            facts.append(("classes", len(self.labels.unique())))
        return Card("Images", facts, self._strip())

    def _strip(self) -> Strip | None:
        if self.shape[1] == 1:  # rows of a table
            return None
        return Strip(self.scaled(slice(0, SHOWN)).float().cpu().numpy(), "the first images")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (c, h, w) of one image."""
        c, h, w = self.pixels.shape[1:]
        return c, h, w

    def stored(self, index: Tensor | slice | None = None) -> Tensor:
        """The stored values at `index` (all of them by default), shape (b, c, h, w)."""
        if self.rows is not None:
            return _gathered(self.pixels, self.rows if index is None else self.rows[index])
        return self.pixels if index is None else self.pixels[index]

    def scaled(self, index: Tensor | slice | None = None, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """The images at `index` (all of them by default) as pixels in [0, 1], shape (b, c, h, w), a copy."""
        stored = self.stored(index)
        is_view = self.rows is None and not isinstance(index, Tensor)
        return scale(stored.clone() if is_view and self.levels is None else stored, self.levels, dtype)

    def batches(self, size: int, *, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
        """The images in order, scaled, `size` at a time; the last batch may be shorter."""
        block = size if self.rows is None else max(size, per_block(self.pixels) // size * size)
        for first in range(0, len(self), block):
            # A mapped file is read in large blocks, since its rows are shuffled.
            stored = self.stored(slice(first, first + block))
            part = replace(self, pixels=stored, labels=None, rows=None, origin=None)
            for start in range(0, len(stored), size):
                yield part.scaled(slice(start, start + size), dtype=dtype)

    def mean(self) -> Tensor:
        """The mean image, (c, h, w), in float64."""
        total = torch.zeros(self.shape, dtype=torch.float64, device=self.pixels.device)
        for x in self.batches(5000):
            total += x.double().sum(0)
        return total / len(self)

    def to(self, device: torch.device | str) -> "Images":
        """The same images on another device, still in their stored dtype; a mapped file stays mapped on the CPU.

        Raises:
            InputError: If there is no such device.
        """
        device = check_device(device)
        labels = None if self.labels is None else self.labels.to(device)
        if self.rows is not None and device.type == "cpu":
            return replace(self, labels=labels)
        return replace(self, pixels=self.stored().to(device), labels=labels, rows=None)

    def with_levels(self, levels: int | None) -> "Images":
        """The same stored values with the number of levels of a model's data; as they are if either has none.

        Raises:
            InputError: If a value does not fit.
        """
        return self if levels is None or self.levels in (None, levels) else replace(self, levels=levels, checked=False)

    def first(self, n: int | None) -> "Images":
        """The first n images, or all of them."""
        return self[slice(n)]

    def every(self, step: int) -> "Images":
        """Every `step`-th image, starting with the first."""
        return self[slice(None, None, step)]

    def __getitem__(self, index: slice | Tensor) -> "Images":
        """A subset of the images, by a slice, a tensor of rows, or a mask."""
        if not isinstance(index, slice | Tensor):
            raise TypeError(f"Expected a slice, rows or a mask, but got {index!r}; `scaled(index)` gives pixels.")
        labels = None if self.labels is None else self.labels[index]
        origin = None if self.origin is None else self.origin[index.cpu() if isinstance(index, Tensor) else index]
        if self.rows is not None:
            return replace(self, rows=self.rows[index], labels=labels, origin=origin)
        return replace(self, pixels=self.pixels[index], labels=labels, origin=origin)


def _gathered(pixels: Tensor, rows: Tensor) -> Tensor:
    """Rows of a mapped file, which are read in the order of the file."""
    ascending, places = rows.sort()
    if torch.equal(ascending, rows):
        return pixels[rows]
    gathered = pixels.new_empty(len(rows), *pixels.shape[1:])
    step = per_chunk(pixels)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        gathered[places[part]] = pixels[ascending[part]]
    return gathered


def _check_parts(pixels: Tensor, labels: Tensor | None, rows: Tensor | None) -> None:
    for name, value in (("pixels", pixels), ("labels", labels), ("rows", rows)):
        if not (isinstance(value, Tensor) or (value is None and name != "pixels")):
            kind = type(value)
            raise InputError(f"images: {name}: expected a tensor, got a {kind.__module__}.{kind.__qualname__}")
    if pixels.dim() != 4:
        raise InputError(f"images: expected images (n, c, h, w), got {tuple(pixels.shape)}")
    if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
        raise InputError(f"images: expected uint8 or a floating dtype, got {str(pixels.dtype).removeprefix('torch.')}")
    n = len(pixels if rows is None else rows)
    if labels is not None and labels.shape != (n,):
        raise InputError(f"images: expected {n} labels, got {', '.join(map(str, labels.shape)) or 'a scalar'}")
    if labels is not None and (labels.is_floating_point() or labels.is_complex()):
        raise InputError(f"images: expected integer labels, got {str(labels.dtype).removeprefix('torch.')}")


def _check_range(stored: Tensor, levels: int | None) -> None:
    low, high = (float(v) for v in stored.aminmax())
    if levels is None and not (low >= 0 and high <= 1):  # NaN is neither
        raise InputError(f"images: expected floats in [0, 1], got values from {low:g} to {high:g}")
    if levels is not None and high >= levels:
        raise InputError(f"images: expected values below levels={levels}, got {high:g}")


def scale(pixels: Tensor, levels: int | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """(v + 1/2)/levels of stored values v; floats are only cast."""
    return pixels.to(dtype) if levels is None else pixels.to(dtype, copy=True).add_(0.5).div_(levels)


def joined(parts: Sequence[Images]) -> Images:
    """Concatenates parts of one data set."""
    first = parts[0]
    labels = [p.labels for p in parts if p.labels is not None]
    origin = [p.origin for p in parts if p.origin is not None]
    together = replace(
        first,
        labels=torch.cat(labels) if len(labels) == len(parts) else None,
        origin=torch.cat(origin) if len(origin) == len(parts) else None,
    )
    if all(p.rows is not None and p.pixels is first.pixels for p in parts):
        return replace(together, rows=torch.cat([p.rows for p in parts if p.rows is not None]))
    return replace(together, pixels=torch.cat([p.stored() for p in parts]), rows=None)


class FreshReadings(Protocol):
    """Training items that are read again in each epoch, so that random transforms give others."""

    @property
    def knows_rows(self) -> bool:
        """Whether batches are read by the rows of their items; otherwise which items they hold is not known."""

    def steps(self, batch_size: int, /) -> int:
        """The number of batches of an epoch."""

    def epoch(self, batches: Sequence[Tensor], seed: int, /) -> Iterator[np.ndarray]:
        """The stored images of each batch of one epoch.

        Args:
            batches: The rows of each batch in the training set.
            seed: Seed of the transforms, from 0 to 2^31 - 1.
        """


@dataclass(frozen=True, repr=False)
class Dataset(Described):
    """A data set in three splits.

    Args:
        name: The name or path of the set.
        train: The training images.
        validation: The images for early stopping.
        test: The images for evaluation.
        files: The file of each image, indexed by `origin`, if the set was read from files.
        classes: The name of each label, if the labels have names: of class folders, or labels that were text.
        skipped: The number of bad files that were left out.
        table: The columns, if the set is a table, whose rows are stored as images (1, 1, D).
        fresh: Where the network steps read the training items again in each epoch (`from_torch`); None if they take
            `train`.
    """

    name: str
    train: Images
    validation: Images
    test: Images
    files: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    skipped: int = 0
    table: TableSpec | None = None
    fresh: FreshReadings | None = field(default=None, compare=False)

    def card(self) -> Card:
        """Name, sizes, shape and classes, and the first training images."""
        images = self.train.card()
        facts: list[tuple[str, object]] = [
            ("name", self.name), *((split, len(part)) for split, part in self.splits.items()), *images.facts[1:],
        ]  # fmt: skip
        if self.table is not None:
            facts.append(("columns", ", ".join(c.name for c in self.table.columns)))
        if self.skipped:
            facts.append(("bad files left out", self.skipped))
        return Card("Dataset", facts, images.strip)

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
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def part(self, name: str) -> Images:
        """One of the three splits, or `all` of them concatenated.

        Raises:
            InputError: If there is no split of that name.
        """
        if name == "all":
            return joined(list(self.splits.values()))
        if name not in self.splits:
            raise InputError(f"split: expected train, validation, test or all, got {name!r}")
        return self.splits[name]

    def source(self, split: str, item: int) -> str:
        """The origin of an example: its file, or its row in the array before the split; empty if unknown."""
        origin = self.part(split).origin
        if origin is None:
            return ""
        row = int(origin[item])
        return self.files[row] if self.files else str(row)

    def label_name(self, label: int) -> str:
        """The name of a label's class, or the label itself if the classes have no names."""
        return self.classes[label] if self.classes else str(label)

    def to(self, device: torch.device | str) -> "Dataset":
        """The same set on another device. Raises as `Images.to`."""
        train, validation, test = (images.to(device) for images in self.splits.values())
        return replace(self, train=train, validation=validation, test=test)

    def checksum(self) -> str:
        """SHA-256 over the stored values, shapes and labels of all three splits; floats are hashed as float32."""
        total = hashlib.sha256()
        for images in self.splits.values():
            dtype = torch.float32 if images.pixels.is_floating_point() else images.pixels.dtype
            total.update(f"{dtype} {(len(images), *images.shape)}".encode())
            step = per_chunk(images.pixels) if images.rows is None else per_block(images.pixels)
            for start in range(0, len(images), step):
                total.update(images.stored(slice(start, start + step)).to(dtype).cpu().contiguous().numpy().data)
            if images.labels is not None:
                total.update(f"{images.labels.dtype} {tuple(images.labels.shape)}".encode())
                total.update(images.labels.cpu().contiguous().numpy().data)
        return total.hexdigest()
