"""`table3`: Table 3 of the paper, classifiers trained with a model's samples."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bype.core.devices import device_model
from bype.evaluation import augmentation
from bype.evaluation.augmentation import METHODS
from bype.evaluation.classifier import ClassifierOptions, error_rate
from bype.experiments.catalog.sources import SOURCES, Source, network_of, networks, one_kind
from bype.experiments.catalog.table1 import PRIORS
from bype.experiments.cell import Cell, Experiment, Outcome, Selection
from bype.experiments.classifiers import baseline_path, kept_classifier, seconds_left
from bype.experiments.markdown import number, table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import summary
from bype.experiments.training import train

NAME = "table3"
#: Test error in percent, by method and prior; the Exemplar VAE paper reports 0.69 for its own prior sampling.
PAPER = {
    ("posterior", "standard"): 1.23, ("posterior", "vamp"): 1.20, ("posterior", "exemplar"): 1.16,
    ("posterior", "bype"): 1.10, ("prior", "exemplar"): 1.10, ("prior", "bype"): 0.88,
}  # fmt: skip


def table3(selection: Selection) -> list[Cell]:
    """MNIST, MLP VAE, each prior, three seeds. Networks are those of Table 1, trained if they are missing."""
    return [Cell(NAME, c.config, c.protocol, samples=None) for c in networks(selection, ("mnist",))]


def measure(cell: Cell, runs: Path, check: Callable[[], None]) -> Outcome:
    """Trains a classifier by each method that the prior allows.

    Figures: `error_METHOD`, the test error in percent. `seconds` is the time of the classifiers.
    """
    trained = train(network_of(cell).id, cell.config, runs, check)
    model, data = trained.trainer.model, trained.data
    options = ClassifierOptions(seed=cell.config.seed)
    metrics: dict[str, float] = {}
    seconds = 0.0
    for method in augmentation.allowed_methods(model):
        source = augmentation.synthetic_source(model, data, method)
        path, network = classifier_path(cell, runs, method), trained.run.checkpoints.networks()
        own = kept_classifier(path, data, source, options, check, None if method == "baseline" else {**network})
        start = time.perf_counter()
        metrics[f"error_{method}"] = error_rate(own.classifier, data.test, data.name)
        seconds += own.seconds + time.perf_counter() - start
    return Outcome([], metrics, device_model(data.train.pixels.device), seconds)


def classifier_path(cell: Cell, runs: Path, method: str) -> Path:
    """The file of a classifier; the one without augmentation is the same for all cells of a seed."""
    if method == "baseline":
        return baseline_path(runs, cell.config.set, ClassifierOptions(seed=cell.config.seed))
    return runs / cell.id / f"classifier-{method}.safetensors"


def left(cell: Cell, runs: Path | None, rate: float) -> float:
    """The seconds of the classifiers."""
    used = {"standard": METHODS[:2], "vamp": METHODS[:2], "exemplar": METHODS[:3]}.get(cell.config.prior, METHODS)
    options = ClassifierOptions(seed=cell.config.seed)
    total = 0.0
    for method in used:
        path = None if runs is None else classifier_path(cell, runs, method)
        total += seconds_left(path, cell.config.set, options, rate, alone=method == "baseline")
    return total


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A row per method and prior, for each source of networks."""
    lines: list[str] = []
    for source in SOURCES:
        mine = [c for c in cells if (c["experiment"], c["protocol"]) == (NAME, source.protocol)]
        if mine:
            lines += _of_source(one_kind(mine), source)
    if not lines:
        return []
    return [
        "## Table 3: augmentation of a classifier",
        "",
        "Test error in percent of an MLP classifier of MNIST, trained for 100 epochs on the training examples and "
        "synthetic ones ([augmentation.md](../docs/augmentation.md)). `baseline` has none; `coreset` is ours. The "
        "networks are those of Table 1.",
        "",
        *lines,
    ]


def _of_source(mine: Sequence[CellRecord], source: Source) -> list[str]:
    lines = [
        f"{source.title.capitalize()}:",
        "",
        *table_head("method", "prior of the samples", "paper", "ours", "sd", "n"),
    ]
    priors = [prior for prior in PRIORS if any(c["prior"] == prior for c in mine)]
    for method in METHODS:
        groups = {p: [c for c in mine if c["prior"] == p] for p in priors}
        for prior, own in ({"none": mine} if method == "baseline" else groups).items():
            values = list(by_seed(own, f"error_{method}").values())
            if values:
                ours = summary(values)
                paper = number(PAPER.get((method, prior)))
                lines.append(f"| {method} | {prior} | {paper} | {ours.mean:.2f} | {number(ours.sd)} | {ours.n} |")
    return [*lines, ""]


EXPERIMENT = Experiment(
    NAME, "Table 3 of the paper: a classifier trained with a model's samples.", table3, section=section,
    shown=dict.fromkeys((s.protocol for s in SOURCES), ("error_baseline", "error_posterior")),
    options=("protocol", "precision"), measure=measure, network=network_of, left=left,
)  # fmt: skip
