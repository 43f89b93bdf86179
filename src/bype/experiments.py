"""Experiments as lists of cells, each trained, evaluated and written to the ledger as it ends."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bype import console, ledger
from bype.config import Config
from bype.errors import InputError
from bype.evaluation import evaluate, likelihood_figures, log_likelihood
from bype.runs import device_model, fit, versions

SHORT_SAMPLES, SHORT_ITEMS = 500, 2000


@dataclass(frozen=True)
class Cell:
    """One cell: a training run, and how it is scored."""

    experiment: str
    config: Config
    protocol: str
    samples: int | None = 5000  # of each item, for `nll_paper`; None leaves it out
    items: int | None = None  # of the test set, for `nll_paper`; all by default

    @property
    def id(self) -> str:
        """The ledger's name for it."""
        return ledger.cell_id(self.experiment, self.config, self.protocol)


def short(prior: str, coreset: str = "none", *, precision: str = "fp32", seed: int = 0, device: str = "auto") -> Config:
    """MNIST, MLP VAE, protocol short: 30 epochs, warm-up 10, otherwise `train`'s defaults."""
    return Config(
        "mnist", prior=prior, coreset=coreset, n_components=500, exemplars=500, epochs=30, warmup=10,
        precision=precision, seed=seed, device=device,
    )  # fmt: skip


def trunk(device: str = "auto", seeds: Sequence[int] = (0,)) -> list[Cell]:
    """The four priors, and `bype` in bf16; the full evaluation at seed 0."""
    cells = []
    for seed in seeds:
        for prior, precision in (("standard", "fp32"), ("vamp", "fp32"), ("bype", "fp32"), ("bype", "bf16"),
                                 ("exemplar", "fp32")):  # fmt: skip
            config = short(prior, precision=precision, seed=seed, device=device)
            # 50,000 components make a sample of the exemplar prior many times dearer: fewer items.
            items = 2000 if prior == "exemplar" else None
            cells.append(Cell("trunk", config, "short", samples=None if seed else 5000, items=items))
    return cells


def step_two(device: str = "auto", seeds: Sequence[int] = (0, 1, 2)) -> list[Cell]:
    """Every strategy of step (ii), and VampPrior."""
    kinds = [("bype", "paper"), ("bype", "published"), ("bype", "elbo"), ("bype", "none"), ("vamp", "none")]
    return [
        Cell("step-two", short(prior, coreset, seed=seed, device=device), "short", samples=None)
        for seed in seeds
        for prior, coreset in kinds
    ]


EXPERIMENTS: dict[str, Callable[..., list[Cell]]] = {"trunk": trunk, "step-two": step_two}


def outstanding(
    what: str,
    ledger_folder: Path,
    *,
    device: str = "auto",
    seeds: Sequence[int] | None = None,
    prior: str | None = None,
    coreset: str | None = None,
) -> list[Cell]:
    """An experiment's cells that the ledger does not hold yet, those asked for only.

    Raises:
        InputError: If there is no such experiment, or no such cell in it.
    """
    if what not in EXPERIMENTS:
        raise InputError(f"reproduce: expected one of {', '.join(EXPERIMENTS)}, got {what!r}")
    cells = EXPERIMENTS[what](device) if seeds is None else EXPERIMENTS[what](device, seeds)
    wanted = [
        c
        for c in cells
        if prior in (None, c.config.prior)
        and (coreset is None or (c.config.prior, c.config.coreset) == ("bype", coreset))
    ]
    if not wanted:
        raise InputError(f"reproduce {what}: expected cells with --prior {prior} and --coreset {coreset}, got none")
    return [c for c in wanted if not (ledger_folder / f"{c.id}.json").exists()]


def run_cell(cell: Cell, ledger_folder: Path, runs_folder: Path) -> dict[str, Any]:
    """Trains (or goes on with) a cell's run, scores it and writes its file."""
    with console.epochs(cell.id, cell.config.epochs) as show:
        trained = fit(cell.config, runs_folder / cell.id, resume=True, on_epoch=show)
    model, data, metrics = trained.trainer.model, trained.data, trained.run.metrics()
    figures = ledger.training_figures(metrics)
    scoring = time.perf_counter()
    scored = ledger.flat(evaluate(model, data, n_samples=SHORT_SAMPLES, n_items=SHORT_ITEMS))
    figures["nll_paper_short"] = scored.pop("nll_paper")
    # What is named without `short` is of the contract's full evaluation alone.
    figures |= {k: v for k, v in scored.items() if k not in ("nll_nats", "bpd", "samples", "items")}
    if cell.samples is not None:
        images = data.test.first(cell.items)
        with console.items(cell.id) as show_items:
            log_p = log_likelihood(model, images, cell.samples, progress=show_items).double().mean().item()
        figures |= likelihood_figures(model, log_p, math.prod(data.shape), data.levels)
        figures |= {"nll_paper_samples": cell.samples, "nll_paper_items": len(images)}
    figures["seconds_evaluation"] = time.perf_counter() - scoring
    # Training may have been done in pieces; what the epochs took is in their lines.
    training = sum(m["seconds"] + m["seconds_validation"] + m.get("seconds_coreset", 0.0) for m in metrics)
    seconds = training + figures["seconds_evaluation"]
    value = ledger.cell(
        cell.experiment,
        cell.config,
        cell.protocol,
        metrics=metrics,
        figures=figures,
        versions=versions(),
        device=device_model(data.train.pixels.device),
        seconds=seconds,
    )
    ledger.write_cell(ledger_folder, value, cell.id)
    return value
