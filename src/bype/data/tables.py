"""Tables: rows of real, binary and categorical columns, stored as images (1, 1, D) with values in [0, 1].

A real column is standardised to z = (x - mean) / sd and stored as t = 1/2 + z/span, with a span that maps all values to
[0, 1]. A binary column is stored as 0 or 1; a categorical one as a value per category, one at its category and zeros
elsewhere. A constant column is not modelled: it is left out, and filled in again where rows are made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bype.core.errors import InputError

#: Standard deviations of a real column that fit into [0, 1]; more if a value is further away from the mean.
SPAN = 12.0
#: The largest number of categories of a column.
MOST_CATEGORIES = 1000

KINDS = ("normal", "binary", "categorical", "constant")

#: The value of a category.
Category = str | float | bool


class Column(NamedTuple):
    """A column of a table."""

    name: str
    kind: str  # one of KINDS
    mean: float = 0.0  # of a normal column
    sd: float = 1.0
    span: float = SPAN
    categories: tuple[Category, ...] = ()  # sorted; of a constant column its value

    @property
    def width(self) -> int:
        """The number of stored values."""
        return {"normal": 1, "binary": 1, "categorical": len(self.categories), "constant": 0}[self.kind]


@dataclass(frozen=True)
class TableSpec:
    """The columns of a table, as found in its training rows.

    Args:
        columns: The columns.
    """

    columns: tuple[Column, ...]

    @property
    def width(self) -> int:
        """The number D of stored values of a row."""
        return sum(c.width for c in self.columns)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a stored row as an image, (1, 1, D)."""
        return 1, 1, self.width

    def places(self, kind: str) -> list[tuple[int, int]]:
        """The places [start, stop) of the columns of a kind in a stored row."""
        found, start = [], 0
        for c in self.columns:
            if c.kind == kind:
                found.append((start, start + c.width))
            start += c.width
        return found

    def of_kind(self, kind: str) -> list[Column]:
        """The columns of a kind."""
        return [c for c in self.columns if c.kind == kind]

    @property
    def text_columns(self) -> list[str]:
        """The names of the columns whose categories are text."""
        return [c.name for c in self.columns if c.categories and all(isinstance(v, str) for v in c.categories)]

    def encode(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """The stored rows, (n, D) float64; rows far from the training rows may have values outside [0, 1].

        Args:
            columns: The values of each column, (n,) each.

        Raises:
            InputError: If the number of columns differs, or a value is missing, not finite or not a known category.
        """
        if len(columns) != len(self.columns):
            raise InputError(f"table: expected {len(self.columns)} columns, got {len(columns)}")
        n = len(columns[0])
        out = np.empty((n, self.width))
        start = 0
        for c, values in zip(self.columns, columns, strict=True):
            check_present(values, c.name)
            if c.kind == "normal":
                out[:, start] = 0.5 + (as_floats(values, c.name) - c.mean) / c.sd / c.span
            elif c.kind != "constant":
                index = _category_index(values, c)
                if c.kind == "binary":
                    out[:, start] = index
                else:
                    out[:, start : start + c.width] = np.eye(c.width)[index]
            start += c.width
        return out

    def decode(self, stored: np.ndarray) -> list[np.ndarray]:
        """The columns of stored rows (n, D) in the table's units; the most probable category of probabilities."""
        columns: list[np.ndarray] = []
        start = 0
        for c in self.columns:
            part = stored[:, start : start + c.width]
            start += c.width
            if c.kind == "normal":
                columns.append((part[:, 0] - 0.5) * c.span * c.sd + c.mean)
                continue
            if c.kind == "constant":
                index = np.zeros(len(stored), int)
            else:
                index = (part[:, 0] >= 0.5).astype(int) if c.kind == "binary" else part.argmax(1)
            columns.append(np.array(c.categories)[index])
        return columns

    def named(self, stored: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of stored rows (n, D) by name, in the table's units, for example for `pandas.DataFrame`.

        Real columns are rounded to about a millionth of their standard deviation, as far as stored rows are exact.
        """
        columns = {}
        for c, values in zip(self.columns, self.decode(stored), strict=True):
            decimals = 6 - math.floor(math.log10(c.sd))
            columns[c.name] = values.round(decimals) if c.kind == "normal" else values
        return columns

    def to_json(self) -> list[dict[str, object]]:
        """The columns as a JSON value."""
        return [c._asdict() | {"categories": list(c.categories)} for c in self.columns]

    @classmethod
    def from_json(cls, value: object, where: str) -> "TableSpec":
        """Makes a spec from the result of `to_json`.

        Raises:
            InputError: If it is another value.
        """
        columns = []
        for entry in value if isinstance(value, list) else [None]:
            if not isinstance(entry, dict) or entry.keys() != set(Column._fields) or entry["kind"] not in KINDS:
                raise InputError(f"{where}: expected the columns of a table, got {entry!r:.60}")
            numbers = [entry[name] for name in ("mean", "sd", "span")]
            if not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers) or not min(numbers[1:]) > 0:
                raise InputError(f"{where}: expected finite mean, sd and span of column {entry['name']!r:.40}")
            if not isinstance(entry["categories"], list) or len(entry["categories"]) > MOST_CATEGORIES:
                raise InputError(f"{where}: expected the categories of column {entry['name']!r:.40}")
            name, kind, categories = str(entry["name"]), str(entry["kind"]), tuple(entry["categories"])
            mean, sd, span = map(float, numbers)
            columns.append(Column(name, kind, mean, sd, span, categories))
        return cls(tuple(columns))


def find_columns(
    columns: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    mixed: bool = True,
    categorical: Sequence[str] = (),
    train: np.ndarray | None = None,
) -> TableSpec:
    """Finds the kind of each column.

    With `mixed`, text, booleans and the columns named in `categorical` are categorical, or binary if they have two
    categories, as are numbers that are only 0 and 1. All other columns are real.

    Args:
        columns: The values of each column, (n,) each.
        names: Their names.
        mixed: Whether columns may be binary or categorical.
        categorical: Names of columns of numbers that are categories.
        train: The rows that means and standard deviations are computed from, (k,); all by default. Spans cover all.

    Raises:
        InputError: If a value is missing or not finite, a column that must be real is text, a column has too many
            categories, no column varies, or a name in `categorical` is unknown.
    """
    if unknown := [name for name in categorical if name not in names]:
        raise InputError(f"categorical: expected names of columns, got {unknown[0]!r}")
    rows = slice(None) if train is None else train
    found = tuple(
        _find_column(values, name, rows, mixed=mixed, forced=name in categorical)
        for name, values in zip(names, columns, strict=True)
    )
    if all(c.kind == "constant" for c in found):
        raise InputError(f"table: expected a column that varies, got constants in {', '.join(names[:3])}")
    return TableSpec(found)


def _find_column(values: np.ndarray, name: str, rows: slice | np.ndarray, *, mixed: bool, forced: bool) -> Column:
    check_present(values, name)
    text = values.dtype.kind in "OSUT" and not _all_numbers(values)
    if text and not mixed:
        raise InputError(f"column {name}: expected numbers, got text such as {values[0]!r:.40}; use likelihood 'mixed'")
    as_categories = mixed and (text or forced or values.dtype.kind == "b")
    numbers = None if as_categories else as_floats(values, name)
    if numbers is not None and mixed and np.isin(numbers, (0.0, 1.0)).all():
        as_categories = True
        values = numbers
    if as_categories:
        categories = tuple(np.unique(values.astype(str) if text else values).tolist())
        if len(categories) > MOST_CATEGORIES:
            raise InputError(f"column {name}: expected at most {MOST_CATEGORIES} categories, got {len(categories)}")
        kind = {1: "constant", 2: "binary"}.get(len(categories), "categorical")
        return Column(name, kind, categories=categories)
    assert numbers is not None
    own = numbers[rows]
    mean = float(own.mean())
    deviation = np.abs(numbers - mean).max()
    sd = float(own.std())
    if not sd > 1e-12 * max(1.0, abs(mean)):  # no more than rounding
        if numbers.min() == numbers.max() or not mixed:
            return Column(name, "constant", categories=(float(numbers[0]),))
        sd = float(deviation)
    return Column(name, "normal", mean, sd, max(SPAN, 2.02 * float(deviation) / sd))


def _all_numbers(values: np.ndarray) -> bool:
    return values.dtype == object and all(
        isinstance(v, int | float | np.number) and not isinstance(v, bool | np.bool_) for v in values
    )


def as_floats(values: np.ndarray, name: str) -> np.ndarray:
    """A column as float64.

    Raises:
        InputError: If it is not numbers, or one is not finite.
    """
    if values.dtype.kind in "mMc":
        kind = "complex numbers" if values.dtype.kind == "c" else "times"
        raise InputError(f"column {name}: expected real numbers, got {kind}; convert them, for example to days")
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"column {name}: expected numbers, got text such as {_first_text(values)!r:.40}") from None
    if not np.isfinite(numbers).all():
        raise InputError(
            f"column {name}: expected finite numbers, got infinity in row {int(np.isinf(numbers).argmax())}"
        )
    return numbers


def _first_text(values: np.ndarray) -> object:
    """The first value that is not a number."""
    for value in values.tolist():
        try:
            float(value)
        except (TypeError, ValueError):
            return value
    return values[0]


def check_present(values: np.ndarray, name: str) -> None:
    """Raises an InputError that names the column if a value is missing: NaN, None, or empty text."""
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    elif values.dtype == object:
        missing = np.array([v is None or v == "" or (v != v) is True or type(v).__name__ == "NAType" for v in values])
    elif values.dtype.kind in "SUT":
        missing = values == ""
    else:
        return
    if missing.any():
        count, row = int(missing.sum()), int(missing.argmax())
        raise InputError(
            f"column {name}: expected no missing values (NaN), got {count}, the first in row {row}; drop these "
            "rows, or fill them, for example with sklearn.impute.SimpleImputer"
        )


def _category_index(values: np.ndarray, column: Column) -> np.ndarray:
    known = np.array(column.categories)
    own = values.astype(str) if known.dtype.kind == "U" else as_floats(values, column.name).astype(known.dtype)
    index = np.searchsorted(known, own).clip(max=len(known) - 1)
    if (wrong := known[index] != own).any():
        shown = ", ".join(str(c) for c in column.categories[:5])
        raise InputError(f"column {column.name}: expected one of {shown}, got {own[wrong.argmax()]!s:.40}")
    return index
