"""Readers of .npy files, memory-mapped, and .npz files. Headers are parsed here, so that nothing is unpickled."""

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from bype.core.errors import InputError, first_line
from bype.data.archives import archive, check_bombs, check_room, opened
from bype.data.checks import LEAST_IMAGES
from bype.data.images import Dataset
from bype.data.splits import from_file_arrays

MAPPED_FROM = 2**30  # bytes; a .npy of at least this size stays memory-mapped instead of being loaded
HEADER = 10_000  # bytes; the maximum length of a .npy header, as in numpy


def load_npy(path: Path, name: str, least: int = LEAST_IMAGES) -> Dataset:
    """A data set from a .npy of (n, d), (n, h, w) or (n, c, h, w), uint8 or floats in [0, 1].

    Raises:
        InputError: If the file is damaged, or the shape or dtype of its array is not supported.
    """
    with opened(path) as stream:
        shape, fortran, dtype = read_header(stream, str(path))
        offset = stream.tell()
        _check_kind(dtype, str(path))
        expected = offset + math.prod(shape) * dtype.itemsize
        if (size := path.stat().st_size) != expected:
            raise InputError(f"{path}: expected {expected} bytes for {dtype} {shape}, got {size}")
        if not 2 <= len(shape) <= 4 or 0 in shape:
            raise InputError(f"{path}: expected images (n, d), (n, h, w) or (n, c, h, w), got {shape}")
        # Read-only: a writable mapping counts as used memory, and fails if it is larger than the memory.
        array = np.memmap(stream, dtype, "r", offset, shape, "F" if fortran else "C")
    native = dtype.isnative and dtype.itemsize <= 8  # supported by torch without a conversion
    return from_file_arrays(array, None, name, mapped=native and size >= MAPPED_FROM, least=least)


def load_npz(path: Path, name: str, least: int = LEAST_IMAGES) -> Dataset:
    """A data set from a .npz with `images`, or one array of another name, and optionally `labels`.

    Raises:
        InputError: If the file is damaged, or the shape or dtype of an array is not supported.
    """
    with opened(path) as stream, archive(stream, str(path)) as packed:
        members = {info.filename.removesuffix(".npy"): info for info in packed.infolist()}
        names = [m for m in members if m != "labels"]
        if "images" in members:
            names = ["images"]
        if len(names) != 1:
            raise InputError(
                f"{path}: expected an array 'images', or one array and optionally 'labels', got {', '.join(members) or 'none'}"
            )
        check_bombs([members[n] for n in names], str(path))
        images = _read_member(packed, members[names[0]], f"{path}:{names[0]}")
        labels = None
        if "labels" in members:
            check_bombs([members["labels"]], str(path))
            labels = _read_member(packed, members["labels"], f"{path}:labels", kinds="iub")
    return from_file_arrays(images, labels, name, least=least)


def read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the shape, whether the order is Fortran's, and the dtype of a .npy; leaves the stream at its first value.

    Raises:
        InputError: If it is not a .npy.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}")
        width = stream.read(2 if version == (1, 0) else 4)
        length = int.from_bytes(width, "little")
        if length > HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = io.BytesIO(width + stream.read(length))
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the parser about the header's Python literal
            shape, fortran, dtype = read(header, HEADER)
        if min(shape, default=0) < 0:
            raise ValueError(f"the shape {shape}")
    except Exception as e:  # parsing a damaged Python literal can raise any error
        raise InputError(f"{where}: expected a .npy array, got {first_line(e)}") from None
    return shape, fortran, dtype


def _check_kind(dtype: np.dtype, where: str, kinds: str = "f") -> None:
    """Accepts uint8 and numpy's `kinds` of dtypes; an object array is a pickle and is rejected."""
    if dtype.hasobject:
        raise InputError(f"{where}: expected uint8 or floats, got Python objects, which are never unpickled")
    if dtype != np.uint8 and dtype.kind not in kinds:
        raise InputError(f"{where}: expected {'uint8 or floats' if kinds == 'f' else 'integers'}, got {dtype}")


def _read_member(packed: zipfile.ZipFile, info: zipfile.ZipInfo, where: str, kinds: str = "f") -> np.ndarray:
    try:
        with packed.open(info) as stream:
            shape, fortran, dtype = read_header(stream, where)
            _check_kind(dtype, where, kinds)
            size, rest = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
            if size != rest:
                raise InputError(f"{where}: expected {size} bytes for {dtype} {shape}, got {rest}")
            check_room(size, where)
            values = np.empty(shape, dtype, "F" if fortran else "C")
            flat = values.reshape(-1, order="A").view(np.uint8)
            done = 0
            while done < size:
                block = stream.read(min(2**22, size - done))
                if not block:
                    raise EOFError(f"it ends after {done} bytes")
                flat[done : done + len(block)] = np.frombuffer(block, np.uint8)
                done += len(block)
            if stream.read(1):  # reading at the end makes zipfile verify the checksum
                raise EOFError("it is longer than declared")
    except InputError:
        raise
    except Exception as e:  # zipfile and its decompressors raise many kinds of error on damage
        raise InputError(f"{where}: expected {info.file_size} bytes, got a damaged file ({first_line(e)})") from None
    return values
