"""Experiments as lists of cells, each trained, evaluated and written to the ledger as it ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bype import console, ledger
from bype.config import Config
from bype.evaluation import evaluate, log_likelihood
from bype.runs import device_model, fit, versions

SHORT_SAMPLES, SHORT_ITEMS = 500, 2000


@dataclass(frozen=True)
class Cell:
    """One cell: a training run, and how it is scored."""

    experiment: str
    config: Config
    protocol: str
    samples: int = 5000
    items: int | None = None  # of the test set, for `nll_paper`; all by default

    @property
    def id(self) -> str:
        """The ledger's name for it."""
        return ledger.cell_id(self.experiment, self.config, self.protocol)


def trunk(device: str = "auto") -> list[Cell]:
    """MNIST, MLP VAE, protocol short, seed 0: the four priors, and `bype` in bf16."""

    def short(prior: str, precision: str = "fp32", items: int | None = None) -> Cell:
        config = Config(
            "mnist", prior=prior, n_components=500, coreset="none", epochs=30, warmup=10,
            exemplars=500, precision=precision, device=device,
        )  # fmt: skip
        return Cell("trunk", config, "short", items=items)

    # 50,000 components make a sample of the exemplar prior many times dearer: fewer items.
    return [short("standard"), short("vamp"), short("bype"), short("bype", "bf16"), short("exemplar", items=2000)]


EXPERIMENTS: dict[str, Callable[[str], list[Cell]]] = {"trunk": trunk}


def run_cell(cell: Cell, ledger_folder: Path, runs_folder: Path) -> dict[str, Any]:
    """Trains (or goes on with) a cell's run, scores it and writes its file."""
    with console.epochs(cell.id, cell.config.epochs) as show:
        trained = fit(cell.config, runs_folder / cell.id, resume=True, on_epoch=show)
    model, data, metrics = trained.trainer.model, trained.data, trained.run.metrics()
    figures = ledger.training_figures(metrics)
    p = model.eval().prior(model.encoder)
    short = log_likelihood(model, data.test.first(SHORT_ITEMS), SHORT_SAMPLES, prior=p)
    figures["nll_paper_short"] = -short.double().mean().item()
    scoring = time.perf_counter()
    with console.items(cell.id) as show_items:
        scored = evaluate(model, data, n_samples=cell.samples, n_items=cell.items, progress=show_items)
    figures["nll_paper_samples"], figures["nll_paper_items"] = scored.pop("samples"), scored.pop("items")
    figures |= ledger.flat(scored) | {"seconds_evaluation": time.perf_counter() - scoring}
    # Training may have been done in pieces; what the epochs took is in their lines.
    seconds = sum(m["seconds"] + m["seconds_validation"] for m in metrics) + time.perf_counter() - scoring
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
