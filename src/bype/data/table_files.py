"""Tables from .csv and .parquet files."""

import csv
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from bype.core.errors import InputError, first_line
from bype.data.checks import LEAST_IMAGES, as_float32, check_labels
from bype.data.frames import columns_of, encoded
from bype.data.images import Dataset
from bype.data.splits import split, training_rows
from bype.data.tables import TableSpec, find_columns


def load_table(
    path: Path,
    name: str,
    *,
    labels_key: str | None = None,
    least: int = LEAST_IMAGES,
    table: TableSpec | None = None,
) -> Dataset:
    """A table in a seeded 80/10/10 split; its columns are real, binary or categorical (`find_columns`).

    A .csv file is separated by commas, semicolons or tabs; its first line has the names of the columns unless it has
    numbers. A .parquet file needs the extra `tables`.

    Args:
        path: The file.
        name: Its name in error messages.
        labels_key: The column of labels, which is not modelled.
        least: The smallest number of rows.
        table: Store the rows by the columns of this table, such as that of a trained model; others are ignored, and
            labels may be missing. By default the columns are found in the file.

    Raises:
        InputError: If the file cannot be read, has too few rows, or a value is missing or not finite.
    """
    if path.suffix.lower() == ".parquet":
        names, columns = _read_parquet(path, name)
    else:
        names, columns = _read_csv(path, name, text=() if table is None else table.text_columns)
    labels: np.ndarray | None = None
    if labels_key and (table is None or labels_key in names):
        if labels_key not in names:
            raise InputError(f"{name}: expected a column {labels_key!r} of labels, got the columns {', '.join(names)}")
        i = names.index(labels_key)
        labels = columns[i]
        names, columns = names[:i] + names[i + 1 :], columns[:i] + columns[i + 1 :]
    return from_columns(names, columns, name, labels, least=least, table=table)


def from_columns(
    names: Sequence[str],
    columns: Sequence[np.ndarray],
    name: str,
    labels: np.ndarray | None = None,
    *,
    least: int = LEAST_IMAGES,
    table: TableSpec | None = None,
) -> Dataset:
    """A table in a seeded 80/10/10 split from its columns.

    Args:
        names: The names of the columns.
        columns: Their values, (n,) each.
        name: The name of the table in error messages.
        labels: The label of each row, (n,), or None.
        least: The smallest number of rows.
        table: As for `load_table`.

    Raises:
        InputError: If there are too few rows, or a value is missing or not finite.
    """
    if not columns or len(columns[0]) < least:
        raise InputError(f"{name}: expected at least {least} rows of columns, got {len(columns[0]) if columns else 0}")
    if table is None:
        try:
            spec = find_columns(columns, names, train=training_rows(len(columns[0])))
        except InputError as e:
            raise InputError(f"{name}: {e}") from None
    else:
        spec, columns = table, columns_of(table, dict(zip(names, columns, strict=True)), name)
    targets, classes = (None, ()) if labels is None else check_labels(labels, len(columns[0]), name)
    stored = as_float32(encoded(spec, columns, name))
    if not np.isfinite(stored).all():
        row = int((~np.isfinite(stored)).any(1).argmax())
        raise InputError(
            f"{name}: expected values that fit into float32 when standardised, got a larger one in row {row}"
        )
    stored = stored.reshape(-1, *spec.shape)
    return replace(split(stored, targets, name, 256, classes=classes), table=spec)


def _read_csv(path: Path, name: str, text: Collection[str] = ()) -> tuple[list[str], list[np.ndarray]]:
    """The names and the columns of a file; those named in `text` are text even if all their cells are numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            head = f.read(HEAD)
            f.seek(0)
            separator = max(",;\t", key=head.partition("\n")[0].count)
            lines = [line for line in csv.reader(f, delimiter=separator) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise InputError(
            f"{name}: expected a table in UTF-8, got a file that cannot be read ({first_line(e)})"
        ) from None
    if not lines:
        raise InputError(f"{name}: expected a table, got an empty file")
    first = [cell.strip() for cell in lines[0]]
    has_names = not any(map(_is_number, first))
    names = first if has_names else [f"x{i}" for i in range(len(first))]
    if twice := [n for n in names if names.count(n) > 1]:
        raise InputError(f"{name}: expected columns of different names, got {twice[0]!r} twice")
    rows = lines[1:] if has_names else lines
    for number, row in enumerate(rows, 2 if has_names else 1):
        if len(row) != len(names):
            raise InputError(f"{name}: expected {len(names)} values in line {number}, got {len(row)}")
    return names, [_column([row[i].strip() for row in rows], text=n in text) for i, n in enumerate(names)]


def _column(cells: Sequence[str], *, text: bool = False) -> np.ndarray:
    """Numbers if all cells are numbers or missing, else text."""
    if not text and all(_is_number(cell) or cell.lower() in MISSING for cell in cells):
        return np.array([np.nan if cell.lower() in MISSING else float(cell) for cell in cells])
    return np.array(["" if cell.lower() in MISSING else cell for cell in cells], object)


HEAD = 64 * 1024  # characters in which the separator is looked for
#: How tables write a missing value.
MISSING = ("", "na", "nan", "null", "none", "?")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.lower() not in MISSING


def import_pandas(where: str) -> ModuleType:
    """pandas, which reads and writes .parquet with pyarrow.

    Raises:
        InputError: If one of them is not installed; `where` names the file.
    """
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(f"{where}: .parquet needs pandas and pyarrow: pip install 'bype[tables]'") from None
    return pandas


def _read_parquet(path: Path, name: str) -> tuple[list[str], list[np.ndarray]]:
    pandas = import_pandas(name)
    try:
        frame = pandas.read_parquet(path)
    except (OSError, ValueError) as e:  # pyarrow's errors are ValueErrors
        raise InputError(f"{name}: expected a parquet file, got one that cannot be read ({first_line(e)})") from None
    return [str(c) for c in frame.columns], [frame[c].to_numpy() for c in frame.columns]
