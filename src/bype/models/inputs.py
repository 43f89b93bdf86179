"""One checked door for images: arrays, tensors, pictures, data sets, data frames and `Images` become model inputs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bype.core.errors import InputError
from bype.data.arraylike import as_array
from bype.data.decoding import image_pixels
from bype.data.frames import Frame, encode_rows, frame_columns
from bype.data.images import Dataset, Images, scale
from bype.data.tables import TableSpec
from bype.data.torch_sets import MapStyle, Source, read_images

#: A single picture.
Picture = Tensor | np.ndarray | Image.Image
#: The types that public functions accept as images.
ImagesLike = Images | Tensor | np.ndarray | Image.Image | Sequence[Picture] | Source | Frame


class InputSpec(NamedTuple):
    """The images that a model takes."""

    shape: tuple[int, int, int]  # (c, h, w)
    dtype: torch.dtype
    device: torch.device
    levels: int | None  # of the data the model was built for; None for floats
    likelihood: str  # its class, in lower case
    likelihood_levels: int | None  # the levels that the likelihood requires, if any
    table: TableSpec | None = None  # the columns, of a model of a table


def as_images(values: ImagesLike, spec: InputSpec, name: str = "images") -> Tensor:
    """Images in any accepted form as a tensor (B, c, h, w) in [0, 1], in the model's dtype, on its device.

    Args:
        values: One of

            - an `Images`, such as `data.test`;
            - a tensor or numpy array of shape (B, c, h, w), (B, d) with d = c*h*w, or, with one channel, (B, h, w); a
              data frame of d columns;
            - a PIL image, or a list of PIL images, or of single images as tensors or arrays. PIL images become grey or
              colour as the model's images are;
            - a torch data set, a Hugging Face data set, a list of (image, label), or a loader whose length is known.
              Its items are read once and in order, labels are left out.

            A uint8 value v becomes (v + 1/2)/levels, with the levels of the data that the model was built for (256 for
            floats); floats must be in [0, 1]. A model of a table takes data frames, whose columns are found by name,
            and arrays and tensors (B, columns), in the units of the table; stored rows, (B, 1, 1, D), are in [0, 1].
        spec: The images that the model takes.
        name: The name of the argument in error messages.

    Raises:
        InputError: If the type, dtype, shape or device does not fit, there is no image, or a value is NaN or outside
            [0, 1].
    """
    if isinstance(values, Images):
        check_images(values, spec, name)
        return _in_range(values.scaled(dtype=spec.dtype), name, unbounded=spec.table is not None)
    if spec.table is not None:
        rows = encode_rows(spec.table, values, name)
        if rows is not None:
            x = torch.from_numpy(rows).view(-1, *spec.shape).to(device=spec.device, dtype=spec.dtype)
            return _in_range(x, name, unbounded=True)
    x = _as_pixels(_with_channels(_as_tensor(_gathered(values, spec, name), name), spec, name), spec, name)
    return _in_range(x, name)


def checked_images(values: ImagesLike, spec: InputSpec, name: str = "images") -> Images:
    """The same as an `Images`, without copying one.

    Raises:
        InputError: As `as_images`.
    """
    if not isinstance(values, Images):
        return Images(as_images(values, spec, name).detach(), levels=None, checked=True)
    check_images(values, spec, name)
    if not len(values):
        raise InputError(f"{name}: {NONE}")
    return values


#: What errors say of no images.
NONE = "expected at least one image, got none"


def _in_range(x: Tensor, name: str, *, unbounded: bool = False) -> Tensor:
    """Images after a check of their values: in [0, 1], or only finite."""
    if not len(x):
        raise InputError(f"{name}: {NONE}")
    low, high = (float(v) for v in x.detach().aminmax())
    least, most = (-sys.float_info.max, sys.float_info.max) if unbounded else (0.0, 1.0)
    if not (low >= least and high <= most):  # NaN is neither
        expected = "finite values" if unbounded else "values in [0, 1]"
        raise InputError(f"{name}: expected {expected}, got values from {low:g} to {high:g}")
    return x


def check_images(images: Images, spec: InputSpec, name: str = "images") -> None:
    """Checks that a model can be used with these images.

    Args:
        images: The images.
        spec: The images that the model takes.
        name: Their name in error messages.

    Raises:
        InputError: If the shape, levels or device of the images do not match the model.
    """
    if images.shape != spec.shape:
        raise InputError(f"{name}: expected images {spec.shape}, got {images.shape}")
    if spec.likelihood_levels not in (None, images.levels):
        got = "floats" if images.levels is None else f"{images.levels} levels"
        raise InputError(
            f"likelihood {spec.likelihood}: expected data of {spec.likelihood_levels} levels, got {got} in {name}"
        )
    device, got_device = spec.device, images.pixels.device
    if device != got_device:
        raise InputError(
            f"{name}: expected data on the model's device {device}, got {got_device}; "
            f"move them with data.to({str(device)!r})"
        )


def _gathered(values: object, spec: InputSpec, name: str) -> object:
    """Pictures, data sets and data frames as one array or tensor; anything else unchanged."""
    if isinstance(values, Image.Image):
        values = [values]
    if isinstance(values, list | tuple):
        pairs = isinstance(values, list) and values and isinstance(values[0], tuple | Mapping)
        if not pairs:
            return _stacked(values, spec, name)
    if frame_columns(values, name) is not None:
        return as_array(values, name)
    if isinstance(values, Dataset):
        raise InputError(f"{name}: expected images, got a Dataset; pass one of its splits, such as data.test")
    if isinstance(values, Mapping):
        raise InputError(
            f"{name}: expected images, got a {type(values).__name__} of {', '.join(map(str, values))}"[:150]
            + "; pass one of its values"
        )
    source = isinstance(values, MapStyle | Iterable) and not isinstance(values, NOT_SOURCES)
    if not source:
        return values
    images = read_images(cast(Source, values), name, grey=spec.shape[0] == 1)
    return torch.from_numpy(images).to(spec.device)  # as pictures, they have no device of their own


#: Types that have a length and items, and are no data sets.
NOT_SOURCES = (Tensor, np.ndarray, str, bytes)


def _stacked(values: Sequence[object], spec: InputSpec, name: str) -> object:
    """Single pictures as one array or tensor."""
    if not values:
        raise InputError(f"{name}: {NONE}")
    grey, wide = spec.shape[0] == 1, spec.levels != 256
    parts = [
        image_pixels(v, f"{name}[{i}]", grey=grey, wide=wide) if isinstance(v, Image.Image) else v
        for i, v in enumerate(values)
    ]
    shapes = [tuple(getattr(part, "shape", ())) for part in parts]
    if not all(shapes):
        raise InputError(f"{name}: expected images in the list, got {type(parts[shapes.index(())]).__name__}")
    if different := [shape for shape in shapes if shape != shapes[0]]:
        raise InputError(f"{name}: expected images of one shape, got {shapes[0]} and {different[0]}")
    if all(isinstance(part, Tensor) for part in parts):
        return torch.stack([part for part in parts if isinstance(part, Tensor)])
    stacked = np.stack(
        [part.detach().cpu().numpy() if isinstance(part, Tensor) else np.asarray(part) for part in parts]
    )
    # On the model's device, as pictures have none.
    return torch.from_numpy(stacked).to(spec.device) if any(isinstance(v, Image.Image) for v in values) else stacked


def _as_tensor(values: object, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(f"{name}: masked arrays are not accepted; fill or drop the masked values")
    if isinstance(values, np.ndarray):
        if values.dtype != np.uint8 and (values.dtype.kind != "f" or values.dtype.itemsize > 8):
            raise InputError(f"{name}: expected uint8 or floats in [0, 1], got {values.dtype}")
        plain = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
        return torch.from_numpy(plain if plain.flags.writeable else plain.copy())  # a torch tensor is always writable
    kind = type(values)
    raise InputError(
        f"{name}: expected a tensor, a numpy array, PIL images, a data set or bype.Images, got "
        f"{kind.__module__}.{kind.__qualname__}"
    )


def _with_channels(x: Tensor, spec: InputSpec, name: str) -> Tensor:
    c, h, w = spec.shape
    if x.dim() == 4 and tuple(x.shape[1:]) == (c, h, w):
        return x
    if c == 1 and x.dim() == 3 and tuple(x.shape[1:]) == (h, w):
        return x[:, None]
    if x.dim() == 2 and x.shape[1] == c * h * w:
        return x.reshape(-1, c, h, w)
    if spec.table is not None:
        raise InputError(
            f"{name}: expected rows of a table, a data frame or an array (n, {len(spec.table.columns)}), got an array "
            f"{tuple(x.shape)}"
        )
    grey = f", (n, {h}, {w})" if c == 1 else ""
    raise InputError(
        f"{name}: expected images of shape (n, {c}, {h}, {w}){grey} or (n, {c * h * w}), got {tuple(x.shape)}"
    )


def _as_pixels(x: Tensor, spec: InputSpec, name: str) -> Tensor:
    if x.device != spec.device:
        raise InputError(
            f"{name}: expected images on the model's device {spec.device}, got {x.device}; "
            f"move them with .to({str(spec.device)!r})"
        )
    if x.dtype == torch.uint8:
        levels = spec.levels or 256
        if len(x) and int(x.max()) >= levels:
            raise InputError(
                f"{name}: expected values below {levels}, the levels of the model's data, got {int(x.max())}"
            )
        return scale(x, levels, spec.dtype)
    if not x.is_floating_point():
        raise InputError(f"{name}: expected uint8 or floats in [0, 1], got {str(x.dtype).removeprefix('torch.')}")
    return x.to(spec.dtype)
