"""Running cells: in shards, cheapest first, within a time budget."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bype.core import console
from bype.core.devices import device_model, versions
from bype.core.errors import InputError, RunExistsError, TrainingError, notes_kept
from bype.core.files import write_text
from bype.core.locks import locked
from bype.data.catalog import PUBLISHED, find, load
from bype.experiments import ledger
from bype.experiments.catalog.registry import EXPERIMENTS
from bype.experiments.cell import Cell, Outcome
from bype.experiments.estimates import Estimator
from bype.experiments.records import CellRecord, EpochMetrics, cell_record, settings_hash
from bype.experiments.remaining import Pace
from bype.experiments.scores import score, training_metrics
from bype.experiments.training import checked, train
from bype.runs.fitting import TrainedRun
from bype.runs.run import Run
from bype.runs.scoring import PartialScores


class BudgetSpent(Exception):  # noqa: N818 (nothing went wrong)
    """The time budget is over; training and scoring so far are saved, and the next call continues them."""


class Report(NamedTuple):
    """The selected cells by outcome."""

    finished: list[str]
    begun: list[str]  # stopped when the budget ended
    not_started: list[str]  # over the budget, without data, or in use by another process
    failed: list[str]  # failed to train
    refused: list[str]  # with a damaged or unwritable file, or other data than their run's

    def note(self, cell: Cell, error: Exception) -> None:
        """Reports and records why a cell could not be run."""
        if isinstance(error, RunExistsError):
            word, where = "not started", self.not_started
        elif isinstance(error, TrainingError):
            word, where = "failed", self.failed
        else:
            word, where = "refused", self.refused
        console.report(f"{cell.id}  {word}: {error}")
        where.append(cell.id)


def shard(cells: Sequence[Cell], part: int, parts: int) -> list[Cell]:
    """The cells of one shard: every `parts`-th in order of cost, finished or not."""
    return [c for i, c in enumerate(sorted(cells, key=lambda c: (c.rank, c.id))) if i % parts == part - 1]


def outstanding(cells: Sequence[Cell], done: Sequence[CellRecord]) -> list[Cell]:
    """The cells that are not in the ledger."""
    have = finished_records(cells, done)
    return [c for c in cells if c.id not in have]


def finished_records(cells: Sequence[Cell], done: Sequence[CellRecord]) -> dict[str, CellRecord]:
    """The records of the cells that are in the ledger, by the cell's id."""
    records = {(d["experiment"], d["settings_hash"], d["protocol"], d["seed"]): d for d in done}
    keys = {c.id: (c.experiment, settings_hash(c.config), c.protocol, c.config.seed) for c in cells}
    return {name: records[key] for name, key in keys.items() if key in records}


def main_metric(record: CellRecord) -> list[str]:
    """The name of the metric that sums up a cell, the first that its experiment shows; empty if there is none."""
    experiment = EXPERIMENTS.get(record["experiment"])
    shown = experiment.shown.get(record["protocol"], ()) if experiment is not None else ()
    names = (*shown, "nll_paper", "nll_nats", "nll_paper_short", "val_loss")
    return [name for name in names if name in record["figures"]][:1]


