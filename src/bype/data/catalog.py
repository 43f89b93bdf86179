"""Data sets by name or path: the published sets, and the user's own files."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bype.core.config import TABLES, parse_size
from bype.core.errors import InputError, first_line
from bype.core.files import expand_path
from bype.core.torch_state import fixed_torch_state
from bype.data import published
from bype.data.arrays import load_npy, load_npz, npz_names
from bype.data.checks import LEAST_IMAGES
from bype.data.image_files import load_image_file, load_image_files
from bype.data.images import Dataset, scale
from bype.data.table_files import load_table
from bype.data.tables import TableSpec


@dataclass(frozen=True)
class PublishedSet:
    """A published set: its reader, a summary, and its files."""

    load: Callable[..., Dataset]
    summary: str
    files: tuple[str, ...] = ()  # one of these identifies the folder; none if the set is part of an installed package
    shape: tuple[int, int, int] = (1, 28, 28)  # of an image
    levels: int = 256


_IDX = published.idx_names("train-images-idx3-ubyte")
PUBLISHED = {
    "digits": PublishedSet(
        published.digits, "1,797 digits of 8x8, 17 levels, included in scikit-learn", (), (1, 8, 8), 17
    ),
    "mnist": PublishedSet(published.idx_set("mnist"), "70,000 digits of 28x28", _IDX),
    "fashion-mnist": PublishedSet(published.idx_set("fashion-mnist"), "70,000 clothes of 28x28", _IDX),
    "cifar10": PublishedSet(
        published.cifar10,
        "60,000 photographs of 3x32x32",
        (published.CIFAR10_FOLDER, published.CIFAR10_ARCHIVE),
        (3, 32, 32),
    ),
    "celeba": PublishedSet(
        published.celeba, "aligned faces, 3x64x64; must be supplied by you", published.CELEBA_FILES, (3, 64, 64)
    ),
}

#: The kinds of data sets that an option of `load` applies to, and what an error says of them.
APPLIES_TO = {
    "resize": ("images",),
    "skip_bad": ("images", "celeba"),
    "images_key": (".npz",),
    "labels_key": (".npz", *TABLES),
    "shape": (".npy", ".npz"),
}
PURPOSE = {
    "resize": "a folder or zip of images to resize",
    "skip_bad": "a folder or zip of images",
    "images_key": "a .npz",
    "labels_key": "a .npz or a table",
    "shape": "a .npy or .npz with one row for each image",
}


def roots(data_dir: str | Path | None = None) -> list[Path]:
    """The folders searched for data sets, in order: `data_dir`, $BYPE_DATA, ~/.cache/bype."""
    named = [data_dir, os.environ.get("BYPE_DATA")]
    return [expand_path(p) for p in named if p] + [expand_path("~/.cache/bype")]


def find(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The first folder that contains the set, or None: ROOT/NAME, or where torchvision puts it below ROOT."""
    for root in roots(data_dir):
        for folder in _places(name, root):
            if any(next(folder.glob(f), None) for f in PUBLISHED[name].files):
                return folder
    return None


def _places(name: str, root: Path) -> list[Path]:
    places = [root / name]
    if name in published.TORCHVISION:
        own = published.TORCHVISION[name]
        places += [root / name / "raw", root / own / "raw", root / name / own / "raw"]
    return [*places, root] if name == "cifar10" else places


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
    wide = data.levels is None and bool(data.files)
    size = None if resize is None else parse_size(resize)
    values = load_image_file(expand_path(path), data.shape, size, fit=fit, wide=wide)
    return scale(torch.from_numpy(values.copy()), None if wide else 256).to(data.train.pixels.device)


