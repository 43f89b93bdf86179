"""Running cells in pieces, on whatever machine is at hand: in shards, cheapest first, within a budget."""

import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bype import console
from bype.build import model_from
from bype.data import KNOWN, Dataset, find, load
from bype.devices import device_model, device_of, versions
from bype.distributions import IsotropicMixture
from bype.errors import InputError, RunExistsError, TrainingError
from bype.evaluation import evaluate, evaluate_under, likelihood_figures, log_likelihood
from bype.experiments import ledger
from bype.experiments.cells import FIFTH, SHORT_ITEMS, SHORT_SAMPLES, Cell
from bype.files import locked, write_text
from bype.fitting import fit, trainer_from
from bype.floats import flush_denormals
from bype.models import VAE
from bype.objectives import iwae
from bype.priors import FittedMixture
from bype.refitting import VALIDATION_DRAWS, VALIDATION_ITEMS, refit
from bype.results import Results
from bype.runs import Run
from bype.scoring import Scoring, seconds_spent

# What an estimate takes for the epochs of a run that stops early, until the ledger knows better.
EPOCHS_GUESSED = 400
# Of a refit's search for sigma: how often all its latents are scored.
SIGMAS_TRIED = 12
# On a CPU, under more components than this, a refit is scored by `nll_paper_short` alone: in full it takes an hour.
MANY_COMPONENTS = 10_000


class BudgetSpent(Exception):  # noqa: N818 (nothing went wrong)
    """The time is over; what is trained and scored so far is saved, and the next call goes on from there."""


class Estimate(NamedTuple):
    """What a cell will take, and how that is known."""

    seconds: float
    source: str  # `ledger` or `measured`


class Report(NamedTuple):
    """What became of the cells that were asked for."""

    finished: list[str]
    begun: list[str]  # the budget ended while they ran
    not_started: list[str]  # they would not have fitted, their data are missing, or another process is at work on them
    failed: list[str]  # their training gave up
    refused: list[str]  # a file of theirs is damaged, or their data are not what their run was trained on

    def name(self, cell: Cell, error: Exception) -> None:
        """Says why a cell cannot be run, and counts it."""
        if isinstance(error, RunExistsError):
            word, where = "not started", self.not_started
        elif isinstance(error, TrainingError):
            word, where = "failed", self.failed
        else:
            word, where = "refused", self.refused
        console.say(f"{cell.id}  {word}: {error}")
        where.append(cell.id)


def shard(cells: Sequence[Cell], part: int, parts: int) -> list[Cell]:
    """The cells of one of several shards: by their place in the whole list, whatever is done of it."""
    return [c for i, c in enumerate(sorted(cells, key=lambda c: c.id)) if i % parts == part - 1]


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
        console.say(line)
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
            # To measure costs time as well: what is dearer than a cell that did not fit is not even measured.
            known = c.rank < too_dear and left > 0
            if known:
                try:
                    guess = estimate(c, done, runs_folder)
                except (TrainingError, InputError) as e:
                    report.name(c, e)
                    continue
            if not known or (guess.seconds > left and not partial):
                about = f"about {duration(guess.seconds)} ({guess.source})" if known else "dearer than one that did not"
                console.say(f"{c.id}  not started: {about}, {duration(left)} left")
                report.not_started.append(c.id)
                too_dear = min(too_dear, c.rank)
                continue
            console.say(f"{c.id}  about {duration(guess.seconds)} ({guess.source})")
        try:
            run_cell(c, ledger_folder, runs_folder, deadline=start + budget, clock=clock)
        except BudgetSpent:
            console.say(f"{c.id}  stopped: the budget is spent; what is done is kept in {runs_folder / c.id}")
            report.begun.append(c.id)
            continue
        except (RunExistsError, TrainingError, InputError) as e:
            report.name(c, e)
            continue
        console.say(f"{ledger_folder / c.id}.json")
        report.finished.append(c.id)
    return report


def _with_data(cells: list[Cell], report: Report) -> list[Cell]:
    """The cells whose data are found; the others are reported."""
    rest = []
    for c in cells:
        name = c.config.set
        if name in KNOWN and KNOWN[name].files and find(name, c.config.data_dir) is None:
            report.not_started.append(c.id)
        else:
            rest.append(c)
    missing = sorted({c.config.set for c in cells} - {c.config.set for c in rest})
    if missing and not rest:
        load(missing[0])  # says where it was looked for
    for name in missing:
        console.say(f"{name}: not found, so that its cells are not started; see `bype data fetch {name}`")
    return rest


