"""Items for a trained model: files, folders, zips, arrays, and images of a data set become one batch with names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bype.core.config import TABLES
from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.numbers import parse_int
from bype.data import published
from bype.data.catalog import PUBLISHED, applicable, is_image_collection, load
from bype.data.decoding import Fit
from bype.data.image_files import decode_image, load_image_file, load_item_files
from bype.data.images import Dataset, Images
from bype.data.tables import TableSpec

ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Items:
    """Images for a model, with their names.

    Args:
        images: The images, without labels.
        names: Their names, such as `photos/cat.png`, `x.npy[3]` or `digits:test[7]`.
        labels: The name of the class of each, "" if it is unknown; empty if all are unknown.
    """

    images: Images
    names: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class ItemReader:
    """Reads items as the images that a model takes.

    Args:
        shape: The shape (c, h, w) of the model's images.
        levels: The number of values of a stored pixel in the data that the model was built for; None for floats.
        own: Returns the data set that the model was trained on; called only for an index or a split of it.
        device: The device of the result.
        set_: The name of that data set: faces of `celeba` are cropped as its own.
        reading: The options that it was read with, such as `resize`; they apply to image files and arrays alike.
        data_dir: The folder searched first for published sets.
        table: The columns, of a model of a table, which takes tables and nothing else.
    """

    shape: tuple[int, int, int]
    levels: int | None
    own: Callable[[], Dataset]
    device: torch.device
    set_: str = ""
    reading: Mapping[str, object] | None = None
    data_dir: str | None = None
    table: TableSpec | None = None

    def read(self, items: Sequence[str], *, resize: bool = False, split: str | None = None) -> Items:
        """Reads items, in the order given.

        An index means an image of the test split, the name of a published set its test split, a folder or zip all of
        its images in the order of their names, a .npy, a .npz or a table all of its rows.

        Args:
            items: Indices, names of published sets, and paths of image files, folders, zips, .npy, .npz and tables.
            resize: Crop image files at the centre and scale them to the model's size.
            split: Of sets, .npy, .npz, folders and zips only this split, as in training: `train`, `validation`, `test`
                or `all`.

        Raises:
            InputError: If an item is not found or cannot be used, its images have another size, or there are none.
        """
        if not items:
            raise InputError("items: expected files, folders or indices, got none")
        return _joined([self._read(str(item), resize, split) for item in items])

    def decode(self, content: bytes, name: str) -> Items:
        """Reads the content of one image file, cropped at the centre and scaled to the model's size.

        Args:
            content: The bytes of the file.
            name: Its name.

        Raises:
            InputError: If it is not an image.
        """
        if self.table is not None:
            raise InputError(f"{name}: expected rows of a table, as the model was trained on, got an image")
        pixels = decode_image(content, name, self.shape, self.shape[1:], wide=self._wide)
        return self._items(torch.from_numpy(pixels.copy())[None], (name,))

    def _read(self, item: str, resize: bool, split: str | None) -> Items:
        if not item.strip():
            raise InputError(f"items: expected a file, a folder, a set or a test index, got {item!r}")
        path = expand_path(item)
        index = parse_int(item)
        several = item in PUBLISHED or is_image_collection(item) or path.suffix.lower() in (*ARRAYS, *TABLES)
        if split is not None and not (several and index is None):
            raise InputError(f"--split: expected a set, a folder, a zip, or a file of arrays or rows, got {item}")
        if index is not None:
            return self._own_item(index)
        is_table = path.suffix.lower() in TABLES
        if is_table != (self.table is not None):
            expected, got = ("images", "a table") if is_table else ("a table (.csv or .parquet)", "another file or set")
            raise InputError(f"{item}: expected {expected}, as the model was trained on, or a test index, got {got}")
        if item in PUBLISHED:
            own = item == self.set_
            return self._of_set(self.own() if own else load(item, self.data_dir), item, split or "test")
        if several:
            if split is not None:
                return self._of_set(self._load(item), item, split)
            return self._of_folder(item, resize) if is_image_collection(item) else self._of_array(item)
        pixels = load_image_file(path, self.shape, self._size(resize), fit=self._fit(resize), wide=self._wide)
        return self._items(torch.from_numpy(pixels.copy())[None], (item,))

    def _own_item(self, index: int) -> Items:
        data = self.own()
        if index >= len(data.test):
            raise InputError(
                f"{index}: expected a file, a set or a test index from 0 to {len(data.test) - 1}, got {index}"
            )
        return named_items(data, self.set_ or data.name, "test", slice(index, index + 1))

    def _of_set(self, data: Dataset, item: str, split: str) -> Items:
        images = data.part(split)
        self._check_shape(images.shape, item)
        if not len(images):
            raise InputError(f"{item}: expected images in the split {split}, got none")
        found = named_items(data, item, split, slice(None))
        return replace(found, images=found.images.to(self.device))

    def _load(self, item: str, shape: tuple[int, int] | None = None) -> Dataset:
        """A data set of the user's own, which may have few images."""
        options = applicable(item, dict(self.reading or {}))
        options |= {} if shape is None else {"shape": shape}
        return load(item, self.data_dir, **options, least=1, table=self.table)

    def _of_array(self, item: str) -> Items:
        try:  # rows (n, d) are reshaped
            data = self._load(item, self.shape[1:])
        except InputError:
            data = self._load(item)  # the images have another size, or the file cannot be read
        whole = data.part("all")
        self._check_shape(whole.shape, item)
        origin, classes = whole.origin, data.label_name
        parts = {name: len(part.pixels if part.rows is None else part.rows) for name, part in data.splits.items()}
        if origin is None or len(origin.unique()) < len(origin):  # arrays of several splits
            names = [f"{item}:{which}[{row}]" for which, count in parts.items() for row in range(count)]
        else:
            whole = whole[origin.argsort()]
            names = [f"{item}[{row}]" for row in range(len(whole))]
        labels = () if whole.labels is None else tuple(classes(label) for label in whole.labels.tolist())
        return Items(self._with_levels(whole, item), tuple(names), labels)

    def _of_folder(self, item: str, resize: bool) -> Items:
        path = expand_path(item)
        skip = bool((self.reading or {}).get("skip_bad"))
        if not path.exists():
            raise InputError(f"{item}: no such file or folder")
        pixels, names, classes = load_item_files(
            path, self.shape, self._size(resize), fit=self._fit(resize), wide=self._wide, skip_bad=skip
        )
        return self._items(
            torch.from_numpy(pixels), tuple(f"{item.rstrip('/')}/{name}" for name in names), tuple(classes)
        )

    def _items(self, pixels: Tensor, names: tuple[str, ...], labels: tuple[str, ...] = ()) -> Items:
        return Items(Images(pixels).to(self.device), names, labels)

    def _size(self, resize: bool) -> tuple[int, int] | None:
        """The size to scale image files to: the model's, if the run's own were resized or it is asked for."""
        return self.shape[1:] if resize or (self.reading or {}).get("resize") else None

    def _fit(self, resize: bool) -> Fit | None:
        return published.aligned_face if self.set_ == "celeba" and not resize else None

    @property
    def _wide(self) -> bool:
        """Whether the model's data are floats that were read from image files of 16 bits."""
        return self.levels is None and bool(self.set_) and expand_path(self.set_).suffix.lower() not in ARRAYS

    def _check_shape(self, shape: tuple[int, int, int], item: str) -> None:
        if shape != self.shape:
            raise InputError(
                f"{item}: expected images of {_size(self.shape)}, the model's, got {_size(shape)}; image files are "
                "scaled with --resize"
            )

    def _with_levels(self, images: Images, item: str) -> Images:
        """Stored values of an array with the levels of the model's data, on the device."""
        try:
            images = images.with_levels(self.levels)
        except InputError as e:
            raise InputError(f"{item}: {str(e).removeprefix('images: ')}, the levels of the model's data") from None
        return replace(images, labels=None).to(self.device)


def named_items(data: Dataset, name: str, split: str, index: slice) -> Items:
    """Images of a split: named by their files, or by the split and their place in it."""
    images = data.part(split)
    places = range(len(images))[index]
    files = data.files and images.origin is not None
    names = [data.source(split, i) if files else f"{name}:{split}[{i}]" for i in places]
    chosen = images[index]
    labels = () if chosen.labels is None else tuple(data.label_name(label) for label in chosen.labels.tolist())
    return Items(replace(chosen, labels=None), tuple(names), labels)


def _joined(parts: Sequence[Items]) -> Items:
    """All items together: stored values if all have the same levels, floats otherwise."""
    if len(parts) == 1:
        (only,) = parts
        return only
    names = tuple(name for part in parts for name in part.names)
    labelled = any(part.labels for part in parts)
    labels = tuple(label for part in parts for label in part.labels or ("",) * len(part)) if labelled else ()
    alike = len({(part.images.levels, part.images.pixels.dtype) for part in parts}) == 1
    pixels = torch.cat([part.images.stored() if alike else part.images.scaled() for part in parts])
    levels = parts[0].images.levels if alike else None
    return Items(Images(pixels, None, levels, checked=True), names, labels)


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
