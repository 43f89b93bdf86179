"""The cells that are missing, and the time that they take by the pace of the ledger: nothing is measured for it."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bype.core.console import duration
from bype.experiments.catalog.registry import EXPERIMENTS
from bype.experiments.cell import ASSUMED_EPOCHS, Cell, training_gflop
from bype.experiments.records import CellRecord, cell_settings
from bype.runs.run import Run


class Pace(NamedTuple):
    """Seconds per GFLOP of training runs, and where they were measured."""

    rate: float
    device: str

    @classmethod
    def of(cls, done: Sequence[CellRecord]) -> "Pace | None":
        """The median over the training runs on the device that has the most; None if there are none."""
        by_device: dict[str, list[float]] = {}
        for d in done:
            if d["curve"] and (epochs := d["figures"].get("epochs")):
                batch = d["settings"].get("batch_size")
                gflop = training_gflop(d["set"], d["arch"], d["prior"], batch if isinstance(batch, int) else 100)
                by_device.setdefault(d["device"], []).append(d["seconds"] / (gflop * epochs))
        if not by_device:
            return None
        device, rates = max(by_device.items(), key=lambda item: len(item[1]))
        return cls(statistics.median(rates), device)

    def seconds(self, cells: Sequence[Cell], runs: Path | None = None) -> float:
        """The seconds that cells take; a training run that several start from counts once.

        Args:
            cells: The cells.
            runs: The folder of runs, whose finished epochs are left out; None counts everything.
        """
        networks: dict[str, Cell] = {}
        total = 0.0
        for cell in cells:
            experiment = EXPERIMENTS.get(cell.experiment)
            if experiment is None or experiment.measure is None:
                networks[cell.id] = cell
                continue
            if experiment.left is not None:
                total += experiment.left(cell, runs, self.rate)
            if experiment.network is not None:
                network = experiment.network(cell)
                networks.setdefault(network.id, network)
        return total + sum(self.rate * n.gflop * _share_left(n, runs) for n in networks.values())

    def words(self, cells: Sequence[Cell], runs: Path | None = None) -> str:
        """`roughly 3.4 h at the pace of the ledger (AMD EPYC, 1 thread)`."""
        seconds = self.seconds(cells, runs)
        return f"roughly {duration(seconds)} at the pace of the ledger ({device_in_words(self.device)})"


def device_in_words(device: str) -> str:
    """The device of a record, with `1 thread` for the `1 threads` of the ledger."""
    return device.removesuffix(" 1 threads") + " 1 thread" if device.endswith(" 1 threads") else device


def _share_left(cell: Cell, runs: Path | None) -> float:
    """The share of a training run that is left: by its epochs."""
    if runs is None:
        return 1.0
    run = Run(runs / cell.id)
    if run.checkpoints.finished:
        return 0.0
    epochs = min(cell.config.epochs or ASSUMED_EPOCHS, ASSUMED_EPOCHS)
    return max(0.0, 1 - len(run.metrics.read()) / epochs)


def missing(cells: Sequence[Cell], done: Sequence[CellRecord]) -> list[Cell]:
    """The cells that the ledger has in no precision, which depends on the device."""
    have = {_key(d["experiment"], d["protocol"], d["seed"], d["settings"]) for d in done}
    return [c for c in cells if _key(c.experiment, c.protocol, c.config.seed, cell_settings(c.config)) not in have]


def _key(experiment: str, protocol: str, seed: int, settings: Mapping[str, object]) -> tuple[object, ...]:
    rest = tuple(sorted((name, value) for name, value in settings.items() if name != "precision"))
    return experiment, protocol, seed, rest
