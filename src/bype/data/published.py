"""Readers of the published sets in their original formats: IDX files, CIFAR10's binary version, aligned faces."""

import gzip
import math
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bype.core.errors import InputError, first_line
from bype.data.archives import opened
from bype.data.image_files import decode
from bype.data.image_folders import BadFiles, image_files
from bype.data.images import Dataset, Images
from bype.data.splits import from_arrays, split

CIFAR10_FOLDER, CIFAR10_ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
CIFAR10_TRAINING, CIFAR10_TEST = [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin"
CELEBA_LOOSE = tuple(f"*.{suffix}" for suffix in ("jpg", "JPG", "jpeg", "JPEG", "png", "PNG", "webp"))
CELEBA_FILES = ("img_align_celeba.zip", "img_align_celeba", "*.zip", *CELEBA_LOOSE)
#: The Python version of CIFAR-10, whose files are pickles: unpacked, and as archive.
CIFAR10_PICKLED = ("cifar-10-batches-py", "cifar-10-python.tar.gz")
#: The folders of torchvision's classes, which hold the IDX files in `raw`.
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
IDX_MAGIC = b"\x00\x00\x08"  # of uint8
DAMAGE = (EOFError, zlib.error, OSError)  # errors of reading a damaged file


def digits(_: Path | None) -> Dataset:
    """The 1,797 digits of scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return from_arrays(bunch.images.astype(np.uint8), bunch.target, name="digits", levels=17)


def idx_set(name: str) -> Callable[[Path], Dataset]:
    """The reader of a set in the format of MNIST."""

    def load(folder: Path) -> Dataset:
        def part(stem: str, count: int) -> Images:
            pixels = read_idx(folder, f"{stem}-images-idx3-ubyte", (count, 28, 28))
            labels = read_idx(folder, f"{stem}-labels-idx1-ubyte", (count,))
            return Images(torch.from_numpy(pixels)[:, None], _labels(labels, folder, 10))

        return _hold_out(name, part("train", 60_000), part("t10k", 10_000))

    return load


def cifar10(folder: Path) -> Dataset:
    """CIFAR10's binary version, unpacked or as the archive."""
    rows = read_cifar(folder, [*CIFAR10_TRAINING, CIFAR10_TEST])

    def part(names: Sequence[str]) -> Images:
        joined = np.concatenate([rows[n] for n in names])
        pixels = torch.from_numpy(joined[:, 1:].reshape(-1, 3, 32, 32))
        return Images(pixels.contiguous(), _labels(joined[:, 0], folder, 10))

    return _hold_out("cifar10", part(CIFAR10_TRAINING), part([CIFAR10_TEST]))


def celeba(folder: Path, *, skip_bad: bool = False) -> Dataset:
    """Aligned faces at 64x64, from a folder or a zip, in a seeded 26:2:2 split."""
    bad = BadFiles(str(folder), skip=skip_bad)
    with image_files(celeba_files(folder), bad) as files:
        if len(files) < 15:
            raise InputError(f"{folder}: expected at least 15 faces, got {len(files)}")
        pixels = decode(files, str(folder), fit=aligned_face, colour=True, bad=bad)
    if len(pixels) < 15:
        raise InputError(f"{folder}: expected at least 15 faces, got {len(pixels)} and {len(bad)} bad files")
    kept = [file for file in files if file not in bad]
    return split(pixels, None, "celeba", 256, part=15, files=kept, skipped=len(bad))


def celeba_files(folder: Path) -> Path:
    """The folder or zip in ROOT/celeba that contains the faces."""
    named = [folder / name for name in CELEBA_FILES[:2] if (folder / name).exists()]
    loose = any(next(folder.glob(pattern), None) for pattern in CELEBA_LOOSE)
    return named[0] if named else folder if loose else next(iter(sorted(folder.glob("*.zip"))), folder)


def aligned_face(image: Image.Image, where: str) -> Image.Image:
    """The central 140x140 of an aligned face, 178x218, resized to 64x64; a face of 64x64 is returned unchanged."""
    if image.size == (64, 64):
        return image
    if image.size != (178, 218):
        raise InputError(f"{where}: expected an aligned face of 178x218 or 64x64, got {image.width}x{image.height}")
    return image.crop((19, 39, 159, 179)).resize((64, 64), Image.Resampling.BILINEAR)


def _hold_out(name: str, training: Images, test: Images) -> Dataset:
    """Holds out the last 10,000 training examples for validation."""
    cut = len(training) - 10_000
    assert training.labels is not None
    parts = [Images(training.pixels[s], training.labels[s], 256) for s in (slice(cut), slice(cut, None))]
    return Dataset(name, parts[0], parts[1], test)


def _labels(labels: np.ndarray, where: Path, classes: int) -> Tensor:
    if labels.max() >= classes:
        raise InputError(f"{where}: expected labels below {classes}, got {labels.max()}")
    return torch.from_numpy(labels.astype(np.int64))


def _read_exactly(stream: IO[bytes], size: int, where: str) -> bytes:
    """The stream's content, which must be `size` bytes; reads at most one byte more."""
    try:
        content = stream.read(size)
        rest = stream.read(1)
    except DAMAGE as e:
        raise InputError(f"{where}: expected {size} bytes, got a damaged file ({first_line(e)})") from None
    if len(content) != size or rest:
        raise InputError(f"{where}: expected {size} bytes, got {'more' if rest else len(content)}")
    return content


def idx_names(stem: str) -> tuple[str, ...]:
    """The names under which an IDX file is distributed: gzipped or not, with a hyphen or a dot before `idx`."""
    dotted = stem.replace("-idx", ".idx")
    return (f"{stem}.gz", stem, f"{dotted}.gz", dotted)


def idx_path(folder: Path, stem: str) -> Path | None:
    """The IDX file of this name in a folder, or in a folder of the file's own name; None if there is none."""
    for name in idx_names(stem):
        for path in (folder / name, folder / name / name):
            if path.exists() and not path.is_dir():
                return path
    return None


def is_idx(path: Path) -> bool:
    """Whether a file is an IDX file of uint8, gzipped or not, by its name and its first bytes."""
    if "idx" not in path.name or not path.is_file():
        return False
    with opened(path) as stream:
        head = stream.read(4)
    return head[:3] == IDX_MAGIC or path.suffix == ".gz"


def read_idx(folder: Path, stem: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of an IDX file of uint8, gzipped or not, which must have the given shape.

    Raises:
        InputError: If the file is missing or damaged, or has another shape.
    """
    header = IDX_MAGIC + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    size = len(header) + math.prod(shape)
    path = idx_path(folder, stem)
    if path is None:
        raise InputError(f"{folder}: neither {stem}.gz nor {stem} found")
    with opened(path) as stream:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                content = _read_exactly(unpacked, size, str(path))  # type: ignore[arg-type]
        else:
            content = _read_exactly(stream, size, str(path))
    if content[: len(header)] != header:
        raise InputError(
            f"{path}: expected an IDX file of uint8 {shape}, got the header {content[: len(header)].hex()}"
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()


def read_cifar(folder: Path, names: Sequence[str], count: int = 10_000) -> dict[str, np.ndarray]:
    """The files of CIFAR10's binary version by name, each of `count` rows of 3073 bytes, unpacked or from the archive.

    Raises:
        InputError: If a file is missing or damaged.
    """
    size, archive = count * 3073, folder / CIFAR10_ARCHIVE
    contents = {}
    for name in names:
        if (unpacked := folder / CIFAR10_FOLDER / name).exists():
            with opened(unpacked) as stream:
                contents[name] = _read_exactly(stream, size, str(unpacked))
    if missing := [n for n in names if n not in contents]:
        if not archive.exists():
            raise InputError(f"{folder}: neither {CIFAR10_FOLDER}/{missing[0]} nor {CIFAR10_ARCHIVE} found")
        contents |= _read_archive(archive, missing, size)
    return {n: np.frombuffer(contents[n], np.uint8).reshape(count, 3073) for n in names}


def _read_archive(archive: Path, names: Sequence[str], size: int) -> dict[str, bytes]:
    """Members of the archive, read in one pass, since seeking in a compressed archive is slow."""
    wanted, contents = {f"{CIFAR10_FOLDER}/{n}": n for n in names}, {}
    try:
        with opened(archive) as stream, gzip.GzipFile(fileobj=stream) as unpacked:
            bounded = _Bounded(unpacked, str(archive))  # type: ignore[arg-type]
            with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]
                for member in tar:
                    if member.name in wanted and member.isfile():
                        where = f"{archive}:{member.name}"
                        if member.size != size:
                            raise InputError(f"{where}: expected {size} bytes, got {member.size}")
                        content = tar.extractfile(member)
                        assert content is not None  # it is a file
                        contents[wanted[member.name]] = _read_exactly(content, size, where)
    except (*DAMAGE, tarfile.TarError, ValueError, KeyError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(f"{archive}: expected a .tar.gz, got a damaged file ({first_line(e)})") from None
    if missing := [n for n in names if n not in contents]:
        raise InputError(f"{archive}: the member {CIFAR10_FOLDER}/{missing[0]} is missing")
    return contents


class _Bounded:
    """A stream that raises beyond the size of CIFAR10, so that a compression bomb is not unpacked."""

    block, end = 2**25, 2**28

    def __init__(self, stream: IO[bytes], where: str) -> None:
        self.stream, self.where = stream, where

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.block:
            raise InputError(f"{self.where}: expected parts of at most {self.block} bytes, got {size}")
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        if position > self.end:
            raise InputError(f"{self.where}: expected at most {self.end} bytes unpacked, got {position}")
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()
