"""Decoding of a folder or a zip of image files; class subfolders are labels."""

import io
import logging
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bype.core.errors import InputError, first_line
from bype.data.archives import archive, check_bombs, check_room, member_name, normal_name, opened
from bype.data.checks import LEAST_IMAGES
from bype.data.formats import (
    DECODERS,
    HEAD,
    OTHERS,
    READABLE,
    SUFFIXES,
    other_format,
    readable_format,
    suffix,
    without_large_text,
)
from bype.data.images import Dataset
from bype.data.splits import from_file_arrays

log = logging.getLogger("bype")

T = TypeVar("T")

GREY = ("1", "L", "LA")
WIDE = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # grey of 16 bits, read as floats v/65535
MODES = (*GREY, *WIDE, "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK")
MAX_PIXELS = 89_478_485  # of one image; above it Pillow warns of a decompression bomb
MAX_FILE = 2**27  # bytes of one image file
MAX_DEPTH = 16  # of nested folders
ORIENTATION = 0x0112  # the EXIF tag
NAMED = 20  # files that a message names; of more it gives the number

Read = Callable[[], IO[bytes]]
Fit = Callable[[Image.Image, str], Image.Image]  # (upright image, its path for errors) -> image of the wanted size


class BadFiles:
    """The files of a folder or zip that cannot be used, and why: named together, or left out.

    Args:
        where: The folder or zip, for messages.
        skip: Leave them out instead of raising an error.
    """

    def __init__(self, where: str, *, skip: bool = False) -> None:
        self.where, self.skip = where, skip
        self.reasons: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.reasons

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, name: str, reason: object) -> None:
        """Adds a file; only its first reason is kept."""
        self.reasons.setdefault(name, str(reason).removeprefix(f"{self.where}: {name}: "))

    def settle(self, total: int) -> None:
        """Raises an error that names the files, or reports that they are left out.

        Raises:
            InputError: If there are any, and they are not to be left out, or none of the `total` files is left.
        """
        if not self.reasons:
            return
        if self.skip and len(self) < total:
            names = _enumerated(list(self.reasons))
            log.warning("%s: left out %d of %d image files: %s", self.where, len(self), total, names)
            return
        if len(self) == 1:
            ((name, reason),) = self.reasons.items()
            text = f"{name}: {reason}"
        else:
            each = _enumerated([f"{name} ({reason})" for name, reason in self.reasons.items()])
            text = f"{len(self)} of {total} image files cannot be used: {each}"
        raise InputError(f"{self.where}: {text}" + ("" if self.skip else "; --skip-bad leaves bad files out"))


def _enumerated(texts: Sequence[str]) -> str:
    """Up to `NAMED` texts, then the number of the others."""
    rest = len(texts) - NAMED
    return ", ".join(texts[:NAMED]) + (f", and {rest} more" if rest > 0 else "")


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


@contextmanager
def image_files(path: Path, bad: BadFiles) -> Iterator[dict[str, Read]]:
    """The image files of a folder or zip by name, sorted, so that both give the same data set.

    Files that cannot be used are added to `bad`.
    """
    if path.is_dir():
        yield _some(dict(sorted(_walk(path, bad), key=lambda found: normal_name(found[0]))), bad)
        return
    with opened(path) as stream, archive(stream, str(path)) as packed:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in packed.infolist():
            name = member_name(info)
            if not name.endswith("/") and _is_image(name, lambda i=info: packed.open(i), bad):  # type: ignore[misc]
                members[name] = info
        check_bombs(list(members.values()), str(path))
        files = {
            name: _member(packed, info) for name, info in sorted(members.items()) if _fits(name, info.file_size, bad)
        }
        yield _some(files, bad)


