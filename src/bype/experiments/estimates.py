"""Run-time estimates of cells, so that a budget is kept; parsing and formatting of durations."""

import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from bype.core.console import duration
from bype.core.devices import device_model, resolve_device, seconds_now
from bype.core.errors import InputError
from bype.core.precision import flush_denormals
from bype.data.catalog import load
from bype.distributions.mixtures import IsotropicMixture
from bype.experiments.catalog.registry import EXPERIMENTS
from bype.experiments.cell import ASSUMED_EPOCHS, SHORT_ITEMS, SHORT_SAMPLES, Cell, Experiment, training_gflop
from bype.experiments.records import CellRecord, settings_hash
from bype.experiments.scores import samples_under
from bype.models.build import model_from
from bype.models.objectives import iwae
from bype.runs.fitting import trainer_from
from bype.runs.run import Run
from bype.runs.scoring import seconds_spent
from bype.training.refitting import VALIDATION_DRAWS, VALIDATION_ITEMS

# Passes over all latents in a refit's search for sigma.
SIGMA_CANDIDATES = 12


class Estimate(NamedTuple):
    """The estimated run time of a cell, and its source."""

    seconds: float
    source: str  # `ledger`, or what was measured

    def __str__(self) -> str:
        """`about 3.4 h (ledger)`, or `roughly 3.4 h (from 5 steps on a busy machine)`."""
        if self.source == "ledger":
            return f"about {duration(self.seconds)} (ledger)"
        return f"roughly {duration(self.seconds)} (from {self.source})"


class Measurement(NamedTuple):
    """Seconds per epoch, and of the evaluation; and what they were measured on."""

    epoch: float
    evaluation: float
    source: str


class Estimator:
    """Estimates of the run time of cells on this machine; cells that differ only in the seed are measured once.

    Args:
        done: The records of the ledger.
        runs_folder: The folder of runs.
    """

    def __init__(self, done: Sequence[CellRecord], runs_folder: Path) -> None:
        self.done, self.runs_folder = done, runs_folder
        self._measured: dict[tuple[str | int | None, ...], Measurement] = {}

    def estimate(self, cell: Cell) -> Estimate:
        """The time a cell still needs: from records of the same settings and device, else from a short measurement.

        Finished epochs and saved partial scores are subtracted. With early stopping, the number of epochs is the median
        of the ledger's runs with that protocol, or `ASSUMED_EPOCHS`. Of a cell that is no training run with its
        evaluation, what it measures counts, and the training run that it starts from.
        """
        experiment = EXPERIMENTS.get(cell.experiment)
        if experiment is not None and experiment.measure is not None:
            return self._of_measure(cell, experiment)
        training, evaluation, source = self._parts(cell)
        return Estimate(training + max(0.0, evaluation - seconds_spent(self.runs_folder / cell.id)), source)

    def _parts(self, cell: Cell) -> tuple[float, float, str]:
        """Seconds of the epochs left and of the whole evaluation, and their source."""
        of_protocol = [d for d in self.done if d["protocol"] == cell.protocol and "epochs" in d["figures"]]
        same = [d for d in self._same(cell) if d in of_protocol and "seconds_evaluation" in d["figures"]]
        source = "ledger"
        if same:
            evaluation = statistics.median(d["figures"]["seconds_evaluation"] for d in same)
            epoch = statistics.median(
                (d["seconds"] - d["figures"]["seconds_evaluation"]) / d["figures"]["epochs"] for d in same
            )
            epochs = statistics.median(d["figures"]["epochs"] for d in same)
        else:
            epoch, evaluation, source = self.measure(cell)
            known = [d["figures"]["epochs"] for d in of_protocol]
            epochs = min(cell.config.epochs or ASSUMED_EPOCHS, statistics.median(known) if known else ASSUMED_EPOCHS)
        run = Run(self.runs_folder / cell.id)
        epochs_left = 0 if run.checkpoints.finished else max(0.0, epochs - len(run.metrics.read()))
        return epochs_left * epoch, evaluation, source

    def _same(self, cell: Cell) -> list[CellRecord]:
        """The records of the same settings on this device, with any seed."""
        device = device_model(resolve_device(cell.config.device))
        own_hash = settings_hash(cell.config)
        return [d for d in self.done if (d["settings_hash"], d["device"]) == (own_hash, device)]

    def _of_measure(self, cell: Cell, experiment: Experiment) -> Estimate:
        training, source = 0.0, "ledger"
        if experiment.network is not None:
            training, _, source = self._parts(experiment.network(cell))
        same = [d["seconds"] for d in self._same(cell) if d["experiment"] == cell.experiment]
        begun = (self.runs_folder / cell.id).exists()
        if (same and not begun) or experiment.left is None:
            return Estimate(training + (statistics.median(same) if same else 0.0), source)
        c = cell.config
        epoch, _, measured = self.measure(cell)
        rate = epoch / training_gflop(c.set, c.arch, c.prior, c.batch_size or 100)
        return Estimate(training + experiment.left(cell, self.runs_folder, rate), measured)

    def measure(self, cell: Cell) -> Measurement:
        """Measures a cell, or returns the measurement of an earlier cell with the same settings."""
        key = (settings_hash(cell.config), cell.config.device, cell.samples, cell.every, cell.refit)
        if key not in self._measured:
            self._measured[key] = measure(cell)
        return self._measured[key]


