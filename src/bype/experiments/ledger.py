"""Results as a ledger: one finished experiment, one small JSON file, so that shards merge by copying."""

import re
from pathlib import Path
from typing import cast

from bype.core.errors import InputError
from bype.core.files import read_json, write_json
from bype.core.names import ARCHS, PRIORS, STRATEGIES
from bype.experiments.catalog.registry import EXPERIMENTS
from bype.experiments.records import CellRecord, hash_settings, record_id

#: No metric of ours is larger in absolute value.
LARGEST = 1e15

_KINDS: dict[str, type | tuple[type, ...]] = {
    "experiment": str, "set": str, "arch": str, "prior": str, "coreset": (str, type(None)), "precision": str,
    "seed": int, "protocol": str, "settings": dict, "settings_hash": str, "versions": dict, "device": str,
    "seconds": (int, float), "curve": list, "figures": dict,
}  # fmt: skip


def write_cell(folder: Path, record: CellRecord, name: str) -> Path:
    """Writes a cell's file, whole."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name), name
    path = folder / f"{name}.json"
    write_json(path, record)
    return path


def read_cell(path: Path) -> CellRecord:
    """A finished cell's file.

    Raises:
        InputError: If the file is damaged, is no cell, or its name is not that of what it holds.
    """
    value = read_json(path)
    for key, kind in _KINDS.items():
        if key not in value:
            raise InputError(f"{path}: expected a cell of the ledger, got no {key!r}")
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise InputError(f"{path}: expected a cell of the ledger, got {key!r} {value[key]!r:.60}")
    record = cast(CellRecord, value)
    try:
        _check(record)
        _check_for_page(record)
    except InputError as e:
        raise InputError(f"{path}: {e}") from None
    if record_id(record) != path.stem:
        raise InputError(f"{path}: expected a cell of that name, got {record_id(record)}")
    return record


def _check(record: CellRecord) -> None:
    """Refuses numbers out of range, unknown names, and settings of another hash."""
    metrics, coreset = record["figures"], record["coreset"]
    for key, numbers in (("figures", metrics.values()), ("curve", record["curve"])):
        if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < LARGEST for n in numbers):
            raise InputError(f"expected finite numbers in {key!r}, got others")
    chosen = [("arch", record["arch"], ARCHS), ("prior", record["prior"], PRIORS)]
    for key, name, known in [*chosen, *([("coreset", coreset, STRATEGIES)] if coreset is not None else [])]:
        if name not in known:
            raise InputError(f"expected {key!r} to be one of {', '.join(known)}, got {name!r:.60}")
    if not metrics.get("epochs", 1) >= 1:
        raise InputError(f"expected at least one epoch, got {metrics['epochs']}")
    if (own_hash := hash_settings(record["settings"])) != record["settings_hash"]:
        raise InputError(f"expected settings of hash {record['settings_hash']}, got {own_hash}")


def _check_for_page(record: CellRecord) -> None:
    """Refuses a record that its experiment's section cannot show; one of an unknown experiment is not shown."""
    if record["experiment"] not in EXPERIMENTS:
        return
    experiment = EXPERIMENTS[record["experiment"]]
    shown = experiment.shown.get(record["protocol"], ())
    for metric in shown:
        if metric not in record["figures"]:
            raise InputError(f"expected the figure {metric!r}, got a cell without")
    if shown and not record["curve"]:
        raise InputError("expected the losses of a run's epochs as its curve, got none")
    if experiment.check is not None:
        experiment.check(record)


def read(folder: Path) -> tuple[list[CellRecord], list[str]]:
    """All finished cells of a ledger by name, and a line for each file that is damaged or foreign and left out.

    Raises:
        InputError: If it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of finished cells, got a file")
    cells, left_out = [], []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            cells.append(read_cell(path))
        except InputError as e:
            left_out.append(f"left out: {e}")
    return cells, left_out
