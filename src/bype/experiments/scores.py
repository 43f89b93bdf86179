"""Metrics of a trained cell: the short and the full evaluation, also under a refit to all training examples."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from bype.core.errors import InputError
from bype.data.images import Dataset
from bype.evaluation.likelihood import Progress, log_likelihood
from bype.evaluation.metrics import evaluate, evaluate_under, likelihood_metrics
from bype.experiments.cell import EVERY_FIFTH, SHORT_ITEMS, SHORT_SAMPLES, Cell
from bype.experiments.records import EpochMetrics
from bype.models.vae import VAE
from bype.priors.fitted import FittedMixture
from bype.runs.evaluations import Evaluations
from bype.runs.fitting import TrainedRun
from bype.runs.scoring import PartialScores
from bype.training.refitting import refit

# On a CPU, a refit with more components than this gets `nll_paper_short` only: the full evaluation takes an hour.
MANY_COMPONENTS = 10_000


def score(
    cell: Cell, trained: TrainedRun, progress: Progress, check: Callable[[str], None], parts: list[PartialScores]
) -> dict[str, float]:
    """The metrics of a cell's evaluation.

    Args:
        cell: The cell.
        trained: Its run, with the networks of the best epoch.
        progress: Called during scoring; an exception it raises ends the scoring, and the next call continues it.
        check: Called during the refit, with its progress messages.
        parts: A list to which partial scores are added: they are to be removed once the metrics are recorded.
    """
    model, data, start = trained.trainer.model, trained.data, time.perf_counter()
    evaluations = Evaluations(trained.run)
    earlier = 0.0  # seconds of the refit in an earlier call

    def partial_scores(
        samples: int, items: int | None = None, every: int = 1, refit: str | None = None
    ) -> PartialScores:
        parts.append(evaluations.partial_scores("test", samples=samples, items=items, every=every, refit=refit))
        return parts[-1]

    part = partial_scores(SHORT_SAMPLES, SHORT_ITEMS)
    scored = flatten(
        evaluate(model, data, n_samples=SHORT_SAMPLES, n_items=SHORT_ITEMS, scoring=part, progress=progress)
    )
    metrics = {"nll_paper_short": scored.pop("nll_paper")}
    # Names without `short` are reserved for the full evaluation.
    metrics |= {k: v for k, v in scored.items() if k not in ("nll_nats", "bpd", "samples", "items")}
    if cell.samples is not None:
        images = data.test.every(cell.every)
        part = partial_scores(cell.samples, every=cell.every)
        log_p = log_likelihood(model, images, cell.samples, scoring=part, progress=progress)
        metrics |= likelihood_metrics(model, log_p, data)
        metrics |= {"nll_paper_samples": cell.samples, "nll_paper_items": len(images), "nll_paper_every": cell.every}
        if cell.every == 1:  # comparable with a cell scored on every fifth example
            metrics["nll_paper_fifth"] = -log_p[::EVERY_FIFTH].double().mean().item()
    if cell.refit:
        prior, earlier = _refit_at_all(evaluations, model, data, check)
        part = partial_scores(SHORT_SAMPLES, SHORT_ITEMS, refit="all")
        under = evaluate_under(
            model, data, prior, "all", n_samples=SHORT_SAMPLES, n_items=SHORT_ITEMS, scoring=part, progress=progress
        )
        metrics |= {key.replace("@", "_short@"): value for key, value in under.items() if key.startswith("nll_paper")}
        if samples := samples_under(cell, data, len(prior.loc)):
            part = partial_scores(samples, refit="all")
            metrics |= evaluate_under(model, data, prior, "all", n_samples=samples, scoring=part, progress=progress)
    metrics["seconds_evaluation"] = time.perf_counter() - start + earlier + sum(part.earlier for part in parts)
    return metrics


def _refit_at_all(
    evaluations: Evaluations, model: VAE, data: Dataset, check: Callable[[str], None]
) -> tuple[FittedMixture, float]:
    """The run's refit to all training examples, and the seconds that an earlier call spent on it."""
    if (record := evaluations.refits.record("all")) is not None:
        made = {key: record.get(key) for key in ("method", "components", "seed")}
        if made != {"method": "points", "components": len(data.train), "seed": 0}:
            raise InputError(
                f"{evaluations.path}: expected the refit 'all' to have the {len(data.train)} training examples as "
                f"components, got {made}; remove it"
            )
        seconds = record.get("seconds")
        return evaluations.refits.load("all", data), seconds if isinstance(seconds, float) else 0.0
    start = time.perf_counter()
    prior = refit(model, data, report=check)
    evaluations.save_refit("all", prior, method="points", seed=0, seconds=time.perf_counter() - start)
    return prior, 0.0


def samples_under(cell: Cell, data: Dataset, components: int) -> int | None:
    """Samples per test example of the full evaluation under a refit with this many components; None without one."""
    few = data.train.pixels.device.type != "cpu" or components <= MANY_COMPONENTS
    return cell.samples if few else None


def training_metrics(epochs: Sequence[EpochMetrics]) -> dict[str, float]:
    """Median times, the state at the end of training, and the effect of each update of a pseudocoreset."""
    best = min(epochs, key=lambda m: m["val_loss"])
    metrics: dict[str, float] = {}
    updates = [m for m in epochs if "coreset_mean_distance" in m]
    for m in updates:
        if "val_loss_before_update" in m:
            metrics[f"val_loss_before_{m['epoch']}"] = m["val_loss_before_update"]
            metrics[f"val_loss_after_{m['epoch']}"] = m["val_loss"]
        for key in ("coreset_mean_distance", "coreset_outside"):
            metrics[f"{key}_{m['epoch']}"] = m[key]
    timed = [m["seconds_coreset"] for m in updates if "seconds_coreset" in m]
    if timed:
        metrics["seconds_coreset"] = statistics.median(timed)
    return metrics | {
        "epochs": len(epochs),
        "best_epoch": best["epoch"],
        "val_loss": best["val_loss"],
        "seconds_per_epoch": statistics.median(m["seconds"] for m in epochs),
        "seconds_validation": statistics.median(m["seconds_validation"] for m in epochs),
    }


def flatten(metrics: Mapping[str, object]) -> dict[str, float]:
    """The metrics that are numbers; the kNN map becomes `knn_K`."""
    out: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            out |= {f"{key}_{k}": v for k, v in value.items()}
        elif isinstance(value, int | float):
            out[key] = value
    return out
