"""The record of a finished cell: its keys, its settings and their hash, its name in the ledger."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from bype.core.config import Config, dataset_stem

#: Missing from the settings of the first VampPrior cells: their points were clamped only at the point of use, so that
#: most values stopped moving in the first epochs. They are shown under a separate name.
VAMP_POINTS = {"points": "kept in [0, 1]"}

Setting = str | int | float | bool

#: Options that do not define a cell: its place and its seed.
_PLACE = ("device", "data_dir", "seed")
#: The values of later options under which training is as it was before them, and the recipe, a name for other options.
_NEUTRAL: dict[str, Setting] = {
    "schedule": "constant", "lr_warmup": 0, "averaging": 0.0, "gradient": "total", "importance": 1,
}  # fmt: skip

#: The options of training that do not depend on the prior.
_TRAINING = ("epochs", "warmup", "batch_size", "lr", "schedule", "lr_warmup", "averaging", "gradient", "importance")

#: The metrics of one epoch.
EpochMetrics = Mapping[str, float]


class PackedArray(TypedDict):
    """An array as JSON."""

    dtype: str
    shape: list[int]
    zlib: str  # the bytes in row-major order, compressed, in base64


class CellRecord(TypedDict):
    """A finished cell, as stored in the ledger."""

    experiment: str
    set: str
    arch: str
    prior: str
    coreset: str | None
    precision: str
    seed: int
    protocol: str
    settings: dict[str, Setting]
    settings_hash: str
    versions: dict[str, str]
    device: str
    seconds: float
    curve: list[float]
    figures: dict[str, float]
    arrays: NotRequired[dict[str, PackedArray]]  # what pictures are drawn from


def used_coreset(config: Config) -> str | None:
    """The strategy of step (ii); None if the prior has none."""
    return None if "coreset" in config.unused() else config.coreset


def cell_settings(config: Config) -> dict[str, Setting]:
    """The options that define a cell: those that are used and set, without the seed and the place.

    A new option of a later version, unused or unset in this cell, does not change the cell's name.
    """
    unused = (*_PLACE, "recipe", *config.unused())
    settings = {
        k: v
        for k, v in config.to_dict().items()
        if k not in unused and v is not None and v is not False and _NEUTRAL.get(k) != v
    }
    return settings | (VAMP_POINTS if config.prior == "vamp" else {})


def settings_hash(config: Config) -> str:
    """`hash_settings` of a config's settings."""
    return hash_settings(cell_settings(config))


def hash_settings(settings: Mapping[str, Setting]) -> str:
    """Eight hexadecimal digits of the SHA-256 of settings."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def cell_id(experiment: str, config: Config, protocol: str) -> str:
    """The name of a cell: experiment-set-arch-prior-coreset-precision-protocol-sSEED-hash8."""
    c = config
    kind = (experiment, dataset_stem(c.set), c.arch, c.prior, used_coreset(c))
    return _join(*kind, c.precision, protocol, f"s{c.seed}", settings_hash(c))


def record_id(record: CellRecord) -> str:
    """The `cell_id` of a record."""
    r = record
    kind = (r["experiment"], dataset_stem(r["set"]), r["arch"], r["prior"], r["coreset"])
    return _join(*kind, r["precision"], r["protocol"], f"s{r['seed']}", r["settings_hash"])


def _join(*parts: str | None) -> str:
    return "-".join(part for part in parts if part is not None)


def cell_record(
    experiment: str,
    config: Config,
    protocol: str,
    *,
    epochs: Sequence[EpochMetrics],
    metrics: Mapping[str, float],
    versions: Mapping[str, str],
    device: str,
    seconds: float,
    arrays: Mapping[str, PackedArray] | None = None,
) -> CellRecord:
    """The record of a finished cell."""
    record: CellRecord = {
        "experiment": experiment,
        "set": config.set,
        "arch": config.arch,
        "prior": config.prior,
        "coreset": used_coreset(config),
        "precision": config.precision,
        "seed": config.seed,
        "protocol": protocol,
        "settings": cell_settings(config),
        "settings_hash": settings_hash(config),
        "versions": dict(versions),
        "device": device,
        "seconds": round(seconds, 1),
        "curve": [round(epoch["val_loss"], 4) for epoch in epochs],
        "figures": dict(metrics),
    }
    if arrays:
        record["arrays"] = dict(arrays)
    return record


def by_seed(records: Sequence[CellRecord], metric: str) -> dict[int, float]:
    """The values of a metric by seed, of the cells that have it."""
    return {r["seed"]: r["figures"][metric] for r in records if metric in r["figures"]}


def training_settings(record: CellRecord) -> str:
    """The options of training that cells with different priors have in common, as text."""
    return " ".join(f"{name} {record['settings'].get(name)}" for name in _TRAINING)
