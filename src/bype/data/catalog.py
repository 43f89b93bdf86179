"""Data sets by name or path: the published sets, and the user's own files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bype.core.config import parse_size
from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.torch_state import fixed_torch_state
from bype.data import published
from bype.data.arrays import load_npy, load_npz
from bype.data.checks import LEAST_IMAGES
from bype.data.image_files import load_image_file, load_image_files
from bype.data.images import Dataset, scale


@dataclass(frozen=True)
class PublishedSet:
    """A published set: its reader, a summary, and its files."""

    load: Callable[[Any], Dataset]
    summary: str
    files: tuple[str, ...] = ()  # one of these identifies the folder; none if the set is part of an installed package


_IDX = ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte")
PUBLISHED = {
    "digits": PublishedSet(published.digits, "1,797 digits of 8x8, 17 levels, included in scikit-learn"),
    "mnist": PublishedSet(published.idx_set("mnist"), "70,000 digits of 28x28", _IDX),
    "fashion-mnist": PublishedSet(published.idx_set("fashion-mnist"), "70,000 clothes of 28x28", _IDX),
    "cifar10": PublishedSet(
        published.cifar10,
        "60,000 photographs of 3x32x32",
        (published.CIFAR10_FOLDER, published.CIFAR10_ARCHIVE),
    ),
    "celeba": PublishedSet(published.celeba, "aligned faces, 3x64x64; must be supplied by you", published.CELEBA_FILES),
}


def roots(data_dir: str | Path | None = None) -> list[Path]:
    """The folders searched for data sets, in order: `data_dir`, $BYPE_DATA, ~/.cache/bype."""
    named = [data_dir, os.environ.get("BYPE_DATA")]
    return [expand_path(p) for p in named if p] + [expand_path("~/.cache/bype")]


def find(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The first folder ROOT/NAME that contains the set, or None."""
    for root in roots(data_dir):
        if any(next((root / name).glob(f), None) for f in PUBLISHED[name].files):
            return root / name
    return None


def is_image_collection(name: str) -> bool:
    """Whether `load` would read a folder or zip of images, to which `resize` applies."""
    if name in PUBLISHED:
        return False
    path = expand_path(name)
    try:
        return path.suffix.lower() == ".zip" or path.is_dir()
    except (OSError, ValueError):  # the name is too long or contains a zero byte
        return False


def read_like(path: str | Path, data: Dataset, *, resize: int | str | Sequence[int] | None = None) -> Tensor:
    """Reads an image file like the images of a data set: (c, h, w) in [0, 1], on the set's device.

    As for the set's own files, the image is rotated upright, transparency becomes white, and faces of `celeba` are
    cropped and scaled.

    Args:
        path: A PNG, JPEG, WebP or BMP file.
        data: The set.
        resize: The size that the set's images were resized to, if any.

    Raises:
        InputError: If it is not an image, or its size differs from the set's.
    """
    fit = published.aligned_face if data.name == "celeba" else None
    values = load_image_file(expand_path(path), data.shape, None if resize is None else parse_size(resize), fit=fit)
    return scale(torch.from_numpy(values.copy()), 256).to(data.train.pixels.device)


@fixed_torch_state()
def load(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    resize: int | str | Sequence[int] | None = None,
    least: int = LEAST_IMAGES,
) -> Dataset:
    """Reads a published set by its name, or the user's own by its path.

    Args:
        name: `digits`, `mnist`, `fashion-mnist`, `cifar10` or `celeba`; or a `.npy`, a `.npz`, or a folder or `.zip`
            of images.
        data_dir: The folder searched first for a published set.
        resize: The size to resize the images of a folder or zip to: pixels of a side, `HxW`, or (h, w).
        least: The fewest images of a set of the user's own; if there are less than ten, all are in the training split.

    Raises:
        InputError: If the name is unknown, the set is not found, or one of its files is damaged.

    >>> load("digits").shape
    (1, 8, 8)
    """
    text = str(name)
    if resize is not None and not is_image_collection(text):
        raise InputError(f"--resize: expected a folder or zip of images to resize, got {text}")
    known = PUBLISHED.get(text)
    if known is None:
        return _load_own(text, resize, least)
    if not known.files:
        return known.load(None)
    folder = find(text, data_dir)
    if folder is None:
        places = ", ".join(str(r / text) for r in roots(data_dir))
        raise InputError(
            f"data set {text}: {known.files[0]} not found in any of {places}; "
            f"`bype data fetch {text}` {'downloads it' if text != 'celeba' else 'explains how to get it'}"
        )
    return known.load(folder)


def _load_own(name: str, resize: int | str | Sequence[int] | None, least: int) -> Dataset:
    path = expand_path(name)
    suffix = path.suffix.lower()
    try:
        there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as e:  # the name is too long or contains a zero byte
        raise InputError(f"data set: expected a name or a path, got {name[:100]!r} ({e})") from None
    if is_folder or (there and suffix == ".zip"):
        return load_image_files(path, name, None if resize is None else parse_size(resize), least)
    if there and suffix in (".npy", ".npz"):
        return (load_npy if suffix == ".npy" else load_npz)(path, name, least)
    if there:
        raise InputError(f"{name}: expected a .npy, a .npz, or a folder or .zip of images, got another file")
    if path.is_symlink():
        raise InputError(f"{name}: broken symbolic link")
    if suffix in (".npy", ".npz", ".zip") or "/" in name or "\\" in name:
        raise InputError(f"{name}: no such file or folder")
    raise InputError(f"data set: expected one of {', '.join(PUBLISHED)}, or a path, got {name!r}")
