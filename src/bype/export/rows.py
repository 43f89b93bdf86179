"""Rows of a table in the units and with the columns of the user, as a .csv, .parquet or .npz file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from bype.core.files import write, write_csv
from bype.data.table_files import import_pandas
from bype.data.tables import TableSpec
from bype.export.npz import write_npz


def save_rows(
    path: Path, table: TableSpec, stored: Tensor, *, before: Mapping[str, Sequence[object]] | None = None,
    after: Mapping[str, Sequence[object]] | None = None,
) -> None:  # fmt: skip
    """Writes rows of a table by the names of its columns; of probabilities of categories the most probable one.

    Args:
        path: The file; a .npz has an array for each column.
        table: The columns.
        stored: The rows as a model makes them, (n, 1, 1, D).
        before: Columns that come first, by name. One that the table has too gets `_` after its name.
        after: Columns that come last.

    Raises:
        InputError: If the file cannot be written, or a .parquet is asked for without pandas and pyarrow.
    """
    own = table.named(stored.detach().double().flatten(1).cpu().numpy())
    columns = _renamed(before or {}, own) | own | _renamed(after or {}, own)
    if path.suffix == ".npz":
        write_npz(path, {name: _as_array(values) for name, values in columns.items()})
    elif path.suffix == ".csv":
        write_csv(path, list(columns), zip(*(list(values) for values in columns.values()), strict=True))
    else:
        _write_parquet(path, columns)


def _renamed(columns: Mapping[str, Sequence[object]], own: Mapping[str, object]) -> dict[str, Sequence[object]]:
    renamed = {}
    for name, values in columns.items():
        while name in own:
            name += "_"
        renamed[name] = values
    return renamed


def _as_array(values: Sequence[object] | np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    return array.astype(str) if array.dtype == object else array  # objects would be a pickle


def _write_parquet(path: Path, columns: Mapping[str, Sequence[object] | np.ndarray]) -> None:
    pandas = import_pandas(str(path))
    write(path, lambda temporary: pandas.DataFrame(dict(columns)).to_parquet(temporary, index=False))
