"""What a cell will take, so that only what fits a budget is begun; and how times are read and said."""

import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bype.core.devices import device_model, resolve_device
from bype.core.errors import InputError
from bype.core.precision import flush_denormals
from bype.data.catalog import load
from bype.distributions.mixtures import IsotropicMixture
from bype.experiments import cells, ledger
from bype.experiments.cells import Cell
from bype.experiments.scores import samples_under
from bype.models.build import model_from
from bype.models.objectives import iwae
from bype.runs.fitting import trainer_from
from bype.runs.run import Run
from bype.runs.scoring import seconds_spent
from bype.training.refitting import VALIDATION_DRAWS, VALIDATION_ITEMS

# Epochs of a run that stops early, until the ledger knows better.
EPOCHS_GUESSED = 400
# Of a refit's search for sigma: how often all its latents are scored.
SIGMAS_TRIED = 12


class Estimate(NamedTuple):
    """What a cell will take, and how that is known."""

    seconds: float
    source: str  # `ledger` or `measured`


def estimate(cell: Cell, done: Sequence[dict[str, Any]], runs_folder: Path) -> Estimate:
    """What a cell will take here: by its like of the ledger from such a device, else by a few steps and samples of it.

    Epochs that its run has already and scoring that is kept are not counted again. How many there will be is, under
    early stopping, the median of the ledger's runs of that protocol, or a guess.
    """
    device = device_model(resolve_device(cell.config.device))
    protocol = [d["figures"]["epochs"] for d in done if d["protocol"] == cell.protocol and "epochs" in d["figures"]]
    like = [
        d
        for d in done
        if d["settings_hash"] == ledger.settings_hash(cell.config)
        and (d["protocol"], d["device"]) == (cell.protocol, device)
        and {"epochs", "seconds_evaluation"} <= d["figures"].keys()
    ]
    if like:
        evaluation = statistics.median(d["figures"]["seconds_evaluation"] for d in like)
        epoch = statistics.median(
            (d["seconds"] - d["figures"]["seconds_evaluation"]) / d["figures"]["epochs"] for d in like
        )
        epochs = statistics.median(d["figures"]["epochs"] for d in like)
    else:
        epoch, evaluation = measure(cell)
        epochs = min(cell.config.epochs, statistics.median(protocol) if protocol else EPOCHS_GUESSED)
    run = Run(runs_folder / cell.id)
    epochs_left = 0 if run.checkpoints.finished else max(0.0, epochs - len(run.metrics.read()))
    left = epochs_left * epoch + max(0.0, evaluation - seconds_spent(run.path))
    return Estimate(left, "ledger" if like else "measured")


_measured: dict[tuple[str, ...], tuple[float, float]] = {}


def measure(cell: Cell, steps: int = 5, latents: int = 500) -> tuple[float, float]:
    """Seconds of an epoch and of the evaluation, from a few steps, one update of the pseudocoreset and a few draws."""
    config = cell.config
    key = (ledger.settings_hash(config), config.device, str(cell.samples), str(cell.every), str(cell.refit))
    if key not in _measured:
        _measured[key] = _measure(cell, steps, latents)
    return _measured[key]


def _measure(cell: Cell, steps: int, n_latents: int) -> tuple[float, float]:
    config = cell.config
    data = load(config.set, config.data_dir).to(resolve_device(config.device))
    model = model_from(config, data)
    few = replace(data, train=data.train.first(steps * config.batch_size))
    trainer = trainer_from(config, model, few)
    trainer.coreset_interval = 1
    first, info = trainer.run_epoch(), trainer.run_epoch()  # the first one also sets everything up
    assert first.epoch == 1
    coreset = info.coreset.get("seconds_coreset", 0.0) / config.coreset_interval
    epoch = info.seconds * len(data.train) / len(few.train) + info.seconds_validation + coreset

    device = data.train.pixels.device
    model.eval()
    with torch.no_grad(), flush_denormals():
        # On a GPU as many at once as scoring takes, for few are bound by launches.
        count = 100 if device.type == "cuda" else 2
        x = data.test.first(count).scaled()
        p = model.prior(model.encoder)
        a_draw = _seconds(lambda: iwae(model, x, n_latents, prior=p), device) / (len(x) * n_latents)
        draws = short = cells.SHORT_SAMPLES * min(cells.SHORT_ITEMS, len(data.test))
        if cell.samples is not None:
            draws += cell.samples * len(data.test.every(cell.every))
        evaluation = a_draw * draws
        if cell.refit:
            loc = torch.randn(len(data.train), config.latent_dim, device=device)
            mixture = IsotropicMixture(loc, loc.new_ones(()), loc.new_full((len(loc),), 1 / len(loc)).log())
            z = torch.randn(count * n_latents, config.latent_dim, device=device)
            a_density = _seconds(lambda: mixture.log_prob(z), device) / len(z)
            scored = short
            if samples := samples_under(cell, data, len(loc)):
                scored += samples * len(data.test)
            evaluation += a_density * (VALIDATION_ITEMS * VALIDATION_DRAWS * SIGMAS_TRIED + scored) + a_draw * scored
    return epoch, evaluation


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The time of the second of two calls."""
    elapsed = 0.0
    for _ in range(2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - start
    return elapsed


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `9m`, `1h30m`.

    Raises:
        InputError: If it is none.
    """
    match = re.fullmatch(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?|([0-9]{1,9})", text)
    if match is None or not any(match.groups()):
        raise InputError(f"--budget: expected a time like 90s, 9m or 1h30m, got {text!r}")
    hours, minutes, seconds, alone = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60 * minutes + seconds + alone
