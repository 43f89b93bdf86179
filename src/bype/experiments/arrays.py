"""Small arrays in the record of a cell: images and coordinates that pictures of the results page are drawn from."""

import base64
import binascii
import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.experiments.records import CellRecord, PackedArray

#: Bytes of one array, at most.
LARGEST = 20_000_000
#: Bytes of an element, by the dtypes that are stored; little-endian.
SIZES = {"uint8": 1, "float32": 4, "int64": 8}


def pack(array: np.ndarray) -> PackedArray:
    """An array of uint8, float32 or int64 as JSON."""
    name = array.dtype.name
    assert name in SIZES, name
    assert array.nbytes <= LARGEST, array.shape
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {"dtype": name, "shape": list(array.shape), "zlib": base64.b64encode(zlib.compress(content, 9)).decode()}


def unpack(value: object, name: str) -> np.ndarray:
    """The array that `pack` stored.

    Args:
        value: The JSON value.
        name: The name of the array, for errors.

    Raises:
        InputError: If the value is damaged, or larger than 20 MB.
    """
    try:
        if not isinstance(value, dict):
            raise ValueError(f"got {value!r:.40}")
        shape, size = value["shape"], SIZES[value["dtype"]]
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n <= LARGEST for n in shape):
            raise ValueError(f"got the shape {shape!r:.40}")
        expected = math.prod(shape) * size
        if expected > LARGEST:
            raise ValueError(f"got {expected} bytes, more than {LARGEST}")
        stream = zlib.decompressobj()
        content = stream.decompress(base64.b64decode(value["zlib"], validate=True), expected + 1)
        if len(content) != expected or not stream.eof:
            raise ValueError(f"the content does not have {expected} bytes")
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as e:
        raise InputError(f"array {name!r}: expected a packed array, but it is damaged ({e})") from None
    dtype = np.dtype(value["dtype"]).newbyteorder("<")
    array = np.frombuffer(content, dtype).reshape(shape)
    return array.astype(value["dtype"])


def pack_images(images: Tensor) -> PackedArray:
    """Images (..., c, h, w) in [0, 1], as bytes (..., h, w, c)."""
    levels = (images.detach().float().clamp(0, 1) * 255).round().byte()
    return pack(levels.movedim(-3, -1).cpu().contiguous().numpy())


def pictures_of(record: CellRecord, wanted: Mapping[str, int], most: int) -> list[Tensor]:
    """Images of a record that `pack_images` stored, (..., c, h, w) in [0, 1].

    Args:
        record: The record.
        wanted: The names of the arrays, and the number of their axes before the images'.
        most: The first axes' largest length; what goes beyond is left out.

    Raises:
        InputError: If an array is missing or damaged, or they are not equally many images of the same size.
    """
    found = {name: unpack(record.get("arrays", {}).get(name), name) for name in wanted}
    fits = all(
        a.dtype == np.uint8 and a.ndim == axes + 3 and a.size
        for a, axes in zip(found.values(), wanted.values(), strict=True)
    )
    if not fits or len({(len(a), a.shape[-3:]) for a in found.values()}) != 1:
        shapes = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in found.items())
        raise InputError(f"expected images that belong together, got {shapes}")
    return [torch.from_numpy(a[:most]).movedim(-1, -3) / 255 for a in found.values()]
