"""Decoding of one image file: upright, without transparency, grey or colour, of a wanted size."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bype.core.errors import InputError, first_line
from bype.data.formats import DECODERS, HEAD, READABLE, other_format, readable_format, without_large_text
from bype.data.image_folders import Read

T = TypeVar("T")

GREY = ("1", "L", "LA")
WIDE = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # grey of 16 bits, read as floats v/65535
MODES = (*GREY, *WIDE, "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK")
MAX_PIXELS = 89_478_485  # of one image; above it Pillow warns of a decompression bomb
ORIENTATION = 0x0112  # the EXIF tag

Fit = Callable[[Image.Image, str], Image.Image]  # (upright image, its path for errors) -> image of the wanted size


def fit_to(size: tuple[int, int]) -> Fit:
    """A function that crops an image at the centre to this height and width, and scales it."""
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
class Head:
    """What the header of an image file tells."""

    mode: str
    size: tuple[int, int]  # width and height
    animated: bool


def peek(read: Read, where: str) -> Head:
    """Reads the header alone.

    Raises:
        InputError: If it is not an image of a supported mode.
    """

    def head(image: Image.Image) -> Head:
        _check_mode(image, where)
        moving = image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False)
        return Head(image.mode, image.size, moving)

    return _opened(read, where, head)


def decode_one(
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