def _member(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Read:
    def read() -> IO[bytes]:
        return io.BytesIO(packed.read(info))

    return read


def _walk(root: Path, bad: BadFiles) -> Iterator[tuple[str, Read]]:
    """The image files below a folder; links are followed, except in a cycle."""
    stack: list[tuple[Path, str, frozenset[tuple[int, int]]]] = [(root, "", frozenset())]
    try:
        while stack:
            folder, prefix, above = stack.pop()
            status = folder.stat()
            own = (status.st_dev, status.st_ino)
            if own in above:
                raise InputError(f"{folder}: cyclic link to a parent folder")
            if len(above) >= MAX_DEPTH:
                raise InputError(f"{folder}: expected folders at most {MAX_DEPTH} deep, got deeper ones")
            with os.scandir(folder) as entries:
                for entry in entries:
                    place, name = Path(entry.path), prefix + entry.name
                    if entry.name.startswith("."):
                        continue
                    kind = _kind(entry, name, bad)
                    if kind == "folder":
                        stack.append((place, name + "/", above | {own}))
                    if kind != "file":
                        continue

                    def read(place: Path = place) -> IO[bytes]:
                        return opened(place)

                    if _is_image(name, read, bad) and _fits(name, entry.stat().st_size, bad):
                        yield name, read
    except OSError as e:
        raise InputError(f"{e.filename or root}: cannot be read: {e.strerror}") from None


def _kind(entry: "os.DirEntry[str]", name: str, bad: BadFiles) -> str | None:
    """`folder`, `file`, or None for anything else, which is added to `bad` if it may be an image."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        if entry.is_symlink() and not os.path.exists(entry.path):  # it may be a class subfolder that is gone
            bad.add(name, f"broken symbolic link to {os.readlink(entry.path)}")
        elif suffix(name) in (*SUFFIXES, *OTHERS):
            bad.add(name, f"expected a {READABLE}, got a pipe or a device")
    except OSError as e:  # a link to itself
        bad.add(name, f"cannot be read: {e.strerror}")
    return None


def _is_image(name: str, read: Read, bad: BadFiles) -> bool:
    """Whether a file is an image, by its suffix or its content; one of a format that is not read is added to `bad`."""
    if any(part.startswith(".") or part == "__MACOSX" for part in normal_name(name).split("/")):
        return False
    if suffix(name) in SUFFIXES:
        return True
    try:
        with read() as stream:
            head = stream.read(HEAD)
    except Exception as e:  # zipfile raises many kinds of error on damage
        bad.add(name, first_line(e).removeprefix(f"{bad.where}/{name}: "))
        return False
    if readable_format(head):
        return True
    other = other_format(head)
    if other or suffix(name) in OTHERS:
        bad.add(name, f"expected a {READABLE}, got a {other or suffix(name)} file")
    return False


def _fits(name: str, size: int, bad: BadFiles) -> bool:
    if size > MAX_FILE:
        bad.add(name, _too_large(size))
    return size <= MAX_FILE


def _too_large(size: int) -> str:
    return f"expected an image file of at most {MAX_FILE} bytes, got {size}"


def _some(files: dict[str, Read], bad: BadFiles) -> dict[str, Read]:
    if not files:
        bad.settle(len(bad))
        raise InputError(f"{bad.where}: expected PNG, JPEG, WebP, BMP or PNM images, got none")
    return files


def class_labels(names: Sequence[str], bad: BadFiles) -> tuple[dict[str, int], list[str]]:
    """The index of each file's class subfolder, and the names of the subfolders, sorted; both empty if there are none.

    Images next to class subfolders are added to `bad`.

    Raises:
        InputError: If the subfolders are splits, or most of the images are next to them.
    """
    # Leading folders that all files share are dropped, such as the single folder of an archive.
    parts = {name: normal_name(name).split("/") for name in names}
    while len({p[0] for p in parts.values()}) == 1 and all(len(p) > 1 for p in parts.values()):
        parts = {name: p[1:] for name, p in parts.items()}
    tops = {name: p[0] for name, p in parts.items() if len(p) > 1}
    classes = sorted(set(tops.values()))
    if not classes:
        return {}, []
    strays = [name for name in names if name not in tops]
    for name in strays:
        bad.add(name, f"expected all images in class subfolders or none, got this file next to the folder {classes[0]}")
    if strays and bad.skip:
        if len(strays) >= len(tops):
            raise InputError(
                f"{bad.where}: expected few images next to class subfolders to leave out, got {len(strays)} of "
                f"{len(names)} next to the folder {classes[0]}"
            )
        return class_labels(list(tops), bad)
    if {c.lower() for c in classes} <= {"train", "training", "test", "testing", "val", "valid", "validation"}:
        raise InputError(
            f"{bad.where}: expected class subfolders, got the splits {', '.join(classes)}; give one of them"
        )
    number = {c: i for i, c in enumerate(classes)}
    return {name: number[top] for name, top in tops.items()}, classes


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
        colour: Three channels even if all images are grey, and uint8.
        bad: The files that cannot be used: those that are in it are not decoded, and others are added.

    Raises:
        InputError: If files cannot be used and are not to be left out, or sizes are mixed.
    """
    bad = BadFiles(where) if bad is None else bad
    total = len(files) + sum(name not in files for name in bad.reasons)
    good = {name: read for name, read in files.items() if name not in bad}
    if fit is None and resize is not None:
        fit = _fit_to(resize)
    heads: dict[str, _Head] = {}
    if fit is None or not colour:  # the headers are checked before anything is decoded
        heads = _kept(good, where, bad, _peek)
        _warn_of_animations(heads, where)
        if fit is None:
            _check_heads(heads, good, where, bad)
    grey = not colour and all(head.mode in (*GREY, *WIDE) for head in heads.values())
    wide = any(head.mode in WIDE for head in heads.values())

    images: np.ndarray | None = None
    shapes: dict[str, tuple[int, int]] = {}  # (width, height) of each decoded image

    def store(read: Read, place: str) -> tuple[int, int]:
        nonlocal images
        values = _decode(read, place, grey, fit, resize, wide=wide)
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


def _check_heads(heads: "dict[str, _Head]", files: dict[str, Read], where: str, bad: BadFiles) -> None:
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
        decoded |= _kept(pair, where, bad, lambda read, place: _decode(read, place, False, None, None)).keys()
        if decoded >= {first, name}:
            _refuse_mixed(where, first, heads[first].size, name, head.size)


def _check_sizes(sizes: dict[str, tuple[int, int]], where: str) -> None:
    """Rejects mixed sizes (width, height)."""
    first = next(iter(sizes), "")
    for name, size in sizes.items():
        if size != sizes[first]:
            _refuse_mixed(where, first, sizes[first], name, size)


def _warn_of_animations(heads: "dict[str, _Head]", where: str) -> None:
    if moving := [name for name, head in heads.items() if head.animated]:
        log.warning("%s: the first frame of %d animated images is used: %s", where, len(moving), _enumerated(moving))


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
        if (size := path.stat().st_size) > MAX_FILE:
            raise InputError(f"{path}: {_too_large(size)}")
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}") from None
    return _decode_to(shape, resize, fit, wide=wide)(lambda: opened(path), str(path))


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
    bad = BadFiles(str(path), skip=skip_bad)
    with image_files(path, bad) as files:
        total = len(files) + sum(name not in files for name in bad.reasons)
        _warn_of_animations(_kept(files, str(path), bad, _peek), str(path))
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
    fitted = _fit_to(resize) if fit is None and resize is not None else fit

    def decode_one(read: Read, where: str) -> np.ndarray:
        values = _decode(read, where, c == 1, fitted, resize, wide=wide)
        if values.shape != (c, h, w):
            raise InputError(
                f"{where}: expected an image of {h}x{w}, got {values.shape[1]}x{values.shape[2]}; --resize crops it at "
                "the centre and scales it"
            )
        return values

    return decode_one


