"""Running cells in pieces, on whatever machine is at hand: in shards, cheapest first, within a budget."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bype.core import console
from bype.core.devices import device_model, versions
from bype.core.errors import InputError, RunExistsError, TrainingError, notes_kept
from bype.core.files import locked, write_text
from bype.data.catalog import PUBLISHED, find, load
from bype.experiments import ledger
from bype.experiments.cells import Cell
from bype.experiments.estimates import duration, estimate
from bype.experiments.scores import score
from bype.runs.fitting import TrainedRun, fit
from bype.runs.metrics import EpochRecord
from bype.runs.run import Run
from bype.runs.scoring import PartialScores
from bype.training.trackers.terminal import epochs


class BudgetSpent(Exception):  # noqa: N818 (nothing went wrong)
    """The time is over; what is trained and scored so far is saved, and the next call goes on from there."""


class Report(NamedTuple):
    """What became of the cells that were asked for."""

    finished: list[str]
    begun: list[str]  # the budget ended while they ran
    not_started: list[str]  # they would not have fitted, their data are missing, or another process is at work on them
    failed: list[str]  # their training gave up
    refused: list[str]  # a file of theirs is damaged or cannot be written, or their data are not those of their run

    def note(self, cell: Cell, error: Exception) -> None:
        """Says why a cell cannot be run, and counts it."""
        if isinstance(error, RunExistsError):
            word, where = "not started", self.not_started
        elif isinstance(error, TrainingError):
            word, where = "failed", self.failed
        else:
            word, where = "refused", self.refused
        console.report(f"{cell.id}  {word}: {error}")
        where.append(cell.id)


def shard(cells: Sequence[Cell], part: int, parts: int) -> list[Cell]:
    """The cells of one of several shards: by their place among all, cheapest first, whatever is done of them."""
    return [c for i, c in enumerate(sorted(cells, key=lambda c: (c.rank, c.id))) if i % parts == part - 1]


def outstanding(cells: Sequence[Cell], done: Sequence[dict[str, Any]]) -> list[Cell]:
    """The cells that the ledger does not hold."""
    have = {(d["experiment"], d["settings_hash"], d["protocol"], d["seed"]) for d in done}
    return [c for c in cells if (c.experiment, ledger.settings_hash(c.config), c.protocol, c.config.seed) not in have]


def run_cells(
    cells: Sequence[Cell],
    ledger_folder: Path,
    runs_folder: Path,
    *,
    budget: float = math.inf,
    partial: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Runs the cells that the ledger lacks, the cheapest first by a rough rank, each written as it ends.

    With a budget a cell is started only if its estimate fits what is left of it. One that takes longer than that is
    stopped when the budget ends; its run is kept, and goes on at the next call. With `partial` the cheapest that does
    not fit is begun too, and so kept. A cell that cannot be run, for its data are missing, its training gives up, a
    file of its run is damaged, or another process is at work on it, is named and keeps no other from being run.

    Args:
        cells: What is asked for.
        ledger_folder: Where finished cells are.
        runs_folder: Where runs are kept.
        budget: Seconds.
        partial: Whether to begin what does not fit.
        clock: What tells the time, in seconds.

    Raises:
        InputError: If no cell's data are found, or the ledger cannot be written.
    """
    start = clock()
    done, left_out = ledger.read(ledger_folder)
    for line in left_out:
        console.report(line)
    todo = sorted(outstanding(cells, done), key=lambda c: c.rank)
    if todo:  # before hours of work
        write_text(ledger_folder / ".writable", "")
        (ledger_folder / ".writable").unlink(missing_ok=True)
    report = Report([], [], [], [], [])
    todo = _with_data(todo, report)
    too_dear = math.inf
    for c in todo:
        if budget < math.inf:
            left = budget - (clock() - start)
            # To measure costs time as well: what is dearer than a cell that did not fit is not even measured, unless
            # a part of it is done.
            begun = Run(runs_folder / c.id).exists
            known = left > 0 and (begun or c.rank < too_dear)
            if known:
                try:
                    guess = estimate(c, done, runs_folder)
                except (TrainingError, InputError) as e:
                    report.note(c, e)
                    continue
            if not known or (guess.seconds > left and not partial):
                why = "dearer than one that did not fit, " if left > 0 else ""
                if known:
                    why = f"about {duration(guess.seconds)} ({guess.source}), "
                console.report(f"{c.id}  not started: {why}{duration(left)} left")
                report.not_started.append(c.id)
                if not begun:
                    too_dear = min(too_dear, c.rank)
                continue
            console.report(f"{c.id}  about {duration(guess.seconds)} ({guess.source})")
        try:
            run_cell(c, ledger_folder, runs_folder, deadline=start + budget, clock=clock)
        except BudgetSpent:
            console.report(f"{c.id}  stopped: the budget is spent; what is done is kept in {runs_folder / c.id}")
            report.begun.append(c.id)
            continue
        except (RunExistsError, TrainingError, InputError) as e:
            report.note(c, e)
            continue
        console.report(f"{ledger_folder / c.id}.json")
        report.finished.append(c.id)
    return report


