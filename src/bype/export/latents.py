"""Latents of images as a .npz or .csv file, written a block at a time."""

import csv
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bype.core.files import write
from bype.data.images import Dataset, Images
from bype.data.items import Items, named_items
from bype.evaluation.latents import latent_batches
from bype.models.observing import BINARISED_AT_ONCE
from bype.models.vae import VAE

#: Images that are encoded and written at once.
BLOCK = BINARISED_AT_ONCE


@dataclass(frozen=True)
class Block:
    """Names and labels of consecutive images."""

    names: tuple[str, ...]
    labels: tuple[str, ...]  # "" if unknown; empty if all are


@dataclass(frozen=True)
class Source:
    """Images to embed: parts that are encoded one after the other, and their names and labels, block by block.

    Args:
        parts: The images.
        blocks: Iterates over names and labels, in blocks of `BLOCK`, the last of each part shorter.
    """

    parts: tuple[Images, ...]
    blocks: Callable[[], Iterator[Block]]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def source_of_items(items: Items) -> Source:
    """Items that were read from files."""

    def blocks() -> Iterator[Block]:
        for start in range(0, len(items), BLOCK):
            part = slice(start, start + BLOCK)
            yield Block(items.names[part], items.labels[part])

    return Source((items.images,), blocks)


def source_of_split(data: Dataset, name: str, split: str) -> Source:
    """A split of a data set, or `all` of them; names and labels are made when they are written.

    Raises:
        InputError: If there is no such split.
    """
    names = list(data.splits) if split == "all" else [split]

    def blocks() -> Iterator[Block]:
        for one in names:
            for start in range(0, len(data.part(one)), BLOCK):
                found = named_items(data, name, one, slice(start, start + BLOCK))
                yield Block(found.names, found.labels)

    return Source(tuple(data.part(one) for one in names), blocks)


def save_latents(
    path: Path, model: VAE, source: Source, *, seed: int = 0, on_block: Callable[[np.ndarray], None] | None = None
) -> None:
    """Writes the posterior means of images, with their names and labels.

    A .npz has the arrays `latents` (n, D) float32, `names` (n,) and, if any are known, `labels` (n,): integers, or the
    names of classes. A .csv has the columns `name`, `labels` (if any are known) and `z0`, `z1`, ... Both are written
    in blocks: memory does not grow with the number of images of a data set.

    Args:
        path: The file, .npz or .csv.
        model: The model.
        source: The images.
        seed: Seed of the binarisation, under a binary likelihood.
        on_block: Called with each block of latents, (B, D).

    Raises:
        InputError: If the file cannot be written.
    """

    def latents() -> Iterator[np.ndarray]:
        for part in source.parts:
            for means in latent_batches(model, part, BLOCK, seed):
                block = means.float().cpu().numpy()
                if on_block is not None:
                    on_block(block)
                yield block

    dim = model.encoder.latent_dim
    write(path, lambda temporary: _FORMATS[path.suffix](temporary, source, dim, latents()))


def _write_csv(path: Path, source: Source, dim: int, latents: Iterator[np.ndarray]) -> None:
    labelled = any(block.labels for block in source.blocks())
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow(["name", *(["labels"] if labelled else []), *(f"z{i}" for i in range(dim))])
        for block, means in zip(source.blocks(), latents, strict=True):
            labels = block.labels or ("",) * len(block.names)
            for name, label, row in zip(block.names, labels, means, strict=True):
                table.writerow([name, *([label] if labelled else []), *map(str, row)])


def _write_npz(path: Path, source: Source, dim: int, latents: Iterator[np.ndarray]) -> None:
    n = len(source)
    with zipfile.ZipFile(path, "w") as archive:
        _write_array(archive, "latents", np.dtype(np.float32), (n, dim), latents)
        width, label_width, integers, labelled = 1, 1, True, False
        for block in source.blocks():
            width = max(width, *map(len, block.names))
            if block.labels:
                labelled = True
                label_width = max(label_width, *map(len, block.labels))
                integers = integers and all(_is_integer(label) for label in set(block.labels))
        names = (np.array([_text(name) for name in block.names], f"<U{width}") for block in source.blocks())
        _write_array(archive, "names", np.dtype(f"<U{width}"), (n,), names)
        if labelled:
            dtype = np.dtype(np.int64 if integers and _all_labelled(source) else f"<U{label_width}")
            labels = (np.array(b.labels or ("",) * len(b.names)).astype(dtype) for b in source.blocks())
            _write_array(archive, "labels", dtype, (n,), labels)


_FORMATS = {".csv": _write_csv, ".npz": _write_npz}


def _all_labelled(source: Source) -> bool:
    return all(block.labels and all(block.labels) for block in source.blocks())


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 19


def _text(name: str) -> str:
    """A name without surrogates, which stand for bytes that are not UTF-8."""
    return name.encode("utf-8", "replace").decode()


def _write_array(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], blocks: Iterable[np.ndarray]
) -> None:
    """Writes an array of a .npz from its blocks of rows."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(f, header)
        for block in blocks:
            f.write(np.ascontiguousarray(block, dtype).tobytes())


class Chosen:
    """Collects chosen rows of the latents while they are written.

    Args:
        rows: The rows, ascending, (k,).
    """

    def __init__(self, rows: torch.Tensor) -> None:
        self._rows, self._seen = rows.numpy(), 0
        self._found: list[np.ndarray] = []

    def __call__(self, block: np.ndarray) -> None:
        """Takes the next block."""
        low, high = np.searchsorted(self._rows, (self._seen, self._seen + len(block)))
        self._found.append(block[self._rows[low:high] - self._seen])
        self._seen += len(block)

    @property
    def latents(self) -> torch.Tensor:
        """The chosen latents, (k, D)."""
        return torch.from_numpy(np.concatenate(self._found))

    def labels(self, source: Source) -> list[str]:
        """The labels of the chosen rows; empty if there are none."""
        found: list[str] = []
        first = 0
        for block in source.blocks():
            low, high = np.searchsorted(self._rows, (first, first + len(block.names)))
            labels = block.labels or ("",) * len(block.names)
            found += [labels[row - first] for row in self._rows[low:high].tolist()]
            first += len(block.names)
        return found if any(found) else []