def _refuse_mixed(where: str, a: str, size_a: Sequence[int], b: str, size_b: Sequence[int]) -> None:
    """Sizes are (width, height), as in Pillow; the message has HxW, as `--resize` does."""
    raise InputError(
        f"{where}: expected images of one size, got {size_a[1]}x{size_a[0]} in {a} and {size_b[1]}x{size_b[0]} in {b}; "
        "use --resize HxW"
    )


def _fit_to(size: tuple[int, int]) -> Fit:
    h, w = size

    def fit(image: Image.Image, where: str) -> Image.Image:
        return image if image.size == (w, h) else ImageOps.fit(image, (w, h), Image.Resampling.BICUBIC)

    return fit


def _opened(read: Read, where: str, work: Callable[[Image.Image], T]) -> T:
    """Opens an image file and returns what `work` makes of it; any error of its decoder becomes an InputError."""
    try:
        try:
            return _work(read, where, work)
        except ValueError as e:
            if "MAX_TEXT" not in str(e):  # of Pillow's limits for texts and profiles in a PNG
                raise

        def shorter() -> IO[bytes]:
            with read() as stream:
                return without_large_text(stream)

        return _work(shorter, where, work)
    except InputError:
        raise
    except UnidentifiedImageError:  # its text contains the address of an object
        raise InputError(f"{where}: expected a {READABLE}, got {_other_content(read)}") from None
    except Exception as e:  # Pillow's decoders raise many kinds of error on damage
        raise InputError(f"{where}: expected a {READABLE}, got {first_line(e)}") from None


