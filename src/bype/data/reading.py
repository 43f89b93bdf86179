"""Items of torch data sets and batches of loaders, as arrays: tensors, arrays, PIL images, pairs and dictionaries."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from bype.core.errors import InputError
from bype.data.checks import as_float32
from bype.data.decoding import image_pixels

#: Usual keys of images and labels in items that are dictionaries, in the order of preference.
IMAGE_KEYS = ("image", "images", "img", "pixel_values", "pixels", "x", "data")
LABEL_KEYS = ("label", "labels", "fine_label", "target", "targets", "y", "class")


class Batch(NamedTuple):
    """Images and labels of some items."""

    images: np.ndarray  # (b, c, h, w), uint8 or float32
    labels: list[object] | None


class Reader:
    """Reads items alike: the first one decides on the keys, and on the shape and kind of the images.

    Args:
        name: The name of the set, for errors.
        image_key: The key of images in dictionaries; None finds a usual one.
        label_key: The key of labels; None finds a usual one, "" reads none.
        grey: Whether PIL images are read as grey or in colour; None leaves each as it is.
    """

    def __init__(
        self, name: str, image_key: str | None = None, label_key: str | None = None, *, grey: bool | None = None
    ) -> None:
        self.name, self.image_key, self.label_key, self.grey = name, image_key, label_key, grey
        self.shape: tuple[int, ...] | None = None
        self.floats = False

    def items(self, items: Sequence[object]) -> Batch:
        """The images and labels of a list of items."""
        parts = [self._parts(item) for item in items]
        images = np.stack([self._checked(self._image(image)) for image, _ in parts])
        labels = [_plain_label(label) for _, label in parts]
        return Batch(images, None if any(label is None for label in labels) else labels)

    def batch(self, batch: object) -> Batch:
        """The images and labels of a batch: a tensor or an array (b, ...), alone, in a pair or in a dictionary."""
        images, labels = self._parts(batch)
        if not isinstance(images, Tensor | np.ndarray) or images.ndim < 3:
            raise InputError(f"{self.name}: expected batches of images (b, h, w) or (b, c, h, w), got {_kind(images)}")
        stacked = np.stack([self._checked(self._image(image)) for image in images])
        if labels is None:
            return Batch(stacked, None)
        values = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else list(labels)  # type: ignore[call-overload]
        return Batch(stacked, [_plain_label(value) for value in values])

    def _parts(self, item: object) -> tuple[object, object]:
        """The image and the label of an item, or those of a batch."""
        if isinstance(item, Mapping):
            keys = [str(key) for key in item]
            if self.image_key is None:
                self.image_key = next((key for key in IMAGE_KEYS if key in keys), None)
            if self.image_key not in keys:
                wanted = self.image_key or "image"
                raise InputError(f"{self.name}: expected a key {wanted!r} (image_key=...), got {', '.join(keys)}")
            if self.label_key is None:
                self.label_key = next((key for key in LABEL_KEYS if key in keys), "")
            if self.label_key and self.label_key not in keys:
                raise InputError(f"{self.name}: expected a key {self.label_key!r}, got {', '.join(keys)}")
            return item[self.image_key], item[self.label_key] if self.label_key else None
        if isinstance(item, list | tuple):
            if not item:
                raise InputError(f"{self.name}: expected an image, or an image and a label, got an empty {_kind(item)}")
            return item[0], item[1] if len(item) > 1 and self.label_key != "" else None
        return item, None

    def _image(self, value: object) -> np.ndarray:
        """One image, (c, h, w)."""
        if isinstance(value, Tensor):
            value = value.detach().cpu().float() if value.is_floating_point() else value.detach().cpu()
            array = value.numpy()
        elif isinstance(value, np.ndarray):
            array = value
        elif isinstance(value, Image.Image):
            return image_pixels(value, self.name, grey=value.mode in ("1", "L") if self.grey is None else self.grey)
        else:
            raise InputError(f"{self.name}: expected a tensor, an array or a PIL image, got {_kind(value)}")
        if array.ndim == 2:
            return array[None]
        if array.ndim == 3 and array.shape[2] in (1, 3, 4) and array.shape[0] not in (1, 3):
            return array.transpose(2, 0, 1)
        if array.ndim != 3:
            raise InputError(f"{self.name}: expected an image (h, w), (c, h, w) or (h, w, c), got {array.shape}")
        return array

    def _checked(self, image: np.ndarray) -> np.ndarray:
        """An image of the same shape and kind as the first."""
        floats = image.dtype.kind == "f"
        if not floats and image.dtype != np.uint8:
            raise InputError(f"{self.name}: expected images of uint8 or floats in [0, 1], got {image.dtype}")
        if self.shape is None:
            self.shape, self.floats = image.shape, floats
        if image.shape != self.shape or floats != self.floats:
            raise InputError(
                f"{self.name}: expected images of one shape and kind, {self.shape}, got {image.dtype} {image.shape}; "
                "resize them in the transform"
            )
        if not floats:
            return np.ascontiguousarray(image)
        values = as_float32(image)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise InputError(
                f"{self.name}: expected floats in [0, 1], got values from {low:g} to {high:g}; leave out "
                "normalisation from the transform"
            )
        return values


def is_batch(value: object) -> bool:
    """Whether a value, or the first of a pair, is a tensor or array of images (b, c, h, w)."""
    images = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(images, Tensor | np.ndarray) and images.ndim == 4


def is_labelled(value: object) -> bool:
    """Whether a value is a pair of something and its labels, rather than of two batches of images."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return not isinstance(value[1], Tensor | np.ndarray) or value[1].ndim < 3


def _plain_label(label: object) -> object:
    """A label as a number or text."""
    if isinstance(label, Tensor):
        label = label.detach().cpu().numpy()
    return label.item() if isinstance(label, np.generic | np.ndarray) and label.size == 1 else label


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
