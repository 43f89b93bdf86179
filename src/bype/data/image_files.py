"""Decoding of a folder or a zip of image files; class subfolders are labels."""

import io
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bype.core.errors import InputError, first_line
from bype.data.archives import archive, check_bombs, check_room, opened
from bype.data.checks import LEAST_IMAGES
from bype.data.images import Dataset
from bype.data.splits import from_file_arrays

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
#: Image formats that are not supported: rejected by name rather than silently skipped.
OTHERS = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".ppm", ".pgm", ".jxl", ".dng")
GREY = ("1", "L", "LA")
MODES = (*GREY, "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK")  # at most eight bits a channel
MAX_PIXELS = 89_478_485  # of one image; above it Pillow warns of a decompression bomb
MAX_FILE = 2**27  # bytes of one image file
MAX_DEPTH = 16  # of nested folders
ORIENTATION = 0x0112  # the EXIF tag


Read = Callable[[], IO[bytes]]


Fit = Callable[[Image.Image, str], Image.Image]  # (upright image, its path for errors) -> image of the wanted size


def load_image_files(
    path: Path, name: str, resize: tuple[int, int] | None = None, least: int = LEAST_IMAGES
) -> Dataset:
    """A data set from a folder or zip of images: grey if all images are, else colour; transparency becomes white.

    Args:
        path: The folder or zip.
        name: The name of the set.
        resize: Height and width of the result; every image is cropped at the centre to this shape and scaled.

    Raises:
        InputError: If a file is damaged, or sizes are mixed and `resize` is not given.
    """
    with image_files(path) as files:
        labels, classes = class_labels(list(files), str(path))
        pixels = decode(files, str(path), resize)
        return from_file_arrays(pixels, labels, name, files=list(files), classes=classes, least=least)


@contextmanager
def image_files(path: Path) -> Iterator[dict[str, Read]]:
    """The image files of a folder or zip by name, sorted, so that both give the same data set."""
    if path.is_dir():
        yield _some(dict(sorted(_walk(path))), str(path))
        return
    with opened(path) as stream, archive(stream, str(path)) as packed:
        members = {i.filename: i for i in packed.infolist() if not i.is_dir() and _is_image(i.filename, str(path))}
        check_bombs(list(members.values()), str(path))
        files = {name: _member(packed, info, f"{path}:{name}") for name, info in sorted(members.items())}
        yield _some(files, str(path))


