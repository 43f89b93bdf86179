"""Readers of .npy files, memory-mapped, and .npz files. Headers are parsed here, so that nothing is unpickled."""

import io
import logging
import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from bype.core.errors import InputError, first_line
from bype.data.archives import archive, check_bombs, check_room, member_name, opened
from bype.data.checks import LEAST_IMAGES
from bype.data.images import Dataset
from bype.data.rows import SPLIT_NAMES
from bype.data.splits import from_file_arrays, from_split_arrays

log = logging.getLogger("bype")

MAPPED_FROM = 2**30  # bytes; a .npy of at least this size stays memory-mapped instead of being loaded
HEADER = 10_000  # bytes; the maximum length of a .npy header, as in numpy
BLOCK = 2**22  # bytes read at once


def load_npy(path: Path, name: str, *, shape: tuple[int, int] | None = None, least: int = LEAST_IMAGES) -> Dataset:
    """A data set from a .npy of (n, d), (n, h, w) or (n, c, h, w), uint8 or floats in [0, 1].

    Args:
        path: The file.
        name: The name of the set.
        shape: Height and width of the images in the rows of an array (n, d).
        least: The fewest images.

    Raises:
        InputError: If the file is damaged, or the shape or dtype of its array is not supported.
    """
    with opened(path) as stream:
        stored, fortran, dtype = read_header(stream, str(path))
        offset = stream.tell()
        _check_kind(dtype, str(path))
        expected = offset + math.prod(stored) * dtype.itemsize
        if (size := path.stat().st_size) != expected:
            raise InputError(f"{path}: expected {expected} bytes for {dtype} {stored}, got {size}")
        if not 2 <= len(stored) <= 4 or 0 in stored:
            raise InputError(f"{path}: expected images (n, d), (n, h, w) or (n, c, h, w), got {stored}")
        # Read-only: a writable mapping counts as used memory, and fails if it is larger than the memory.
        array = np.memmap(stream, dtype, "r", offset, stored, "F" if fortran else "C")
    native = dtype.isnative and dtype.itemsize <= 8  # supported by torch without a conversion
    return from_file_arrays(array, None, name, mapped=native and size >= MAPPED_FROM, shape=shape, least=least)


def load_npz(
    path: Path,
    name: str,
    *,
    images_key: str | None = None,
    labels_key: str | None = None,
    shape: tuple[int, int] | None = None,
    least: int = LEAST_IMAGES,
) -> Dataset:
    """A data set from a .npz, whose arrays are found by their names.

    These are `images`, or another usual name, or the only array; and `labels` or another usual name. Splits are kept
    where arrays are named by them, such as `x_train` or `test_labels`.

    Args:
        path: The file.
        name: The name of the set.
        images_key: The name of the array of images.
        labels_key: The name of the array of labels; "" reads no labels.
        shape: Height and width of the images in the rows of an array (n, d).
        least: The fewest images.

    Raises:
        InputError: If the file is damaged, the arrays are not unambiguous, or the shape or dtype of one is not
            supported.
    """
    with opened(path) as stream, archive(stream, str(path)) as packed:
        members = _members(packed)
        for key, option in ((images_key, "--images-key"), (labels_key, "--labels-key")):
            if key and key not in members:
                raise InputError(f"{path}: {option}: expected one of {', '.join(members) or 'no array'}, got {key}")

        def read(member: str, *, is_label: bool = False) -> np.ndarray:
            check_bombs([members[member]], str(path))
            return _read_member(packed, members[member], f"{path}:{member}", kinds="iubfUS" if is_label else "f")

        splits = {} if images_key or "images" in members else _splits(list(members), str(path))
        if splits and not labels_key:
            found = {which: read(arrays[0]) for which, arrays in splits.items()}
            targets = {
                which: read(arrays[1], is_label=True)
                for which, arrays in splits.items()
                if arrays[1] and labels_key is None
            }
            return from_split_arrays(found, targets, name, shape=shape)
        chosen = images_key or _images_name(list(members), str(path), labels_key)
        label = _labels_name(list(members), chosen, str(path)) if labels_key is None else labels_key
        images = read(chosen)
        labels = read(label, is_label=True) if label else None
    return from_file_arrays(images, labels, name, shape=shape, least=least)


def npz_names(path: Path) -> list[str]:
    """The names of the arrays in a .npz."""
    with opened(path) as stream, archive(stream, str(path)) as packed:
        return list(_members(packed))


def _members(packed: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {member_name(info).removesuffix(".npy"): info for info in packed.infolist()}


#: Usual names of arrays, in lower case, alone and beside the name of a split.
_IMAGES = ("images", "imgs", "image", "img", "x", "data", "pixels")
_LABELS = ("labels", "label", "y", "targets", "target")
#: The way out where arrays cannot be told apart; commands on new items have no option for it.
REMEDY = "call them images and labels, or name them where the run is trained: --images-key NAME, --labels-key NAME"


def _splits(names: Sequence[str], where: str) -> dict[str, tuple[str, str]]:
    """The arrays of images and of labels ("" if there are none) of each split, from names such as `x_train`."""
    found: dict[tuple[str, bool], str] = {}
    for name in names:
        words = name.lower().split("_")
        for split, kind in (words, words[::-1]) if len(words) == 2 else ():
            if split in SPLIT_NAMES and kind in (*_IMAGES, *_LABELS):
                role = (SPLIT_NAMES[split], kind in _LABELS)
                if role in found:
                    raise InputError(
                        f"{where}: expected one array for each split, got {found[role]} and {name}; {REMEDY}"
                    )
                found[role] = name
    splits = {split: (name, found.get((split, True), "")) for (split, is_label), name in found.items() if not is_label}
    if "train" not in splits or (len(splits) == 1 and not splits["train"][1]):  # an array alone, whatever its name
        return {}
    return {split: splits[split] for split in ("train", "validation", "test") if split in splits}


def _images_name(names: Sequence[str], where: str, labels_key: str | None) -> str:
    """The name of the array of images: `images`, the only one with a usual name, or the only one beside labels."""
    if "images" in names:
        return "images"
    others = [name for name in names if name != labels_key]
    usual = [name for name in others if name.lower() in _IMAGES]
    rest = usual or [name for name in others if name.lower() not in _LABELS]
    if len(rest) != 1:
        raise InputError(
            f"{where}: expected an array 'images', or one array and optionally 'labels', got "
            f"{', '.join(names) or 'none'}" + (f"; {REMEDY}" if names else "")
        )
    return rest[0]


def _labels_name(names: Sequence[str], images: str, where: str) -> str:
    """The name of the array of labels: `labels`, or the only one with a usual name; "" if there is none."""
    if "labels" in names:
        return "labels"
    usual = [name for name in names if name.lower() in _LABELS and name != images]
    if images == "images" or len(usual) > 1:
        for name in usual:
            log.warning("%s: %s is not read; --labels-key %s reads it as labels", where, name, name)
        return ""
    return usual[0] if usual else ""


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
    expected = "uint8 or floats" if kinds == "f" else "whole numbers or text"
    if dtype.hasobject:
        raise InputError(f"{where}: expected {expected}, got Python objects, which are never unpickled")
    if dtype != np.uint8 and dtype.kind not in kinds:
        raise InputError(f"{where}: expected {expected}, got {dtype}")


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
                block = stream.read(min(BLOCK, size - done))
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
