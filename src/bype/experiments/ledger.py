"""The ledger: one small JSON file per finished cell, so that shards are merged by copying."""

import re
from pathlib import Path
from typing import cast

from bype.core.errors import InputError
from bype.core.files import read_json, write_json
from bype.core.names import ARCHS, PRIORS, STRATEGIES
from bype.experiments.arrays import unpack
from bype.experiments.catalog.registry import EXPERIMENTS
from bype.experiments.records import CellRecord, hash_settings, record_id

#: Bound on the absolute value of metrics.
LARGEST = 1e15

_KINDS: dict[str, type | tuple[type, ...]] = {
    "experiment": str, "set": str, "arch": str, "prior": str, "coreset": (str, type(None)), "precision": str,
    "seed": int, "protocol": str, "settings": dict, "settings_hash": str, "versions": dict, "device": str,
    "seconds": (int, float), "curve": list, "figures": dict,
}  # fmt: skip


def write_cell(folder: Path, record: CellRecord, name: str) -> Path:
    """Writes the file of a cell."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name), name
    path = folder / f"{name}.json"
    write_json(path, record)
    return path


def read_cell(path: Path) -> CellRecord:
    """Reads the file of a finished cell.

    Raises:
        InputError: If the file is damaged, is not a cell, or is not named after its content.
    """
    value = read_json(path)
    for key, kind in _KINDS.items():
        if key not in value:
            raise InputError(f"{path}: expected a cell of the ledger, but the key {key!r} is missing")
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise InputError(f"{path}: expected a cell of the ledger, got {value[key]!r:.60} for {key!r}")
    record = cast(CellRecord, value)
    try:
        _check(record)
        _check_for_page(record)
    except InputError as e:
        raise InputError(f"{path}: {e}") from None
    if record_id(record) != path.stem:
        raise InputError(f"{path}: expected the cell that the file is named after, got {record_id(record)}")
    return record


def _check(record: CellRecord) -> None:
    """Checks numbers, names and the hash of the settings."""
    metrics, coreset = record["figures"], record["coreset"]
    for key, numbers in (("figures", metrics.values()), ("curve", record["curve"])):
        if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < LARGEST for n in numbers):
            raise InputError(f"expected only finite numbers in {key!r}")
    chosen = [("arch", record["arch"], ARCHS), ("prior", record["prior"], PRIORS)]
    for key, name, known in [*chosen, *([("coreset", coreset, STRATEGIES)] if coreset is not None else [])]:
        if name not in known:
            raise InputError(f"expected {key!r} to be one of {', '.join(known)}, got {name!r:.60}")
    if not metrics.get("epochs", 1) >= 1:
        raise InputError(f"expected at least one epoch, got {metrics['epochs']}")
    if (own_hash := hash_settings(record["settings"])) != record["settings_hash"]:
        raise InputError(f"expected settings with the hash {record['settings_hash']}, got {own_hash}")


def _check_for_page(record: CellRecord) -> None:
    """Checks the requirements of the experiment's section; unknown experiments have none."""
    if not isinstance(record.get("arrays", {}), dict):
        raise InputError(f"expected arrays by name for 'arrays', got {record.get('arrays')!r:.60}")
    for name, packed in record.get("arrays", {}).items():
        unpack(packed, name)
    if record["experiment"] not in EXPERIMENTS:
        return
    experiment = EXPERIMENTS[record["experiment"]]
    shown = experiment.shown.get(record["protocol"], ())
    for metric in shown:
        if metric not in record["figures"]:
            raise InputError(f"expected a cell with the metric {metric!r}")
    if shown and not record["curve"] and experiment.measure is None:
        raise InputError("expected a curve of validation losses, got none")
    if experiment.check is not None:
        experiment.check(record)


def read(folder: Path) -> tuple[list[CellRecord], list[str]]:
    """All finished cells of a ledger in order of their names, and a message for each file that is skipped.

    Raises:
        InputError: If the ledger is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of finished cells, got a file")
    cells, skipped = [], []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            cells.append(read_cell(path))
        except InputError as e:
            skipped.append(f"skipped: {e}")
    return cells, skipped
