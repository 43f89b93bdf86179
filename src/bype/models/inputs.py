"""One checked door for images: arrays, tensors and `Images` become what a model takes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bype.core.errors import InputError
from bype.data.decoding import image_pixels
from bype.data.images import Images, scale

#: A single picture.
Picture = Tensor | np.ndarray | Image.Image
#: The types that public functions accept as images.
ImagesLike = Images | Tensor | np.ndarray | Image.Image | Sequence[Picture]


class InputSpec(NamedTuple):
    """The images that a model takes."""

    shape: tuple[int, int, int]  # (c, h, w)
    dtype: torch.dtype
    device: torch.device
    levels: int | None  # of the data the model was built for; None for floats
    likelihood: str  # its class, in lower case
    likelihood_levels: int | None  # the levels that the likelihood requires, if any


def as_images(values: ImagesLike, spec: InputSpec, name: str = "images") -> Tensor:
    """Images in any accepted form as a tensor (B, c, h, w) in [0, 1], in the model's dtype, on its device.

    Args:
        values: An `Images`, a PIL image, or a tensor or numpy array of shape (B, c, h, w), (B, d) with d = c*h*w, or,
            with one channel, (B, h, w); or a list of PIL images, or of single images as tensors or arrays. PIL images
            become grey or colour as the model's images are. A uint8 value v becomes (v + 1/2)/levels, with the levels
            of the data that the model was built for (256 for floats); floats must be in [0, 1].
        spec: The images that the model takes.
        name: The name of the argument in error messages.

    Raises:
        InputError: If the type, dtype, shape or device does not fit, there is no image, or a value is NaN or outside
            [0, 1].
    """
    if isinstance(values, Images):
        check_images(values, spec, name)
        x = values.scaled(dtype=spec.dtype)
    else:
        x = _as_pixels(_with_channels(_as_tensor(_batch(values, spec, name), name), spec.shape, name), spec, name)
    if not len(x):
        raise InputError(f"{name}: expected at least one image, got none")
    low, high = (float(v) for v in x.detach().aminmax())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise InputError(f"{name}: expected values in [0, 1], got values from {low:g} to {high:g}")
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


def _batch(values: object, spec: InputSpec, name: str) -> object:
    """Pictures, alone or in a list, as one array or tensor; anything else unchanged."""
    if isinstance(values, Image.Image):
        values = [values]
    if not isinstance(values, list | tuple):
        return values
    if not values:
        raise InputError(f"{name}: expected at least one image, got none")
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
    stacked = np.stack([part.detach().cpu().numpy() if isinstance(part, Tensor) else part for part in parts])
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
        return torch.from_numpy(np.ascontiguousarray(values, values.dtype.newbyteorder("=")))
    kind = type(values)
    raise InputError(
        f"{name}: expected a tensor, a numpy array, PIL images or bype.Images, got "
        f"{kind.__module__}.{kind.__qualname__}"
    )


def _with_channels(x: Tensor, shape: Sequence[int], name: str) -> Tensor:
    c, h, w = shape
    if x.dim() == 4 and tuple(x.shape[1:]) == (c, h, w):
        return x
    if c == 1 and x.dim() == 3 and tuple(x.shape[1:]) == (h, w):
        return x[:, None]
    if x.dim() == 2 and x.shape[1] == c * h * w:
        return x.reshape(-1, c, h, w)
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
