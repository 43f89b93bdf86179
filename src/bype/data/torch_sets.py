"""Data sets from torch data sets, Hugging Face data sets and loaders."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from bype.core.errors import InputError
from bype.core.torch_state import fixed_torch_state
from bype.data.archives import check_room
from bype.data.checks import LEAST_IMAGES, check_labels, check_values, warn_of_likely_mistakes
from bype.data.frames import frame_columns
from bype.data.images import Dataset
from bype.data.reading import Batch, Reader, is_batch, is_labelled
from bype.data.rows import SPLIT_NAMES, SplitsLike, given_rows, random_rows, with_missing
from bype.data.splits import from_rows

READ_AT_ONCE = 100  # items that are read together


@runtime_checkable
class MapStyle(Protocol):
    """A data set whose items are read by their number: of torch, torchvision or Hugging Face."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


@runtime_checkable
class Batches(Protocol):
    """An iterable of batches whose number is known, such as a `DataLoader`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[object]: ...


Source = MapStyle | Batches


@fixed_torch_state()
def from_torch(
    train: Source | Mapping[str, Source],
    validation: Source | None = None,
    test: Source | None = None,
    *,
    name: str = "torch",
    image_key: str | None = None,
    label_key: str | None = None,
    stratify: bool = False,
    splits: SplitsLike | None = None,
    fresh: bool = False,
    workers: int = 0,
) -> Dataset:
    """A data set from torch data sets, Hugging Face data sets, or iterables of batches whose number is known.

    Every item is read once, through your transforms, and kept in memory; a set that does not fit belongs into a `.npy`.
    With `fresh=True`, the network steps of each epoch read the training items again, so that a random transform gives
    others. Everything else keeps the first reading: validation, the points of a prior (pseudo-inputs, exemplars), step
    (ii), and the data's checksum.

    Args:
        train: The training data, or all data in splits by their name (a `DatasetDict`). An item is an image, (image,
            label) or a dictionary; an image is a tensor or array (c, h, w) or (h, w), an array (h, w, c), or a PIL
            image; uint8, or floats in [0, 1].
        validation: The validation data; by default a seeded tenth of `train`.
        test: The test data; by default a seeded tenth of `train`.
        name: The name of the set.
        image_key: The key of images in items that are dictionaries; by default a usual one, such as `image`.
        label_key: The key of labels; by default a usual one, such as `label`; "" reads no labels.
        stratify: Whether each class has the same fraction of a split that is taken from `train`.
        splits: The rows of the splits of `train`, as in `from_arrays`.
        fresh: Read the training items again in each epoch. The global random generators of torch, numpy and Python are
            seeded for each epoch, and restored after it, so that a resumed run reads the same.
        workers: Processes that read items; those of a `DataLoader` are its own.

    Raises:
        InputError: If the length is not known, an item is not an image of the first one's shape and kind, a float is
            not in [0, 1], splits contradict one another, or `fresh` batches would hold validation items.
    """
    sources = _sources(train, validation, test, name)
    if splits is not None and len(sources) > 1:
        raise InputError(f"{name}: splits: expected one data set to split, got {', '.join(sources)}")
    reader = Reader(name, image_key, label_key)
    opened = {split: _opened(source, f"{name}: {split}", workers) for split, source in sources.items()}
    parts = {split: _gathered(source, reader, name) for split, source in opened.items()}
    pixels = np.concatenate([images for images, _ in parts.values()])
    if len(pixels) < LEAST_IMAGES:
        raise InputError(f"{name}: expected at least {LEAST_IMAGES} images, got {len(pixels)}")
    _, high = check_values(pixels, name, 256)
    warn_of_likely_mistakes(pixels, high, 256, name)
    targets, classes = _labels(parts, name)
    if not classes:
        classes = _class_names(sources["train"], reader.label_key, targets)
    if stratify and targets is None:
        raise InputError(f"{name}: expected labels to stratify by, got none")
    by = targets if stratify else None
    if splits is not None:
        rows = given_rows(splits, len(pixels), name, by)
    elif len(parts) == 1:
        rows = random_rows(len(pixels), 10, by)
    else:
        stops = np.cumsum([len(images) for images, _ in parts.values()])
        own = {s: torch.arange(stop - len(parts[s][0]), stop) for s, stop in zip(parts, stops.tolist(), strict=True)}
        rows = with_missing(own, by)
    data = from_rows(pixels, targets, name, 256, {s: rows[s] for s in ("train", "validation", "test")}, classes=classes)
    if not fresh:
        return data
    return replace(data, fresh=_fresh(opened["train"], reader, rows["train"], len(parts["train"][0]), name))


def read_images(source: Source, name: str, *, grey: bool) -> np.ndarray:
    """All images of a torch data set, a Hugging Face data set or a loader, in order, (n, c, h, w) uint8 or float32.

    Each item is read once, through the set's transforms; labels are left out. A plain `DataLoader` gives the items in
    the order of its data set.

    Args:
        source: The data set.
        name: Its name in errors.
        grey: Whether PIL images are read as grey, or in colour.

    Raises:
        InputError: If the length is not known or 0, or an item is not an image of the first one's shape and kind.
    """
    images, _ = _gathered(_opened(source, name, 0), Reader(name, label_key="", grey=grey), name)
    return images


class FreshItems:
    """The training items of a map-style data set, read again in each epoch; the model knows which they are.

    Args:
        items: The data set and its reading processes.
        reader: How items are read.
        rows: The items that are for training, (N,).
    """

    knows_rows = True

    def __init__(self, items: "_Items", reader: Reader, rows: Tensor) -> None:
        self._items, self._reader, self._rows = items, reader, rows

    def steps(self, batch_size: int) -> int:
        """The number of batches of an epoch."""
        return -(-len(self._rows) // batch_size)

    def epoch(self, batches: Sequence[Tensor], seed: int) -> Iterator[np.ndarray]:
        """The stored images of each batch of one epoch, given by its rows in the training set."""
        rows = [self._rows[index.cpu()].tolist() for index in batches]
        with _seeded(seed):
            for items in self._items.read(rows):
                yield self._reader.items(items).images


class FreshBatches:
    """Batches of an iterable, as it yields them in each epoch; which items they hold is not known."""

    knows_rows = False

    def __init__(self, batches: Batches, reader: Reader) -> None:
        self._batches, self._reader = batches, reader

    def steps(self, batch_size: int) -> int:
        """The number of batches of an epoch, whose size is their own."""
        return len(self._batches)

    def epoch(self, batches: Sequence[Tensor], seed: int) -> Iterator[np.ndarray]:
        """The stored images of each batch of one epoch; the rows are of no use."""
        with _seeded(seed):
            for batch in self._batches:
                yield self._reader.batch(batch).images


class _Items:
    """A map-style data set, and the number of processes that read it."""

    def __init__(self, dataset: MapStyle, workers: int) -> None:
        self.dataset, self.workers = dataset, workers

    def read(self, rows: Sequence[Sequence[int]]) -> Iterator[list[object]]:
        """The items in the order of `rows`, batch by batch."""
        # A DataLoader accepts any object with a length and items.
        yield from DataLoader(
            cast("torch.utils.data.Dataset[object]", self.dataset),
            batch_sampler=cast("torch.utils.data.Sampler[list[int]]", rows),
            num_workers=self.workers,
            collate_fn=list,
        )


def _sources(train: object, validation: object, test: object, name: str) -> dict[str, Source]:
    """The data of each split, in the order training, validation, test."""
    given: dict[str, object] = {}
    if isinstance(train, Mapping):
        if validation is not None or test is not None:
            raise InputError(f"{name}: expected splits by their name, or validation and test beside train, got both")
        for key, value in train.items():
            split = SPLIT_NAMES.get(str(key).lower())
            if split is None or split in given:
                names = ", ".join(map(str, train))
                raise InputError(f"{name}: expected the splits train, validation and test, got {names}")
            given[split] = value
    else:
        given = {"train": train} | {k: v for k, v in (("validation", validation), ("test", test)) if v is not None}
    if "train" not in given:
        raise InputError(f"{name}: expected a split train, got {', '.join(given) or 'none'}")
    return {split: cast(Source, given[split]) for split in ("train", "validation", "test") if split in given}


def _opened(source: object, where: str, workers: int) -> _Items | Batches:
    """A source whose length is known; a plain loader of a map-style data set is that data set."""
    try:
        length = len(source)  # type: ignore[arg-type]
    except TypeError:
        length = None
    if not length:
        raise InputError(
            f"{where}: expected a map-style data set, or batches whose number is known, got "
            f"{type(source).__qualname__} " + ("without a length" if length is None else "of length 0")
        )
    if isinstance(source, DataLoader):
        items = source.dataset
        return _Items(items, source.num_workers) if isinstance(items, MapStyle) and _reads_all(source) else source
    if isinstance(source, list | tuple) and is_batch(source[0]):
        return [source] if is_labelled(source) else source
    if frame_columns(source, where) is not None:
        raise InputError(f"{where}: expected images, got a data frame; a table is passed alone, without splits")
    if isinstance(source, MapStyle):
        return _Items(source, workers)
    if isinstance(source, Batches):
        return source
    got = type(source).__qualname__
    raise InputError(f"{where}: expected a map-style data set or an iterable of batches, got {got}")


def _reads_all(loader: "DataLoader[object]") -> bool:
    """Whether a loader yields each item of its data set once, put together in the usual way, in whatever order."""
    if loader.collate_fn is not default_collate or loader.drop_last or loader.batch_size is None:
        return False
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler):
        return not sampler.replacement and len(sampler) == len(sampler.data_source)
    return isinstance(sampler, SequentialSampler)


def _gathered(source: _Items | Batches, reader: Reader, name: str) -> tuple[np.ndarray, list[object] | None]:
    """All images of a source, (n, c, h, w), and their labels."""
    images: list[np.ndarray] = []
    labels: list[object] | None = []
    if isinstance(source, _Items):
        n = len(source.dataset)
        rows = [range(start, min(n, start + READ_AT_ONCE)) for start in range(0, n, READ_AT_ONCE)]
        batches: Iterable[Batch] = map(reader.items, source.read(rows))
        steps = len(rows)
    else:
        batches, steps = map(reader.batch, source), len(source)
    for batch in batches:
        if not images:
            check_room(batch.images.nbytes * steps, name)
        images.append(batch.images)
        labels = None if labels is None or batch.labels is None else labels + batch.labels
    if not images:
        raise InputError(f"{name}: expected batches of images, got none")
    return np.concatenate(images), labels


def _labels(
    parts: Mapping[str, tuple[np.ndarray, list[object] | None]], name: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    together: list[object] = []
    for images, labels in parts.values():
        if labels is None or len(labels) != len(images):
            return None, ()
        together += labels
    return check_labels(np.array(together, object), len(together), name)


def _class_names(source: object, label_key: str | None, targets: np.ndarray | None) -> tuple[str, ...]:
    """The names of the classes that torchvision (`classes`) or Hugging Face (`features`) know; empty if none."""
    features = getattr(source, "features", None)
    feature = features.get(label_key) if isinstance(features, Mapping) else None
    names = getattr(feature, "names", None) or getattr(source, "classes", None)
    if targets is None or not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        return ()
    return tuple(names) if int(targets.max()) < len(names) else ()


def _fresh(source: _Items | Batches, reader: Reader, rows: Tensor, n: int, name: str) -> FreshItems | FreshBatches:
    if isinstance(source, _Items):
        return FreshItems(source, reader, rows)
    if len(rows) != n:
        raise InputError(
            f"{name}: fresh: expected validation= and test= beside an iterable of batches: which items it yields is "
            "not known, so that those held out of it would be trained on"
        )
    return FreshBatches(source, reader)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators of torch, numpy and Python, which transforms use; restores them at the end."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
