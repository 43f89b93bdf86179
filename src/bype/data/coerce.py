"""One door for data: data sets, paths, arrays, data frames, torch data sets and loaders become a `Dataset`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.data.arraylike import as_array
from bype.data.catalog import load
from bype.data.frames import Frame, frame_columns, row_columns
from bype.data.images import Dataset, Images
from bype.data.reading import is_labelled
from bype.data.splits import from_arrays
from bype.data.table_files import from_columns
from bype.data.tables import TableSpec
from bype.data.torch_sets import Source, from_torch

#: What public functions take as data.
DataLike = Dataset | str | Path | Frame | Source | Mapping[str, Source]


def as_dataset(
    data: DataLike,
    device: torch.device | str = "cpu",
    *,
    shape: tuple[int, int, int] | None = None,
    levels: int | None = None,
    table: TableSpec | None = None,
) -> Dataset:
    """Data in any accepted form as a `Dataset`; everything but a `Dataset` in the same seeded splits whenever called.

    Args:
        data: One of

            - a `Dataset`, which is returned as it is;
            - the name of a published set, or a path, as for `bype.load`;
            - an array or tensor of images, as for `bype.from_arrays`, or a pair of them and their labels;
            - a data frame of pandas or polars, or a pair of it and labels: a table; for a model of images its columns
              are the pixels;
            - a torch or Hugging Face data set, a list of items, an iterable of batches whose number is known, or a
              dictionary of these by the names of their splits, as for `bype.from_torch`.
        device: The device of the result, if `data` is not a `Dataset`.
        shape: The shape (c, h, w) of the images of the model that is to take the data, if there is one.
        levels: The number of values of a stored pixel in the data that the model was built for.
        table: The columns, of a model of a table.

    Raises:
        InputError: If it is something else, or cannot be read as what it is.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Images):
        raise InputError("data: expected a data set in splits, got bype.Images, one split; pass the whole Dataset")
    if isinstance(data, str | Path):
        return load(data, table=table).to(device)
    values, labels = _with_labels(data)
    columns = frame_columns(values, "data")
    if table is not None and (rows := row_columns(table, values, "data")) is not None:
        found = _table([c.name for c in table.columns], rows, labels, table)
    elif columns is not None and shape is None:
        found = _table(list(columns), list(columns.values()), labels)
    elif columns is not None or isinstance(values, Tensor | np.ndarray):
        size = shape[1:] if shape is not None and getattr(values, "ndim", 2) == 2 else None
        found = from_arrays(values, labels, shape=size)
    else:
        found = from_torch(cast(Source, values))
    train, validation, test = (part.with_levels(levels) for part in found.splits.values())
    return replace(found, train=train, validation=validation, test=test).to(device)


def _with_labels(data: object) -> tuple[object, object]:
    """Data and their labels: those of a pair of an array or a frame and labels, or None."""
    if isinstance(data, tuple) and is_labelled(data) and isinstance(data[0], Tensor | np.ndarray | Frame):
        return data[0], data[1]
    return data, None


def _table(
    names: Sequence[str], columns: Sequence[np.ndarray], labels: object, table: TableSpec | None = None
) -> Dataset:
    targets = None if labels is None else as_array(labels, "data: labels")
    return from_columns(names, columns, "data", targets, table=table)
