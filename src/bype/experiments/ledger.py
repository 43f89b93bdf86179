"""Results as a ledger: one finished experiment, one small JSON file, so that shards merge by copying."""

import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bype.core.config import Config, dataset_stem
from bype.core.errors import InputError
from bype.core.files import read_json, write_json
from bype.core.names import ARCHS, PRIORS, STRATEGIES

#: What the first VampPrior cells lack, whose points were clamped where they are used alone, so that most of their
#: values stood still from the first epochs on. They are shown under a name of their own.
VAMP_POINTS = {"points": "kept in [0, 1]"}

#: Options that say where a run is computed or what it reads, not what it computes.
_PLACE = ("device", "data_dir", "seed")


def cell_settings(config: Config) -> dict[str, Any]:
    """The options that define a cell: those it uses and that are set, without its seed and place.

    An option that comes later, unused or unset in this cell, leaves the cell's name as it is.
    """
    unused = (*_PLACE, *config.unused())
    settings = {k: v for k, v in config.to_dict().items() if k not in unused and v is not None and v is not False}
    return settings | (VAMP_POINTS if config.prior == "vamp" else {})


def settings_hash(config: Config) -> str:
    """Eight hexadecimal digits of SHA-256 over the settings."""
    return _hash(cell_settings(config))


def _hash(settings: Mapping[str, Any]) -> str:
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def cell_id(experiment: str, config: Config, protocol: str) -> str:
    """experiment-set-arch-prior-coreset-precision-protocol-sSEED-hash8."""
    coreset = config.coreset if config.prior == "bype" else None
    return _name(
        experiment, config.set, config.arch, config.prior, coreset, config.precision, protocol, config.seed,
        settings_hash(config),
    )  # fmt: skip


def _name(
    experiment: str, set_: str, arch: str, prior: str, coreset: str | None, precision: str, protocol: str, seed: int,
    digits: str,
) -> str:  # fmt: skip
    parts = [experiment, dataset_stem(set_), arch, prior, *([coreset] if coreset else [])]
    return "-".join([*parts, precision, protocol, f"s{seed}", digits])


def cell(
    experiment: str,
    config: Config,
    protocol: str,
    *,
    metrics: Sequence[Mapping[str, Any]],
    figures: Mapping[str, float],
    versions: Mapping[str, str],
    device: str,
    seconds: float,
) -> dict[str, Any]:
    """A finished cell in the contract's form."""
    return {
        "experiment": experiment,
        "set": config.set,
        "arch": config.arch,
        "prior": config.prior,
        "coreset": config.coreset if config.prior == "bype" else None,
        "precision": config.precision,
        "seed": config.seed,
        "protocol": protocol,
        "settings": cell_settings(config),
        "settings_hash": settings_hash(config),
        "versions": dict(versions),
        "device": device,
        "seconds": round(seconds, 1),
        "curve": [round(m["val_loss"], 4) for m in metrics],
        "figures": dict(figures),
    }


def training_metrics(metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Medians of the epochs' times, where training stood at its end, and what each update of a pseudocoreset did."""
    best = min(metrics, key=lambda m: m["val_loss"])
    figures: dict[str, float] = {}
    updates = [m for m in metrics if "coreset_mean_distance" in m]
    for m in updates:
        if "val_loss_before_update" in m:
            figures[f"val_loss_before_{m['epoch']}"] = m["val_loss_before_update"]
            figures[f"val_loss_after_{m['epoch']}"] = m["val_loss"]
        for key in ("coreset_mean_distance", "coreset_outside"):
            figures[f"{key}_{m['epoch']}"] = m[key]
    timed = [m["seconds_coreset"] for m in updates if "seconds_coreset" in m]
    if timed:
        figures["seconds_coreset"] = statistics.median(timed)
    return figures | {
        "epochs": len(metrics),
        "best_epoch": best["epoch"],
        "val_loss": best["val_loss"],
        "seconds_per_epoch": statistics.median(m["seconds"] for m in metrics),
        "seconds_validation": statistics.median(m["seconds_validation"] for m in metrics),
    }


def flat(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures with numbers only: the kNN map becomes `knn_K`."""
    out: dict[str, float] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            out |= {f"{key}_{k}": v for k, v in value.items()}
        elif isinstance(value, int | float):
            out[key] = value
    return out


def write_cell(folder: Path, value: Mapping[str, Any], name: str) -> Path:
    """Writes a cell's file, whole."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name), name
    path = folder / f"{name}.json"
    write_json(path, value)
    return path


#: No figure of ours is larger in absolute value.
LARGEST = 1e15
#: The figures that the results page shows of a cell, by its experiment and protocol.
_SHOWN = {
    ("table1", "paper"): ("nll_paper", "nll_paper_items", "epochs"),
    ("table1", "short"): ("nll_paper_short", "val_loss"),
    ("trunk", "short"): ("nll_paper_short",),
    ("step-two", "short"): ("nll_paper_short", "val_loss"),
    ("step-two-settings", "short"): ("nll_paper_short", "val_loss"),
    ("reencode", "short"): ("nll_paper_short", "val_loss"),
}

_KINDS: dict[str, type | tuple[type, ...]] = {
    "experiment": str, "set": str, "arch": str, "prior": str, "coreset": (str, type(None)), "precision": str,
    "seed": int, "protocol": str, "settings": dict, "settings_hash": str, "versions": dict, "device": str,
    "seconds": (int, float), "curve": list, "figures": dict,
}  # fmt: skip


def read_cell(path: Path) -> dict[str, Any]:
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
    for key in ("figures", "curve"):
        numbers = value[key].values() if isinstance(value[key], dict) else value[key]
        if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < LARGEST for n in numbers):
            raise InputError(f"{path}: expected finite numbers in {key!r}, got others")
    for key, known in (("arch", ARCHS), ("prior", PRIORS), ("coreset", (None, *STRATEGIES))):
        if value[key] not in known:
            raise InputError(
                f"{path}: expected {key!r} to be one of {', '.join(map(str, known))}, got {value[key]!r:.60}"
            )
    shown = _SHOWN.get((value["experiment"], value["protocol"]))
    for name in shown or ():
        if name not in value["figures"]:
            raise InputError(f"{path}: expected the figure {name!r}, got a cell without")
    if shown and not value["curve"]:
        raise InputError(f"{path}: expected the losses of a run's epochs as its curve, got none")
    if not value["figures"].get("epochs", 1) >= 1:
        raise InputError(f"{path}: expected at least one epoch, got {value['figures']['epochs']}")
    share = value["settings"].get("reencode")
    if value["experiment"] == "reencode" and not (isinstance(share, int | float) and 0 < share <= 1):
        raise InputError(f"{path}: expected a share from 0 to 1 in 'reencode', got {share!r:.60}")
    if _hash(value["settings"]) != value["settings_hash"]:
        raise InputError(f"{path}: expected settings of hash {value['settings_hash']}, got {_hash(value['settings'])}")
    parts = ("experiment", "set", "arch", "prior", "coreset", "precision", "protocol", "seed", "settings_hash")
    if _name(*(value[key] for key in parts)) != path.stem:
        raise InputError(f"{path}: expected a cell of that name, got {_name(*(value[key] for key in parts))}")
    return value


def read(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
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
