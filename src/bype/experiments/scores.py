"""What is measured of a trained cell: its scores in short and in full, and under a refit with all training items."""

import time
from collections.abc import Callable
from typing import Any

from bype.core.errors import InputError
from bype.data.images import Dataset
from bype.evaluation.likelihood import Progress, log_likelihood
from bype.evaluation.metrics import evaluate, evaluate_under, likelihood_metrics
from bype.experiments import cells, ledger
from bype.experiments.cells import EVERY_FIFTH, Cell
from bype.models.vae import VAE
from bype.priors.fitted import FittedMixture
from bype.runs.evaluations import Evaluations
from bype.runs.fitting import TrainedRun
from bype.runs.scoring import PartialScores
from bype.training.refitting import refit

# On a CPU, under more components than this, a refit is scored by `nll_paper_short` alone: in full it takes an hour.
MANY_COMPONENTS = 10_000


def score(
    cell: Cell, trained: TrainedRun, progress: Progress, check: Callable[..., None], parts: list[PartialScores]
) -> dict[str, Any]:
    """The figures of a cell's evaluation.

    Args:
        cell: The cell.
        trained: Its run, with the best epoch's networks.
        progress: Called as scoring goes on; what it raises ends it, and the next call goes on from there.
        check: Called as the refit goes on, with what it has to report.
        parts: The partial scores kept beside the run until the figures are recorded are added to these.
    """
    model, data, start = trained.trainer.model, trained.data, time.perf_counter()
    results = Evaluations(trained.run)
    earlier = 0.0  # seconds that the refit took an earlier call

    def kept(samples: int, items: int | None = None, **of: Any) -> PartialScores:
        parts.append(results.partial_scores("test", samples=samples, items=items, **of))
        return parts[-1]

    short: dict[str, Any] = {"n_samples": cells.SHORT_SAMPLES, "n_items": cells.SHORT_ITEMS, "progress": progress}
    scored = ledger.flat(evaluate(model, data, **short, scoring=kept(cells.SHORT_SAMPLES, cells.SHORT_ITEMS)))
    figures = {"nll_paper_short": scored.pop("nll_paper")}
    # What is named without `short` is of the contract's full evaluation alone.
    figures |= {k: v for k, v in scored.items() if k not in ("nll_nats", "bpd", "samples", "items")}
    if cell.samples is not None:
        images = data.test.every(cell.every)
        part = kept(cell.samples, every=cell.every)
        log_p = log_likelihood(model, images, cell.samples, scoring=part, progress=progress)
        figures |= likelihood_metrics(model, log_p, data)
        figures |= {"nll_paper_samples": cell.samples, "nll_paper_items": len(images), "nll_paper_every": cell.every}
        if cell.every == 1:  # to stand beside a cell of which no more were scored
            figures["nll_paper_fifth"] = -log_p[::EVERY_FIFTH].double().mean().item()
    if cell.refit:
        prior, earlier = _refit_at_all(results, model, data, check)
        part = kept(cells.SHORT_SAMPLES, cells.SHORT_ITEMS, refit="all")
        under = evaluate_under(model, data, prior, "all", **short, scoring=part)
        figures |= {key.replace("@", "_short@"): value for key, value in under.items() if key.startswith("nll_paper")}
        if samples := samples_under(cell, data, len(prior.loc)):
            part = kept(samples, refit="all")
            figures |= evaluate_under(model, data, prior, "all", n_samples=samples, scoring=part, progress=progress)
    figures["seconds_evaluation"] = time.perf_counter() - start + earlier + sum(part.earlier for part in parts)
    return figures


def _refit_at_all(
    results: Evaluations, model: VAE, data: Dataset, check: Callable[..., None]
) -> tuple[FittedMixture, float]:
    """The run's refit at all training items, made now, or by an earlier call in so many seconds."""
    if (record := results.refits.record("all")) is not None:
        made = {key: record.get(key) for key in ("method", "components", "seed")}
        if made != {"method": "points", "components": len(data.train), "seed": 0}:
            raise InputError(
                f"{results.path}: expected a refit 'all' at the {len(data.train)} training items, got another of that "
                f"name ({made}); remove it"
            )
        seconds = record.get("seconds")
        return results.refits.load("all", data), seconds if isinstance(seconds, float) else 0.0
    start = time.perf_counter()
    prior = refit(model, data, report=check)
    results.save_refit("all", prior, method="points", seed=0, seconds=time.perf_counter() - start)
    return prior, 0.0


def samples_under(cell: Cell, data: Dataset, components: int) -> int | None:
    """With how many samples every test item is scored under a refit of so many components too; None where none is."""
    few = data.train.pixels.device.type != "cpu" or components <= MANY_COMPONENTS
    return cell.samples if few else None