def _work(read: Read, where: str, work: Callable[[Image.Image], T]) -> T:
    with warnings.catch_warnings(), read() as stream:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(stream, formats=DECODERS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{where}: expected at most {MAX_PIXELS} pixels, got {image.width}x{image.height}")
            return work(image)


def _other_content(read: Read) -> str:
    with read() as stream:
        head = stream.read(HEAD)
    if not head:
        return "an empty file"
    name = other_format(head)
    return f"a {name} file" if name else "a damaged file" if readable_format(head) else "another file"


@dataclass(frozen=True)
class _Head:
    """What the header of an image file tells."""

    mode: str
    size: tuple[int, int]  # width and height
    animated: bool


def _peek(read: Read, where: str) -> _Head:
    def head(image: Image.Image) -> _Head:
        _check_mode(image, where)
        moving = image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False)
        return _Head(image.mode, image.size, moving)

    return _opened(read, where, head)


def _decode(
    read: Read, where: str, grey: bool, fit: Fit | None, resize: tuple[int, int] | None, *, wide: bool = False
) -> np.ndarray:
    """One image, upright, (c, h, w): uint8, or float32 if `wide`."""

    def values(image: Image.Image) -> np.ndarray:
        if resize is not None:  # a much larger JPEG is decoded at a half, a quarter or an eighth of its size
            image.draft(None, (2 * max(resize), 2 * max(resize)))
        return image_pixels(image, where, grey=grey, fit=fit, wide=wide)

    return _opened(read, where, values)


def image_pixels(
    image: Image.Image, where: str, *, grey: bool, fit: Fit | None = None, wide: bool = False
) -> np.ndarray:
    """The pixels of an opened image, upright, without transparency, (c, h, w): uint8, or float32 if `wide`.

    Args:
        image: The image.
        where: Its name, for errors.
        grey: One channel instead of three.
        fit: A function that resizes it.
        wide: Floats v/255, or v/65535 of grey images of 16 bits.

    Raises:
        InputError: If its mode is not supported.
    """
    _check_mode(image, where)
    upright = image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    if upright.mode in WIDE:
        floats = _wide_values(upright, fit, where)
        stored = floats if wide else (255 * floats).round().astype(np.uint8)
        return np.repeat(stored[None], 1 if grey else 3, 0)
    if "transparency" in upright.info or upright.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    upright = upright.convert("L" if grey else "RGB")
    stored = np.asarray(upright if fit is None else fit(upright, where))
    if wide:
        stored = stored.astype(np.float32) / 255
    return stored[None] if grey else stored.transpose(2, 0, 1)


def _check_mode(image: Image.Image, where: str) -> None:
    if image.mode not in MODES:
        raise InputError(
            f"{where}: expected 8 bits a channel, or grey of 16 bits, got the mode {image.mode}; use a .npy for floats"
        )


def _wide_values(image: Image.Image, fit: Fit | None, where: str) -> np.ndarray:
    """The pixels of a grey image of 16 bits, v/65535, (h, w); its transparent value becomes white."""
    stored = np.asarray(image)
    floats = (stored / 65535).astype(np.float32)
    if isinstance(clear := image.info.get("transparency"), int):
        floats[stored == clear] = 1
    if fit is not None:
        floats = np.asarray(fit(Image.fromarray(floats), where))
    return floats.clip(0, 1)