def measure(cell: Cell, steps: int = 5, n_latents: int = 500) -> Measurement:
    """Times a few steps, two updates of the pseudocoreset and a few importance samples.

    The shortest of several times is used: other processes on the machine only ever lengthen them.
    """
    config = cell.config
    data = load(config.set, config.data_dir).to(resolve_device(config.device))
    model = model_from(config, data)
    few = replace(data, train=data.train.first(steps * config.batch_size))
    trainer = trainer_from(config, model, few)
    trainer.coreset_interval = 1
    device = data.train.pixels.device
    clock, own_clock = time.perf_counter(), time.thread_time()
    infos = [trainer.run_epoch() for _ in range(2)]  # the first one includes one-off costs
    model.train()
    order = torch.arange(len(few.train), device=device)
    step = min(infos[1].seconds, _seconds(lambda: trainer.steps.run(order, 1.0), device)) / len(few.train)
    validation = min(info.seconds_validation for info in infos)
    coreset = min(info.coreset.get("seconds_coreset", 0.0) for info in infos) / config.coreset_interval
    epoch = step * len(data.train) + validation + coreset

    model.eval()
    with torch.no_grad(), flush_denormals():
        # On a GPU a full batch: small ones are dominated by kernel launches.
        count = 100 if device.type == "cuda" else 2
        x = data.test.first(count).scaled()
        p = model.prior(model.encoder)
        per_sample = _seconds(lambda: iwae(model, x, n_latents, prior=p), device) / (len(x) * n_latents)
        n_samples = short = SHORT_SAMPLES * min(SHORT_ITEMS, len(data.test))
        if cell.samples is not None:
            n_samples += cell.samples * len(data.test.every(cell.every))
        evaluation = per_sample * n_samples
        if cell.refit:
            loc = torch.randn(len(data.train), config.latent_dim, device=device)
            mixture = IsotropicMixture(loc, loc.new_ones(()), loc.new_full((len(loc),), 1 / len(loc)).log())
            z = torch.randn(count * n_latents, config.latent_dim, device=device)
            per_density = _seconds(lambda: mixture.log_prob(z), device) / len(z)
            scored = short
            if samples := samples_under(cell, data, len(loc)):
                scored += samples * len(data.test)
            evaluation += (
                per_density * (VALIDATION_ITEMS * VALIDATION_DRAWS * SIGMA_CANDIDATES + scored) + per_sample * scored
            )
    # This thread computes without a pause unless others take its core.
    busy = device.type == "cpu" and time.thread_time() - own_clock < 0.8 * (time.perf_counter() - clock)
    return Measurement(epoch, evaluation, f"{steps} steps on a busy machine" if busy else f"{steps} steps")


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the shortest of three calls, after one that includes one-off costs."""
    elapsed = []
    for _ in range(4):
        start = seconds_now(device)
        work()
        elapsed.append(seconds_now(device) - start)
    return min(elapsed[1:])


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `9m`, `1h30m`.

    Raises:
        InputError: If the text is not a duration.
    """
    match = re.fullmatch(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?|([0-9]{1,9})", text)
    if match is None or not any(match.groups()):
        raise InputError(f"--budget: expected a time like 90s, 9m or 1h30m, got {text!r}")
    hours, minutes, seconds, alone = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60 * minutes + seconds + alone
