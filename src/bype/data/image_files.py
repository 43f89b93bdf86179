"""Decoding of a folder or a zip of image files; class subfolders are labels."""

import io
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from bype.core.errors import InputError
from bype.data.archives import check_room, opened
from bype.data.checks import LEAST_IMAGES
from bype.data.decoding import GREY, WIDE, Fit, Head, decode_one, fit_to, peek
from bype.data.image_folders import BadFiles, Read, class_labels, enumerated, image_files, why_too_large
from bype.data.images import Dataset
from bype.data.splits import from_file_arrays

log = logging.getLogger("bype")

T = TypeVar("T")


def load_image_files(
    path: Path,
    name: str,
    resize: tuple[int, int] | None = None,
    *,
    skip_bad: bool = False,
    least: int = LEAST_IMAGES,
) -> Dataset:
    """A data set from a folder or zip of images: grey if all images are, else colour; transparency becomes white.

    Grey images of 16 bits make the pixels of all images floats.

    Args:
        path: The folder or zip.
        name: The name of the set.
        resize: Height and width of the result; every image is cropped at the centre to this shape and scaled.
        skip_bad: Leave out the files that cannot be used instead of raising an error that names them.
        least: The fewest images.

    Raises:
        InputError: If files cannot be used, or sizes are mixed and `resize` is not given.
    """
    bad = BadFiles(str(path), skip=skip_bad)
    with image_files(path, bad) as files:
        number, classes = class_labels(list(files), bad)
        pixels = decode(files, str(path), resize, bad=bad)
    kept = [file for file in files if file not in bad]
    labels = np.array([number[file] for file in kept], np.int64) if classes else None
    return from_file_arrays(pixels, labels, name, files=kept, classes=classes, skipped=len(bad), least=least)


def decode(
    files: dict[str, Read],
    where: str,
    resize: tuple[int, int] | None = None,
    *,
    fit: Fit | None = None,
    colour: bool = False,
    bad: BadFiles | None = None,
) -> np.ndarray:
    """Decodes image files to (n, c, h, w): uint8, or float32 if one of them is grey with 16 bits.

    Args:
        files: The files.
        where: The folder or zip, for errors.
        resize: Height and width to resize every image to; None keeps the sizes, which must agree.
        fit: A function that resizes an image, instead of `resize`.
        colour: Three channels even if all images are grey, and uint8; the headers are not read beforehand.
        bad: The files that cannot be used: those that are in it are not decoded, and others are added.

    Raises:
        InputError: If files cannot be used and are not to be left out, or sizes are mixed.
    """
    bad = BadFiles(where) if bad is None else bad
    total = len(files) + sum(name not in files for name in bad.reasons)
    good = {name: read for name, read in files.items() if name not in bad}
    if fit is None and resize is not None:
        fit = fit_to(resize)
    heads: dict[str, Head] = {}
    if not colour:  # the headers are checked before anything is decoded
        heads = _kept(good, where, bad, peek)
        _warn_of_animations(heads, where)
        if fit is None:
            _check_heads(heads, good, where, bad)
    grey = not colour and all(head.mode in (*GREY, *WIDE) for head in heads.values())
    wide = any(head.mode in WIDE for head in heads.values())

    images: np.ndarray | None = None
    shapes: dict[str, tuple[int, int]] = {}  # (width, height) of each decoded image

    def store(read: Read, place: str) -> tuple[int, int]:
        nonlocal images
        values = decode_one(read, place, grey, fit, resize, wide=wide)
        if images is None:
            check_room(values.nbytes * len(good), where)
            images = np.empty((len(good), *values.shape), values.dtype)
        if values.shape == images.shape[1:]:  # others are an error below
            images[len(shapes)] = values
        return values.shape[2], values.shape[1]

    for name, read in good.items():
        if name not in bad:
            shapes |= _kept({name: read}, where, bad, store)
    bad.settle(total)
    _check_sizes(shapes, where)
    assert images is not None  # at least one file is good
    images = images[: len(shapes)]
    if not grey and not colour and all(heads[name].mode in (*GREY, *WIDE) for name in shapes):
        return images[:, :1]  # the colour images were bad
    return images


def _kept(files: dict[str, Read], where: str, bad: BadFiles, read_one: Callable[[Read, str], T]) -> dict[str, T]:
    """What `read_one` returns for each file; those for which it raises an InputError are added to `bad`."""
    results = {}
    for name, read in files.items():
        try:
            results[name] = read_one(read, f"{where}: {name}")
        except InputError as e:
            bad.add(name, e)
    return results


def _check_heads(heads: dict[str, Head], files: dict[str, Read], where: str, bad: BadFiles) -> None:
    """Rejects mixed sizes before most images are decoded; their sides may be swapped by the orientation.

    A file of another size may be a damaged one, which is added to `bad`.
    """
    decoded: set[str] = set()
    first = ""
    for name, head in heads.items():
        first = name if not first or first in bad else first
        if sorted(head.size) == sorted(heads[first].size):
            continue
        pair = {n: files[n] for n in (first, name) if n not in decoded}
        decoded |= _kept(pair, where, bad, lambda read, place: decode_one(read, place, False, None, None)).keys()
        if decoded >= {first, name}:
            _refuse_mixed(where, first, heads[first].size, name, head.size)


def _check_sizes(sizes: dict[str, tuple[int, int]], where: str) -> None:
    """Rejects mixed sizes (width, height)."""
    first = next(iter(sizes), "")
    for name, size in sizes.items():
        if size != sizes[first]:
            _refuse_mixed(where, first, sizes[first], name, size)