def _with_data(cells: list[Cell], report: Report) -> list[Cell]:
    """The cells whose data are found; the others are reported."""
    rest = []
    for c in cells:
        name = c.config.set
        if name in PUBLISHED and PUBLISHED[name].files and find(name, c.config.data_dir) is None:
            report.not_started.append(c.id)
        else:
            rest.append(c)
    missing = sorted({c.config.set for c in cells} - {c.config.set for c in rest})
    if missing and not rest:
        load(missing[0])  # says where it was looked for
    for name in missing:
        console.report(f"{name}: not found, so that its cells are not started; see `bype data fetch {name}`")
    return rest


def run_cell(
    cell: Cell,
    ledger_folder: Path,
    runs_folder: Path,
    *,
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Trains (or goes on with) a cell's run, scores it and writes its file; one that is there by now is left so.

    Raises:
        BudgetSpent: If the deadline passes before that.
        RunExistsError: If another process is at work on it.
        TrainingError: If its values stop being finite.
        InputError: If a file of its run is damaged.
    """
    runs_folder.mkdir(parents=True, exist_ok=True)
    # For training and scoring: the run's own lock is for training alone.
    busy = f"{runs_folder / cell.id}: expected no process at work on it, got one"
    with locked(runs_folder / f".{cell.id}.lock", busy):
        with contextlib.suppress(InputError):  # by another process, while this one was at other cells
            return ledger.read_cell(ledger_folder / f"{cell.id}.json")
        return _run_cell(cell, ledger_folder, runs_folder, deadline, clock)


def _run_cell(
    cell: Cell, ledger_folder: Path, runs_folder: Path, deadline: float, clock: Callable[[], float]
) -> dict[str, Any]:

    def check(*_: Any) -> None:
        if clock() > deadline:
            raise BudgetSpent

    def within(show: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any) -> None:
            show(*args)
            check()

        return call

    with epochs(cell.id, cell.config.epochs) as show:
        trained = fit(cell.config, runs_folder / cell.id, resume=True, on_epoch=within(show))
    parts: list[PartialScores] = []
    with notes_kept(parts), notes_kept([trained]):
        metrics = _whole(trained)
        figures: dict[str, Any] = ledger.training_metrics(metrics)
        with console.items(cell.id) as show_items:
            figures |= score(cell, trained, within(show_items), check, parts)
        # Training may have been done in pieces; what the epochs took is in their lines.
        training = sum(m["seconds"] + m["seconds_validation"] + m.get("seconds_coreset", 0.0) for m in metrics)
        value = ledger.cell(
            cell.experiment,
            cell.config,
            cell.protocol,
            metrics=metrics,
            figures=figures,
            versions=versions(),
            device=device_model(trained.data.train.pixels.device),
            seconds=training + figures["seconds_evaluation"],
        )
        ledger.write_cell(ledger_folder, value, cell.id)
        for part in parts:
            part.remove()
        return value


def _whole(trained: TrainedRun) -> list[EpochRecord]:
    """A run's lines of metrics, one for each of its epochs.

    Raises:
        InputError: If they are not.
    """
    metrics, epochs = trained.run.metrics.read(), trained.trainer.epoch
    needed = ("val_loss", "seconds", "seconds_validation")
    whole = all(isinstance(m.get(key), int | float) for m in metrics for key in needed)
    if [m["epoch"] for m in metrics] != list(range(1, epochs + 1)) or not whole:
        raise InputError(
            f"{trained.run.path / 'metrics.jsonl'}: expected the figures of each of {epochs} epochs, got a file that "
            "lacks some"
        )
    return metrics
