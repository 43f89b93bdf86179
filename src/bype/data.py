"""Data sets: where they lie, how they are read, and images kept small and scaled per batch.

Images are (n, c, h, w), uint8 or float32. A uint8 value v of L levels stands for the pixel (v + 1/2)/L; floats are
pixels in [0, 1] already. Nothing is fetched here, and nothing is unpickled.
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from bype.errors import InputError

SPLIT_SEED = 0  # of the 80/10/10 split, whatever seed a run has: all runs see the same test items


@dataclass(frozen=True)
class Images:
    """The images of one split, on one device, and their labels if there are any.

    Args:
        pixels: Shape (n, c, h, w), uint8 or a floating dtype.
        labels: Shape (n,), int64, or None.
        levels: The number of values a stored pixel can take; None for floats.
    """

    pixels: Tensor
    labels: Tensor | None = None
    levels: int | None = 256

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (c, h, w) of one image."""
        c, h, w = self.pixels.shape[1:]
        return c, h, w

    def scaled(self, index: Tensor | slice | None = None, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """The images at `index` (all of them by default) as pixels in [0, 1], shape (b, c, h, w)."""
        return scale(self.pixels if index is None else self.pixels[index], self.levels, dtype)

    def batches(self, size: int, *, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
        """The images in order, scaled, `size` at a time; the last batch may be shorter."""
        for start in range(0, len(self), size):
            yield self.scaled(slice(start, start + size), dtype=dtype)

    def to(self, device: torch.device | str) -> "Images":
        """The same images on another device, still in their stored dtype."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=labels)

    def first(self, n: int | None) -> "Images":
        """The first n images, or all of them."""
        return self[slice(n)]

    def every(self, step: int) -> "Images":
        """Each `step`-th image, from the first."""
        return self[slice(None, None, step)]

    def __getitem__(self, index: slice) -> "Images":
        return replace(self, pixels=self.pixels[index], labels=None if self.labels is None else self.labels[index])


def scale(pixels: Tensor, levels: int | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """(v + 1/2)/levels of stored values v; floats are only cast."""
    pixels = pixels.to(dtype)
    return pixels if levels is None else pixels.add_(0.5).div_(levels)


@dataclass(frozen=True)
class Dataset:
    """A data set in three parts."""

    name: str
    train: Images
    validation: Images
    test: Images

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

    def to(self, device: torch.device | str) -> "Dataset":
        """The same set on another device."""
        return Dataset(self.name, self.train.to(device), self.validation.to(device), self.test.to(device))

    def checksum(self) -> str:
        """SHA-256 over the stored values, shapes and labels of all three parts."""
        total = hashlib.sha256()
        for images in self.splits.values():
            for t in (images.pixels, images.labels):
                if t is not None:
                    total.update(f"{t.dtype} {tuple(t.shape)}".encode())
                    total.update(t.cpu().contiguous().numpy().data)
        return total.hexdigest()


def from_arrays(images: Any, labels: Any = None, *, name: str = "arrays", levels: int = 256) -> Dataset:
    """A data set from the user's own arrays, in a seeded 80/10/10 split.

    Args:
        images: Shape (n, d), (n, h, w) or (n, c, h, w); uint8, or floats in [0, 1].
        labels: Shape (n,), integers, or None.
        name: What to call the set.
        levels: The number of values a uint8 pixel can take.

    Raises:
        InputError: If a shape or dtype does not fit, there are fewer than 10 images, or a float is not in [0, 1].
    """
    pixels = torch.as_tensor(np.asarray(images))
    if pixels.dim() == 2:
        pixels = pixels[:, None, None, :]
    elif pixels.dim() == 3:
        pixels = pixels[:, None]
    if pixels.dim() != 4 or len(pixels) < 10 or 0 in pixels.shape:
        raise InputError(
            f"{name}: expected at least 10 images (n, d), (n, h, w) or (n, c, h, w), got {np.shape(images)}"
        )
    if pixels.is_floating_point():
        pixels = pixels.float()
        low, high = pixels.aminmax()
        if not (low >= 0 and high <= 1):  # a NaN fails this too
            raise InputError(f"{name}: expected floats in [0, 1], got values from {low.item():g} to {high.item():g}")
    elif pixels.dtype != torch.uint8:
        raise InputError(f"{name}: expected uint8 or floats in [0, 1], got {pixels.dtype}")
    elif int(pixels.amax()) >= levels:
        raise InputError(f"{name}: expected values below levels={levels}, got {int(pixels.amax())}")
    targets = None
    if labels is not None:
        targets = torch.as_tensor(np.asarray(labels))
        if targets.shape != (len(pixels),) or targets.is_floating_point():
            raise InputError(
                f"{name}: expected {len(pixels)} integer labels, got {targets.dtype} {tuple(targets.shape)}"
            )
        targets = targets.long()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    tenth = len(pixels) // 10
    bounds = {"train": (0, len(pixels) - 2 * tenth), "validation": (-2 * tenth, -tenth), "test": (-tenth, None)}

    def part(start: int, stop: int | None) -> Images:
        rows = order[start:stop]
        stored = None if pixels.is_floating_point() else levels
        return Images(pixels[rows].contiguous(), None if targets is None else targets[rows], stored)

    return Dataset(name, **{split: part(*b) for split, b in bounds.items()})


# The published sets


def _digits(_: Path | None) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return from_arrays(bunch.images.astype(np.uint8), bunch.target, name="digits", levels=17)


def _idx_set(name: str) -> Callable[[Path], Dataset]:
    def load(folder: Path) -> Dataset:
        def part(stem: str, count: int) -> Images:
            pixels = _read_idx(folder, f"{stem}-images-idx3-ubyte", (count, 28, 28))
            labels = _read_idx(folder, f"{stem}-labels-idx1-ubyte", (count,))
            return Images(torch.from_numpy(pixels)[:, None], _labels(labels, folder, 10))

        return _hold_out(name, part("train", 60_000), part("t10k", 10_000))

    return load


def _cifar10(folder: Path) -> Dataset:
    def part(names: Sequence[str]) -> Images:
        rows = np.concatenate([_read_cifar(folder, n) for n in names])
        pixels = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32))
        return Images(pixels.contiguous(), _labels(rows[:, 0], folder, 10))

    return _hold_out("cifar10", part([f"data_batch_{i}.bin" for i in range(1, 6)]), part(["test_batch.bin"]))


def _hold_out(name: str, training: Images, test: Images) -> Dataset:
    """The last 10,000 training items validate."""
    cut = len(training) - 10_000
    assert training.labels is not None
    parts = [Images(training.pixels[s], training.labels[s], 256) for s in (slice(cut), slice(cut, None))]
    return Dataset(name, parts[0], parts[1], test)


def _labels(labels: np.ndarray, where: Path, classes: int) -> Tensor:
    if labels.max() >= classes:
        raise InputError(f"{where}: expected labels below {classes}, got {labels.max()}")
    return torch.from_numpy(labels.astype(np.int64))


def _read_exactly(stream: IO[bytes] | gzip.GzipFile, size: int, where: str) -> bytes:
    """The stream's whole content, which must be `size` bytes; never reads more than one byte beyond."""
    try:
        content = stream.read(size)
        rest = stream.read(1)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as e:
        raise InputError(f"{where}: expected {size} bytes, got a damaged file ({e})") from None
    if len(content) != size or rest:
        raise InputError(f"{where}: expected {size} bytes, got {'more' if rest else len(content)}")
    return content


def _read_idx(folder: Path, stem: str, shape: tuple[int, ...]) -> np.ndarray:
    header = b"\x00\x00\x08" + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    size = len(header) + int(np.prod(shape))
    packed, plain = folder / f"{stem}.gz", folder / stem
    path = packed if packed.exists() else plain
    try:
        with gzip.open(path) if path == packed else path.open("rb") as stream:
            content = _read_exactly(stream, size, str(path))
    except FileNotFoundError:
        raise InputError(f"{folder}: expected the file {stem}.gz or {stem}, got neither") from None
    if content[: len(header)] != header:
        raise InputError(
            f"{path}: expected an IDX file of uint8 {shape}, got the header {content[: len(header)].hex()}"
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()


CIFAR10_FOLDER, CIFAR10_ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"


def _read_cifar(folder: Path, name: str) -> np.ndarray:
    size = 10_000 * 3073
    unpacked, archive = folder / CIFAR10_FOLDER / name, folder / CIFAR10_ARCHIVE
    if unpacked.exists():
        with unpacked.open("rb") as stream:
            content = _read_exactly(stream, size, str(unpacked))
    elif archive.exists():
        try:
            with tarfile.open(archive) as tar:
                member = tar.extractfile(f"{CIFAR10_FOLDER}/{name}")
                if member is None:
                    raise KeyError(name)
                content = _read_exactly(member, size, f"{archive}:{name}")
        except (KeyError, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
            raise InputError(f"{archive}: expected the member {CIFAR10_FOLDER}/{name}, got a file without it") from None
    else:
        raise InputError(f"{folder}: expected {CIFAR10_FOLDER}/{name} or {CIFAR10_ARCHIVE}, got neither")
    return np.frombuffer(content, np.uint8).reshape(10_000, 3073).copy()


@dataclass(frozen=True)
class Known:
    """A published set: how it is read from its folder, and what it is."""

    load: Callable[[Any], Dataset]
    summary: str
    files: tuple[str, ...] = ()  # one of these marks the folder; none: the set comes with an installed package


KNOWN = {
    "digits": Known(_digits, "1,797 digits of 8x8, 17 levels, comes with scikit-learn"),
    "mnist": Known(
        _idx_set("mnist"), "70,000 digits of 28x28", ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte")
    ),
    "fashion-mnist": Known(
        _idx_set("fashion-mnist"), "70,000 clothes of 28x28", ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte")
    ),
    "cifar10": Known(_cifar10, "60,000 photographs of 3x32x32", (CIFAR10_FOLDER, CIFAR10_ARCHIVE)),
}


def roots(data_dir: str | Path | None = None) -> list[Path]:
    """Where sets are looked for, in order: `data_dir`, $BYPE_DATA, ~/.cache/bype."""
    named = [data_dir, os.environ.get("BYPE_DATA")]
    return [Path(p).expanduser() for p in named if p] + [Path("~/.cache/bype").expanduser()]


def find(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The first folder ROOT/NAME that holds the set, or None."""
    for root in roots(data_dir):
        if any((root / name / f).exists() for f in KNOWN[name].files):
            return root / name
    return None


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Reads a published set by its name.

    Args:
        name: `digits`, `mnist`, `fashion-mnist` or `cifar10`.
        data_dir: Where to look first, for a folder of the set's name.

    Raises:
        InputError: If the name is not known, the set is not found, or a file of it is damaged.

    >>> load("digits").shape
    (1, 8, 8)
    """
    known = KNOWN.get(name)
    if known is None:
        raise InputError(f"data set: expected one of {', '.join(KNOWN)}, got {name!r}")
    if not known.files:
        return known.load(None)
    folder = find(name, data_dir)
    if folder is None:
        places = ", ".join(str(r / name) for r in roots(data_dir))
        raise InputError(f"data set {name}: expected {known.files[0]} in one of {places}, got no such file")
    return known.load(folder)