def _warn_of_animations(heads: dict[str, Head], where: str) -> None:
    if moving := [name for name, head in heads.items() if head.animated]:
        log.warning("%s: the first frame of %d animated images is used: %s", where, len(moving), enumerated(moving))


def load_image_file(
    path: Path,
    shape: tuple[int, int, int],
    resize: tuple[int, int] | None = None,
    *,
    fit: Fit | None = None,
    wide: bool = False,
) -> np.ndarray:
    """One image file as (c, h, w), decoded like those of a data set: uint8, or float32 if `wide`.

    Args:
        path: The file.
        shape: The required shape; one channel makes it grey.
        resize: Height and width to resize it to.
        fit: A function that resizes it, instead of `resize`.
        wide: Whether the set's pixels are floats, since it has grey images of 16 bits.

    Raises:
        InputError: If it is not an image, or has another shape.
    """
    _check_channels(shape, str(path))
    try:
        if reason := why_too_large(path.stat().st_size):
            raise InputError(f"{path}: {reason}")
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}") from None
    values = _decode_to(shape, resize, fit, wide=wide)(lambda: opened(path), str(path))
    _warn_of_animations({path.name: peek(lambda: opened(path), str(path))}, str(path.parent))
    return values


def decode_image(
    content: bytes,
    name: str,
    shape: tuple[int, int, int],
    resize: tuple[int, int] | None = None,
    *,
    fit: Fit | None = None,
    wide: bool = False,
) -> np.ndarray:
    """The same for the content of an image file, such as an upload.

    Args:
        content: The bytes of the file.
        name: Its name, for errors.
        shape: As for `load_image_file`.
        resize: As for `load_image_file`.
        fit: As for `load_image_file`.
        wide: As for `load_image_file`.

    Raises:
        InputError: If it is not an image, or has another shape.
    """
    _check_channels(shape, name)
    if reason := why_too_large(len(content)):
        raise InputError(f"{name}: {reason}")
    return _decode_to(shape, resize, fit, wide=wide)(lambda: io.BytesIO(content), name)


def load_item_files(
    path: Path,
    shape: tuple[int, int, int],
    resize: tuple[int, int] | None = None,
    *,
    fit: Fit | None = None,
    wide: bool = False,
    skip_bad: bool = False,
) -> tuple[np.ndarray, list[str], list[str]]:
    """All image files of a folder or zip, each decoded as by `load_image_file`, in the order of their names.

    Args:
        path: The folder or zip.
        shape: The required shape; one channel makes all of them grey.
        resize: Height and width to resize them to.
        fit: A function that resizes them, instead of `resize`.
        wide: Whether the set's pixels are floats, since it has grey images of 16 bits.
        skip_bad: Leave out the files that cannot be used instead of raising an error that names them.

    Returns:
        The images, (n, c, h, w), their names inside the folder or zip, and the names of their class subfolders; the
        last is empty if the images are not all in class subfolders.

    Raises:
        InputError: If files cannot be used, or an image has another shape.
    """
    _check_channels(shape, str(path))
    bad = BadFiles(str(path), skip=skip_bad, may_skip=False)
    with image_files(path, bad) as files:
        total = len(files) + sum(name not in files for name in bad.reasons)
        _warn_of_animations(_kept(files, str(path), bad, peek), str(path))
        good = {name: read for name, read in files.items() if name not in bad}
        check_room(len(good) * math.prod(shape) * (4 if wide else 1), str(path))
        values = _kept(good, str(path), bad, _decode_to(shape, resize, fit, wide=wide))
    bad.settle(total)
    return np.stack(list(values.values())), list(values), _item_classes(list(values), str(path))


def _item_classes(names: list[str], where: str) -> list[str]:
    """The class subfolder of each file; empty if there are none, or files next to them."""
    strays = BadFiles(where)
    try:
        number, classes = class_labels(names, strays)
    except InputError:  # folders that are splits
        return []
    return [classes[number[name]] for name in names] if classes and not strays else []


def _check_channels(shape: tuple[int, int, int], where: str) -> None:
    if shape[0] not in (1, 3):
        raise InputError(f"{where}: expected a data set of 1 or 3 channels to read an image file for, got {shape[0]}")


def _decode_to(
    shape: tuple[int, int, int], resize: tuple[int, int] | None, fit: Fit | None, *, wide: bool
) -> Callable[[Read, str], np.ndarray]:
    """A function that decodes an image file to this shape, or raises an error."""
    c, h, w = shape
    fitted = fit_to(resize) if fit is None and resize is not None else fit

    def decode_item(read: Read, where: str) -> np.ndarray:
        values = decode_one(read, where, c == 1, fitted, resize, wide=wide)
        if values.shape != (c, h, w):
            raise InputError(
                f"{where}: expected an image of {h}x{w}, got {values.shape[1]}x{values.shape[2]}; --resize crops it at "
                "the centre and scales it"
            )
        return values

    return decode_item


def _refuse_mixed(where: str, a: str, size_a: Sequence[int], b: str, size_b: Sequence[int]) -> None:
    """Sizes are (width, height), as in Pillow; the message has HxW, as `--resize` does."""
    raise InputError(
        f"{where}: expected images of one size, got {size_a[1]}x{size_a[0]} in {a} and {size_b[1]}x{size_b[0]} in {b}; "
        "use --resize HxW"
    )
