"""Which rows of an array are for training, validation and testing: seeded, stratified by label, or given."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError

SPLIT_SEED = 0  # independent of the seed of a run, so that all runs have the same test set

#: The names of splits, and other names for them.
SPLIT_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "validation", "valid": "validation", "validation": "validation"},
}

#: The rows of each split by its name, or the name of the split of each row.
SplitsLike = Mapping[str, object] | Sequence[str] | np.ndarray


def random_rows(n: int, part: int = 10, labels: np.ndarray | None = None) -> dict[str, Tensor]:
    """A seeded split of n rows: one `part`-th for validation, another for testing; none of less than `part`.

    Args:
        n: The number of rows.
        part: 10 for 80/10/10.
        labels: Shape (n,): each class has the same fractions, up to one row; None for a split without regard to them.
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(SPLIT_SEED))
    held = n // part
    if labels is None:
        return {"train": order[: n - 2 * held], "validation": order[n - 2 * held : n - held], "test": order[n - held :]}
    # Of the rows sorted by class, every `part`-th is for testing, and the one before for validation.
    by_class = torch.from_numpy(np.argsort(labels[order.numpy()], kind="stable"))
    place = torch.empty_like(by_class)
    place[by_class] = torch.arange(n)
    kind = torch.where(place < held * part, place % part, 0)
    return {
        "train": order[kind < part - 2],
        "validation": order[kind == part - 2],
        "test": order[kind == part - 1],
    }


def given_rows(splits: SplitsLike, n: int, name: str, labels: np.ndarray | None = None) -> dict[str, Tensor]:
    """The rows of splits that the user names; a missing one is a seeded tenth of the training rows.

    Args:
        splits: The rows of each split by its name (`train`, `validation` or `val`, `test`), as indices or masks; or the
            name of each row's split, (n,).
        n: The number of rows.
        name: The name of the set, for errors.
        labels: Labels to stratify a missing split by, (n,), or None.

    Raises:
        InputError: If a name is unknown, a row is out of range or in two splits, or there is no row for training.
    """
    given = splits if isinstance(splits, Mapping) else _by_name(splits, n, name)
    rows: dict[str, Tensor] = {}
    for key, value in given.items():
        split = SPLIT_NAMES.get(str(key).lower())
        if split is None or split in rows:
            raise InputError(f"{name}: splits: expected train, validation and test, each once, got {list(given)}")
        rows[split] = torch.from_numpy(_indices(value, n, f"{name}: splits: {split}"))
    together = torch.cat(list(rows.values())) if rows else torch.empty(0, dtype=torch.long)
    counts = torch.bincount(together, minlength=n)
    if len(together) and int(counts.max()) > 1:
        raise InputError(f"{name}: splits: expected each row in one split, got row {int(counts.argmax())} twice")
    if not len(rows.get("train", ())):
        raise InputError(f"{name}: splits: expected rows for training, got {', '.join(rows) or 'no split'}")
    return with_missing(rows, labels)


def with_missing(rows: Mapping[str, Tensor], labels: np.ndarray | None = None) -> dict[str, Tensor]:
    """Takes a seeded tenth of the training rows for each of `validation` and `test` that is missing."""
    train = rows["train"]
    parts = random_rows(len(train), 10, None if labels is None else labels[train.numpy()])
    taken = {split: train[parts[split]] for split in ("validation", "test") if split not in rows}
    if not taken:
        return dict(rows)
    held = torch.cat(list(taken.values()))
    return {**rows, **taken, "train": train[~torch.isin(train, held)]}


def _by_name(names: Sequence[str] | np.ndarray, n: int, name: str) -> dict[str, np.ndarray]:
    values = np.asarray(names)
    if values.shape != (n,) or values.dtype.kind not in "UO":
        raise InputError(
            f"{name}: splits: expected the rows of each split by its name, or {n} names, got {values.dtype} "
            f"{values.shape}"
        )
    return {str(key): np.flatnonzero(values == key) for key in dict.fromkeys(values.tolist())}


def _indices(value: object, n: int, where: str) -> np.ndarray:
    rows = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
    if rows.dtype == bool and rows.shape == (n,):
        return np.flatnonzero(rows)
    if rows.size == 0:
        return np.empty(0, np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise InputError(f"{where}: expected rows, whole numbers or a mask of {n}, got {rows.dtype} {rows.shape}")
    if int(rows.min()) < 0 or int(rows.max()) >= n:
        raise InputError(f"{where}: expected rows from 0 to {n - 1}, got {int(rows.min())} to {int(rows.max())}")
    return rows.astype(np.int64)
