"""Data frames of pandas or polars, and other rows of a table, as the columns that a `TableSpec` has."""

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from bype.core.errors import InputError
from bype.data.tables import TableSpec

log = logging.getLogger("bype")


class Series(Protocol):
    """A column of a data frame."""

    def to_numpy(self) -> np.ndarray:
        """The values, (n,)."""


@runtime_checkable
class Frame(Protocol):
    """A data frame of pandas or polars."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of the columns."""

    def to_numpy(self) -> np.ndarray:
        """The values, (n, columns)."""

    def __getitem__(self, name: str, /) -> Series: ...


def frame_columns(values: object, where: str) -> dict[str, np.ndarray] | None:
    """The columns of a data frame by name; None if it is none.

    Args:
        values: The data frame, or any other value.
        where: What it is, for errors.

    Raises:
        InputError: If it is a polars LazyFrame, or two columns have one name.
    """
    if hasattr(values, "collect_schema") and not hasattr(values, "to_numpy"):
        raise InputError(f"{where}: expected a data frame, got a polars LazyFrame; call {where}.collect()")
    if not isinstance(values, Frame):
        return None
    if len(set(values.columns)) < len(values.columns):
        raise InputError(f"{where}: expected columns of different names, got a name twice")
    return {str(name): np.asarray(values[name].to_numpy()) for name in values.columns}


def columns_of(table: TableSpec, columns: Mapping[str, np.ndarray], where: str) -> list[np.ndarray]:
    """The columns of a table by their names, in its order; others are ignored, which a warning says.

    Args:
        table: The table.
        columns: Columns by name.
        where: What they are, for messages.

    Raises:
        InputError: If one is missing.
    """
    names = [c.name for c in table.columns]
    if missing := [name for name in names if name not in columns]:
        raise InputError(f"{where}: expected the columns {_listed(names)}, got none named {missing[0]!r}")
    if others := [name for name in columns if name not in names]:
        log.warning("%s: columns that the model's table does not have are ignored: %s", where, _listed(others))
    return [columns[name] for name in names]


def encode_rows(table: TableSpec, values: object, where: str) -> np.ndarray | None:
    """The stored rows (n, D) of a data frame, or of an array or tensor (n, columns) in the units of the table.

    Args:
        table: The table.
        values: The rows.
        where: What they are, for errors.

    Returns:
        The rows, which may lie outside [0, 1] where they are far from the training rows; None if `values` is neither a
        frame nor has two axes.

    Raises:
        InputError: If a column is missing, or a value is missing, not finite, or not a known category.
    """
    columns = row_columns(table, values, where)
    return None if columns is None else encoded(table, columns, where)


def row_columns(table: TableSpec, values: object, where: str) -> list[np.ndarray] | None:
    """The columns of a table from a data frame, or from an array or tensor (n, columns); None of anything else.

    Raises:
        InputError: If a column of a frame is missing, or an array has another number of columns.
    """
    frame = frame_columns(values, where)
    if frame is not None:
        return columns_of(table, frame, where)
    if isinstance(values, Tensor | np.ndarray) and values.ndim == 2:
        if values.shape[1] != len(table.columns):
            raise InputError(f"{where}: expected {len(table.columns)} columns, got {values.shape[1]}")
        return list((values.detach().cpu().numpy() if isinstance(values, Tensor) else values).T)
    return None


def encoded(table: TableSpec, columns: Sequence[np.ndarray], where: str) -> np.ndarray:
    """The stored rows (n, D) of columns, with the place of a fault in its error.

    Raises:
        InputError: As `TableSpec.encode`.
    """
    try:
        return table.encode(columns)
    except InputError as e:
        raise InputError(f"{where}: {str(e).removeprefix('table: ')}") from None


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} columns)" if len(names) > most else "")