def run_cell(
    cell: Cell,
    ledger_folder: Path,
    runs_folder: Path,
    *,
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Trains (or goes on with) a cell's run, scores it and writes its file.

    Raises:
        BudgetSpent: If the deadline passes before that.
        RunExistsError: If another process is at work on it.
        TrainingError: If its values stop being finite.
    """
    runs_folder.mkdir(parents=True, exist_ok=True)
    # For training and scoring: the run's own lock is for training alone.
    busy = f"{runs_folder / cell.id}: expected no process at work on it, got one"
    with locked(runs_folder / f".{cell.id}.lock", busy):
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

    with console.epochs(cell.id, cell.config.epochs) as show:
        trained = fit(cell.config, runs_folder / cell.id, resume=True, on_epoch=within(show))
    model, data, metrics = trained.trainer.model, trained.data, trained.run.metrics()
    figures = ledger.training_figures(metrics)
    start, results = time.perf_counter(), Results(trained.run)
    parts: list[Scoring] = []

    def kept(samples: int, **of: Any) -> Scoring:
        parts.append(results.scoring("test", samples=samples, **of))
        return parts[-1]

    with console.items(cell.id) as show_items:
        progress = within(show_items)
        short: dict[str, Any] = {"n_samples": SHORT_SAMPLES, "n_items": SHORT_ITEMS, "progress": progress}
        scored = ledger.flat(evaluate(model, data, **short, scoring=kept(SHORT_SAMPLES)))
        figures["nll_paper_short"] = scored.pop("nll_paper")
        # What is named without `short` is of the contract's full evaluation alone.
        figures |= {k: v for k, v in scored.items() if k not in ("nll_nats", "bpd", "samples", "items")}
        if cell.samples is not None:
            images = data.test.every(cell.every)
            log_p = log_likelihood(
                model, images, cell.samples, scoring=kept(cell.samples, every=cell.every), progress=progress
            )
            figures |= likelihood_figures(model, log_p, data)
            figures |= {"nll_paper_samples": cell.samples, "nll_paper_items": len(images)}
            figures["nll_paper_every"] = cell.every
            if cell.every == 1:  # to stand beside a cell of which no more were scored
                figures["nll_paper_fifth"] = -log_p[::FIFTH].double().mean().item()
        if cell.refit:
            prior = _refit_at_all(results, model, data, check)
            under = evaluate_under(model, data, prior, "all", **short, scoring=kept(SHORT_SAMPLES, refit="all"))
            figures |= {
                key.replace("@", "_short@"): value for key, value in under.items() if key.startswith("nll_paper")
            }
            if cell.samples is not None and not _costly(data, len(prior.loc)):
                whole: dict[str, Any] = {"n_samples": cell.samples, "progress": progress}
                figures |= evaluate_under(model, data, prior, "all", **whole, scoring=kept(cell.samples, refit="all"))
    figures["seconds_evaluation"] = time.perf_counter() - start + sum(p.earlier for p in parts)
    # Training may have been done in pieces; what the epochs took is in their lines.
    training = sum(m["seconds"] + m["seconds_validation"] + m.get("seconds_coreset", 0.0) for m in metrics)
    value = ledger.cell(
        cell.experiment,
        cell.config,
        cell.protocol,
        metrics=metrics,
        figures=figures,
        versions=versions(),
        device=device_model(data.train.pixels.device),
        seconds=training + figures["seconds_evaluation"],
    )
    ledger.write_cell(ledger_folder, value, cell.id)
    for part in parts:
        part.remove()
    return value


def _refit_at_all(results: Results, model: VAE, data: Dataset, check: Callable[..., None]) -> FittedMixture:
    """The run's refit at all training items: made now, or by an earlier call that was stopped after it."""
    if results.has_refit("all"):
        return results.load_refit("all", data)
    prior = refit(model, data, say=check)
    results.save_refit("all", prior, method="points", seed=0)
    return prior


def _costly(data: Dataset, components: int) -> bool:
    """Whether so many components are too many to score every test item under them with 5,000 samples."""
    return data.train.pixels.device.type == "cpu" and components > MANY_COMPONENTS


# Estimates


def estimate(cell: Cell, done: Sequence[dict[str, Any]], runs_folder: Path) -> Estimate:
    """What a cell will take here: by its like of the ledger from such a device, else by a few steps and samples of it.

    Epochs that its run has already and scoring that is kept are not counted again. How many there will be is, under
    early stopping, the median of the ledger's runs of that protocol, or a guess.
    """
    device = device_model(device_of(cell.config.device))
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
    left = max(0.0, epochs - len(run.metrics())) * epoch + max(0.0, evaluation - seconds_spent(run.path))
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
    data = load(config.set, config.data_dir).to(device_of(config.device))
    model = model_from(config, data)
    few = replace(data, train=data.train.first(steps * config.batch_size))
    trainer = trainer_from(config, model, few)
    trainer.coreset_interval = 2
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
        draws = SHORT_SAMPLES * min(SHORT_ITEMS, len(data.test))
        if cell.samples is not None:
            draws += cell.samples * len(data.test.every(cell.every))
        evaluation = a_draw * draws
        if cell.refit:
            loc = torch.randn(len(data.train), config.latent_dim, device=device)
            mixture = IsotropicMixture(loc, loc.new_ones(()), loc.new_full((len(loc),), 1 / len(loc)).log())
            z = torch.randn(count * n_latents, config.latent_dim, device=device)
            a_density = _seconds(lambda: mixture.log_prob(z), device) / len(z)
            scored = SHORT_SAMPLES * min(SHORT_ITEMS, len(data.test))
            if cell.samples is not None and not _costly(data, len(loc)):
                scored += cell.samples * len(data.test)
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
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?|(\d+)", text)
    if match is None or not any(match.groups()):
        raise InputError(f"--budget: expected a time like 90s, 9m or 1h30m, got {text!r}")
    hours, minutes, seconds, alone = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60 * minutes + seconds + alone