def applicable(name: str, reading: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options of `load` that apply to a data set, such as another one than they were given for."""
    kind, keys = _kind(name), ("images_key", "labels_key")
    options = {option: value for option, value in reading.items() if kind in APPLIES_TO[option]}
    if kind in TABLES:
        return options
    if any(options.get(key) for key in keys):
        names = npz_names(expand_path(name))
        return {option: value for option, value in options.items() if option not in keys or not value or value in names}
    return options


@fixed_torch_state()
def load(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    resize: int | str | Sequence[int] | None = None,
    skip_bad: bool = False,
    images_key: str | None = None,
    labels_key: str | None = None,
    shape: int | str | Sequence[int] | None = None,
    least: int = LEAST_IMAGES,
    table: TableSpec | None = None,
) -> Dataset:
    """Reads a published set by its name, or the user's own by its path.

    Args:
        name: `digits`, `mnist`, `fashion-mnist`, `cifar10` or `celeba`; or a `.npy`, a `.npz`, a table (`.csv`,
            `.parquet`), or a folder or `.zip` of images.
        data_dir: The folder searched first for a published set.
        resize: The size to resize the images of a folder or zip to: pixels of a side, `HxW`, or (h, w).
        skip_bad: Leave out the bad files of a folder or zip, instead of raising an error that names them.
        images_key: The name of the array of images in a `.npz`, where it is not unambiguous.
        labels_key: The name of its array of labels, or of the column of a table; "" reads no labels.
        shape: The size of the images in the rows of an array (n, d): `HxW` or (h, w), where d = c h w.
        least: The fewest images of a set of the user's own; with less than ten, all are in the training split.
        table: The columns by which the rows of a table are stored, such as `model.input_spec.table` of a model that is
            to take them; by default they are found in the file.

    Raises:
        InputError: If the name is unknown, the set is not found, one of its files is damaged, or an option does not
            apply to it.

    >>> load("digits").shape
    (1, 8, 8)
    """
    text = str(name)
    given = {"resize": resize, "skip_bad": skip_bad, "images_key": images_key, "labels_key": labels_key, "shape": shape}
    reading = {option: value for option, value in given.items() if value not in (None, False)}
    kind = _kind(text)
    for option in reading:
        if kind not in APPLIES_TO[option]:
            flag = f"--{option.replace('_', '-')}"
            raise InputError(f"{flag}: expected {PURPOSE[option]}, got {text}")
    if table is not None and kind not in TABLES:
        raise InputError(f"{text}: expected a table (.csv or .parquet), got another set")
    known = PUBLISHED.get(text)
    if known is None:
        return _load_own(text, reading, least, table)
    if not known.files:
        return known.load(None)
    folder = find(text, data_dir)
    if folder is None:
        raise InputError(_not_found(text, data_dir))
    return known.load(folder, skip_bad=skip_bad) if skip_bad else known.load(folder)


def _kind(name: str) -> str:
    """The kind of data set that a name or path means: a published set's name, `images`, a suffix, or "" if unknown."""
    if name in PUBLISHED:
        return name
    return "images" if is_image_collection(name) else expand_path(name).suffix.lower()


def _not_found(name: str, data_dir: str | Path | None) -> str:
    places = ", ".join(str(r / name) for r in roots(data_dir))
    advice = f"`bype data fetch {name}` {'downloads it' if name != 'celeba' else 'explains how to get it'}"
    for root in roots(data_dir) if name == "cifar10" else ():
        for folder in (root / name, root):
            for packed in published.CIFAR10_PICKLED:
                if (folder / packed).exists():
                    return f"data set {name}: {_PICKLED.format(folder / packed)}"
    return f"data set {name}: {PUBLISHED[name].files[0]} not found in any of {places}; {advice}"


#: The Python version of CIFAR-10.
_PICKLED = (
    "expected the binary version, got {}, the Python version, whose pickle files can run code and are never read; "
    "`bype data fetch cifar10` downloads the binary version"
)


def _load_own(name: str, reading: Mapping[str, Any], least: int, table: TableSpec | None) -> Dataset:
    if not name.strip():
        raise InputError(f"data set: expected a name or a path, got {name!r}")
    path = expand_path(name)
    suffix = path.suffix.lower()
    try:
        there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as e:  # the name is too long or contains a zero byte
        raise InputError(f"data set: expected a name or a path, got {name[:100]!r} ({first_line(e)[:100]})") from None
    sizes = {option: parse_size(reading[option], f"--{option}") for option in ("resize", "shape") if option in reading}
    if there:
        _refuse_published_files(path, name)
    if is_folder or (there and suffix == ".zip"):
        return load_image_files(path, name, sizes.get("resize"), skip_bad=reading.get("skip_bad", False), least=least)
    if there and suffix == ".npy":
        return load_npy(path, name, shape=sizes.get("shape"), least=least)
    if there and suffix == ".npz":
        return load_npz(
            path,
            name,
            images_key=reading.get("images_key"),
            labels_key=reading.get("labels_key"),
            shape=sizes.get("shape"),
            least=least,
        )
    if there and suffix in TABLES:
        return load_table(path, name, labels_key=reading.get("labels_key"), least=least, table=table)
    if there:
        raise InputError(
            f"{name}: expected a .npy, a .npz, a .csv or .parquet, or a folder or .zip of images, got another file"
        )
    if path.is_symlink():
        raise InputError(f"{name}: broken symbolic link")
    if suffix in (".npy", ".npz", ".zip", *TABLES) or "/" in name or "\\" in name:
        raise InputError(f"{name}: no such file or folder")
    raise InputError(f"data set: expected one of {', '.join(PUBLISHED)}, or a path, got {name!r}")


def _refuse_published_files(path: Path, name: str) -> None:
    """Explains how to read a published set whose files or folder were given as a path."""
    if any(part in published.CIFAR10_PICKLED for part in (path.name, path.parent.name)):
        raise InputError(f"{name}: {_PICKLED.format(path.name)}")
    if not path.is_dir():
        if published.is_idx(path):
            raise InputError(
                f"{name}: expected a data set, got one IDX file of it; move the set's files to DIR/mnist or "
                "DIR/fashion-mnist, and pass mnist or fashion-mnist with --data-dir DIR"
            )
        return
    for folder in (path.absolute(), path.absolute() / "raw"):
        if published.idx_path(folder, "train-images-idx3-ubyte") is None:
            continue
        advice = "move the files to DIR/mnist or DIR/fashion-mnist, and pass mnist or fashion-mnist with --data-dir DIR"
        for set_ in published.TORCHVISION:
            for root in list(folder.parents)[:3]:
                if folder in _places(set_, root):
                    advice = f"pass {set_} with --data-dir {root}"
        raise InputError(f"{name}: expected a folder of images, got the IDX files of a published set; {advice}")
    for packed in published.CIFAR10_PICKLED:
        if (path / packed).exists():
            raise InputError(f"{name}: {_PICKLED.format(packed)}")