def run_cells(
    cells: Sequence[Cell],
    ledger_folder: Path,
    runs_folder: Path,
    *,
    budget: float = math.inf,
    partial: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Runs the cells that are not in the ledger, cheapest first, and writes each as it ends.

    With a budget, a cell is started only if its estimate fits the time left. A cell that takes longer than estimated
    is stopped when the budget ends; the next call continues its run. With `partial`, cells that do not fit are started
    too. A cell that cannot be run (data missing, training failed, files damaged, in use by another process) is
    reported, and the others are run.

    Args:
        cells: The cells.
        ledger_folder: The folder of finished cells.
        runs_folder: The folder of runs.
        budget: Time budget in seconds.
        partial: Whether to start cells that do not fit the budget.
        clock: Returns the time in seconds.

    Raises:
        InputError: If the data of no cell are found, or the ledger cannot be written.
    """
    start = clock()
    done, skipped = ledger.read(ledger_folder)
    for line in skipped:
        console.report(line)
    todo = sorted(outstanding(cells, done), key=lambda c: c.rank)
    if todo:  # fail before hours of work, not after
        write_text(ledger_folder / ".writable", "")
        (ledger_folder / ".writable").unlink(missing_ok=True)
    report = Report([], [], [], [], [])
    todo = _with_data(todo, report)
    estimator, too_expensive = Estimator(done, runs_folder), math.inf
    pace = Pace.of(done)
    if pace is not None and len(todo) > 1:
        console.report(f"{len(todo)} cells to run, {pace.words(todo, runs_folder)}")
    for c in todo:
        if budget < math.inf:
            left = budget - (clock() - start)
            # Measuring takes time too: a cell more expensive than one that did not fit is measured only if a part of
            # it is done already.
            begun = Run(runs_folder / c.id).exists
            known = left > 0 and (begun or c.rank < too_expensive)
            if known:
                try:
                    guess = estimator.estimate(c)
                except (TrainingError, InputError) as e:
                    report.note(c, e)
                    continue
            if not known or (guess.seconds > left and not partial):
                why = "more expensive than a cell that did not fit the budget, " if left > 0 else ""
                if known:
                    why = f"{guess}, "
                console.report(f"{c.id}  not started: {why}{console.duration(left)} left")
                report.not_started.append(c.id)
                if not begun:
                    too_expensive = min(too_expensive, c.rank)
                continue
            console.report(f"{c.id}  {guess}")
        elif pace is not None:
            console.report(f"{c.id}  {pace.words([c], runs_folder)}")
        try:
            run_cell(c, ledger_folder, runs_folder, deadline=start + budget, clock=clock)
        except BudgetSpent:
            console.report(f"{c.id}  stopped: the budget is used up; the run is kept in {runs_folder / c.id}")
            report.begun.append(c.id)
            continue
        except (RunExistsError, TrainingError, InputError) as e:
            report.note(c, e)
            continue
        console.report(f"{ledger_folder / c.id}.json")
        report.finished.append(c.id)
    return report


def _with_data(cells: list[Cell], report: Report) -> list[Cell]:
    """The cells whose data set is found; the others are reported."""
    rest = []
    for c in cells:
        name = c.config.set
        if name in PUBLISHED and PUBLISHED[name].files and find(name, c.config.data_dir) is None:
            report.not_started.append(c.id)
        else:
            rest.append(c)
    missing = sorted({c.config.set for c in cells} - {c.config.set for c in rest})
    if missing and not rest:
        load(missing[0])  # raises, with the places where it was looked for
    for name in missing:
        console.report(f"{name}: data set not found; skipping its cells; see `bype data fetch {name}`")
    return rest


def run_cell(
    cell: Cell,
    ledger_folder: Path,
    runs_folder: Path,
    *,
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> CellRecord:
    """Trains a cell's run or continues it, scores it and writes its record; an existing record is kept.

    Raises:
        BudgetSpent: If the deadline passes first.
        RunExistsError: If the cell is in use by another process.
        TrainingError: If training gives non-finite values.
        InputError: If a file of the run is damaged.
    """
    runs_folder.mkdir(parents=True, exist_ok=True)
    # Held while scoring too; the run's own lock is only held while training.
    busy = f"{runs_folder / cell.id}: in use by another process"
    with locked(runs_folder / f".{cell.id}.lock", busy):
        with contextlib.suppress(InputError):  # written by another process in the meantime
            return ledger.read_cell(ledger_folder / f"{cell.id}.json")
        return _run_cell(cell, ledger_folder, runs_folder, deadline, clock)


def _run_cell(
    cell: Cell, ledger_folder: Path, runs_folder: Path, deadline: float, clock: Callable[[], float]
) -> CellRecord:
    def check(*_: object) -> None:
        if clock() > deadline:
            raise BudgetSpent

    experiment = EXPERIMENTS.get(cell.experiment)
    measure = None if experiment is None else experiment.measure
    parts: list[PartialScores] = []
    with notes_kept(parts):
        if measure is None:
            outcome = _train_and_score(cell, runs_folder, check, parts)
        else:
            outcome = measure(cell, runs_folder, check)
        record = cell_record(
            cell.experiment,
            cell.config,
            cell.protocol,
            epochs=outcome.epochs,
            metrics=outcome.metrics,
            versions=versions(),
            device=outcome.device,
            seconds=outcome.seconds,
            arrays=outcome.arrays,
        )
        ledger.write_cell(ledger_folder, record, cell.id)
        for part in parts:
            part.remove()
    return record


def _train_and_score(cell: Cell, runs_folder: Path, check: Callable[..., None], parts: list[PartialScores]) -> Outcome:
    trained = train(cell.id, cell.config, runs_folder, check)
    with notes_kept([trained]):
        lines = _epoch_metrics(trained)
        with console.items(cell.id) as show_items:
            metrics = training_metrics(lines) | score(cell, trained, checked(show_items, check), check, parts)
    # Training may have been interrupted: the epochs' own times are summed.
    training = sum(m["seconds"] + m["seconds_validation"] + m.get("seconds_coreset", 0.0) for m in lines)
    device = device_model(trained.data.train.pixels.device)
    return Outcome(lines, metrics, device, training + metrics["seconds_evaluation"])


def _epoch_metrics(trained: TrainedRun) -> list[EpochMetrics]:
    """The metrics of a run, one line per epoch.

    Raises:
        InputError: If an epoch or one of the needed metrics is missing.
    """
    lines, n_epochs = trained.run.metrics.read(), trained.trainer.epoch
    needed = ("val_loss", "seconds", "seconds_validation")
    complete = all(isinstance(line.get(key), int | float) for line in lines for key in needed)
    if [line["epoch"] for line in lines] != list(range(1, n_epochs + 1)) or not complete:
        raise InputError(
            f"{trained.run.path / 'metrics.jsonl'}: expected the metrics of each of {n_epochs} epochs, but some are "
            "missing"
        )
    return [{key: value for key, value in line.items() if isinstance(value, int | float)} for line in lines]