def _member(packed: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Read:
    _check_size(info.file_size, where)

    def read() -> IO[bytes]:
        return io.BytesIO(packed.read(info))

    return read


def _walk(root: Path) -> Iterator[tuple[str, Read]]:
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
                    if entry.is_dir():
                        stack.append((place, name + "/", above | {own}))
                    elif _is_image(name, str(root)):
                        _check_size(entry.stat().st_size, str(place))
                        yield name, lambda place=place: opened(place)  # type: ignore[misc]
    except OSError as e:
        raise InputError(f"{e.filename or root}: cannot be read: {e.strerror}") from None


def _is_image(name: str, where: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/"))
    if any(p.startswith(".") or p == "__MACOSX" for p in parts.parts):
        return False
    if parts.suffix.lower() in OTHERS:
        raise InputError(f"{where}: expected PNG, JPEG, WebP or BMP images, got {name}")
    return parts.suffix.lower() in SUFFIXES


def _check_size(size: int, where: str) -> None:
    if size > MAX_FILE:
        raise InputError(f"{where}: expected an image file of at most {MAX_FILE} bytes, got {size}")


def _some(files: dict[str, Read], where: str) -> dict[str, Read]:
    if not files:
        raise InputError(f"{where}: expected PNG, JPEG, WebP or BMP images, got none")
    return files


def class_labels(names: Sequence[str], where: str) -> tuple[np.ndarray | None, list[str]]:
    """The index of each file's class subfolder, and the names of the subfolders, sorted; None if there are none.

    Raises:
        InputError: If only some images are in class subfolders, or the subfolders are splits.
    """
    # Leading folders that all files share are dropped, such as the single folder of an archive.
    while len({n.partition("/")[0] for n in names}) == 1 and all("/" in n for n in names):
        names = [n.partition("/")[2] for n in names]
    tops = [n.partition("/")[0] if "/" in n else None for n in names]
    classes = sorted({t for t in tops if t is not None})
    if not classes:
        return None, []
    if None in tops:
        raise InputError(
            f"{where}: expected all images in class subfolders or none, got {names[tops.index(None)]} next to the "
            f"folder {classes[0]}"
        )
    if {c.lower() for c in classes} <= {"train", "training", "test", "testing", "val", "valid", "validation"}:
        raise InputError(f"{where}: expected class subfolders, got the splits {', '.join(classes)}; give one of them")
    number = {c: i for i, c in enumerate(classes)}
    return np.array([number[t] for t in tops if t is not None], np.int64), classes


def decode(
    files: dict[str, Read],
    where: str,
    resize: tuple[int, int] | None = None,
    *,
    fit: Fit | None = None,
    colour: bool = False,
) -> np.ndarray:
    """Decodes image files to uint8 (n, c, h, w).

    Args:
        files: The files.
        where: The folder or zip, for errors.
        resize: Height and width to resize every image to; None keeps the sizes, which must agree.
        fit: A function that resizes an image, instead of `resize`.
        colour: Three channels even if all images are grey.

    Raises:
        InputError: If a file is damaged, or sizes are mixed.
    """
    if fit is None and resize is not None:
        fit = _fit_to(resize)
    first, grey = next(iter(files)), False
    if fit is None or not colour:  # the headers are checked before anything is decoded
        heads = {name: _peek(read, f"{where}: {name}") for name, read in files.items()}
        grey = not colour and all(mode in GREY for mode, _ in heads.values())
        for name, (_, size) in heads.items() if fit is None else ():
            if sorted(size) != sorted(heads[first][1]):  # the orientation is not known before decoding
                _refuse_mixed(where, first, heads[first][1], name, size)
    images: np.ndarray | None = None
    for i, (name, read) in enumerate(files.items()):
        values = _decode(read, f"{where}: {name}", grey, fit, resize)
        if images is None:
            check_room(values.size * len(files), where)
            images = np.empty((len(files), *values.shape), np.uint8)
        if values.shape != images.shape[1:]:
            _refuse_mixed(where, first, images.shape[:1:-1], name, values.shape[:0:-1])
        images[i] = values
    assert images is not None  # there is at least one file
    return images


def load_image_file(
    path: Path, shape: tuple[int, int, int], resize: tuple[int, int] | None = None, *, fit: Fit | None = None
) -> np.ndarray:
    """One image file as uint8 (c, h, w), decoded like those of a data set.

    Args:
        path: The file.
        shape: The required shape; one channel makes it grey.
        resize: Height and width to resize it to.
        fit: A function that resizes it, instead of `resize`.

    Raises:
        InputError: If it is not an image, or has another shape.
    """
    c, h, w = shape
    if c not in (1, 3):
        raise InputError(f"{path}: expected a data set of 1 or 3 channels to read an image file for, got {c}")
    if fit is None and resize is not None:
        fit = _fit_to(resize)
    try:
        _check_size(path.stat().st_size, str(path))
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}") from None
    values = _decode(lambda: opened(path), str(path), c == 1, fit, resize)
    if values.shape != (c, h, w):
        raise InputError(f"{path}: expected an image of {h}x{w}, got {values.shape[1]}x{values.shape[2]}")
    return values


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


@contextmanager
def _image(read: Read, where: str) -> Iterator[Image.Image]:
    """Opens an image file; any error of its decoder becomes an InputError."""
    try:
        with warnings.catch_warnings(), read() as stream:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(f"{where}: expected at most {MAX_PIXELS} pixels, got {image.width}x{image.height}")
                if image.mode not in MODES:
                    raise InputError(
                        f"{where}: expected 8 bits a channel, got the mode {image.mode}; use a .npy for floats"
                    )
                yield image
    except InputError:
        raise
    except UnidentifiedImageError:  # its text contains the address of an object
        raise InputError(f"{where}: expected a PNG, JPEG, WebP or BMP image, got another file") from None
    except Exception as e:  # Pillow's decoders raise many kinds of error on damage
        raise InputError(f"{where}: expected a PNG, JPEG, WebP or BMP image, got {first_line(e)}") from None


def _peek(read: Read, where: str) -> tuple[str, tuple[int, int]]:
    """Mode and size, from the header alone."""
    with _image(read, where) as image:
        return image.mode, image.size


def _decode(read: Read, where: str, grey: bool, fit: Fit | None, resize: tuple[int, int] | None) -> np.ndarray:
    """One image, upright, (c, h, w)."""
    with _image(read, where) as image:
        if resize is not None:  # a much larger JPEG is decoded at a half, a quarter or an eighth of its size
            image.draft(None, (2 * max(resize), 2 * max(resize)))
        upright = image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
        if "transparency" in upright.info or upright.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        upright = upright.convert("L" if grey else "RGB")
        values = np.asarray(upright if fit is None else fit(upright, where))
        return values[None] if grey else values.transpose(2, 0, 1)
