"""`table3`: Table 3 of the paper, classifiers trained with a model's samples, from networks of the recipe `fast`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bype.core.devices import device_model
from bype.data.images import Dataset
from bype.evaluation import augmentation
from bype.evaluation.augmentation import METHODS
from bype.evaluation.classifier import ClassifierOptions, error_rate
from bype.experiments.catalog import fast_table1
from bype.experiments.catalog.sources import network_of, networks
from bype.experiments.cell import Cell, Experiment, Outcome, Selection
from bype.experiments.classifiers import baseline_path, kept_classifier
from bype.experiments.markdown import counted_mean, mean, number, prior_order, table_head
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
    """MNIST, MLP VAE, each prior, three seeds. Networks are those of `fast-table1`, trained if they are missing."""
    return [Cell(NAME, c.config, c.protocol, samples=None) for c in networks(selection, ("mnist",))]


def measure(cell: Cell, runs: Path, check: Callable[[], None]) -> Outcome:
    """Trains a classifier by each method that the prior allows.

    Figures: `error_METHOD`, the test error in percent; `plate_agreement`, the share of a component's samples that the
    classifier without augmentation labels as the image of its point. `seconds` is the time of the classifiers.
    """
    trained = train(network_of(cell).id, cell.config, runs, check)
    model, data = trained.trainer.model, trained.data
    options = ClassifierOptions(seed=cell.config.seed)
    metrics: dict[str, float] = {}
    seconds = 0.0
    for method in augmentation.allowed_methods(model):
        source = augmentation.synthetic_source(model, data, method)
        path, network = classifier_path(cell, runs, method, data), trained.run.checkpoints.networks()
        own = kept_classifier(path, data, source, options, check, None if method == "baseline" else {**network})
        start = time.perf_counter()
        metrics[f"error_{method}"] = error_rate(own.classifier, data.test, data.name)
        if method == "baseline" and "prior" in augmentation.allowed_methods(model):
            metrics["plate_agreement"] = augmentation.plate_agreement(model, own.classifier, seed=cell.config.seed)
        seconds += own.seconds + time.perf_counter() - start
    return Outcome([], metrics, device_model(data.train.pixels.device), seconds)


def classifier_path(cell: Cell, runs: Path, method: str, data: Dataset) -> Path:
    """The file of a classifier; the one without augmentation is the same for all cells of a seed."""
    if method == "baseline":
        return baseline_path(runs, data, ClassifierOptions(seed=cell.config.seed))
    return runs / cell.id / f"classifier-{method}.safetensors"


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A row per method and prior."""
    mine = sorted((c for c in cells if c["experiment"] == NAME), key=prior_order)
    if not mine:
        return []
    lines = [
        "## Table 3: augmentation of a classifier, networks of the recipe `fast`",
        "",
        "Test error in percent of an MLP classifier of MNIST, trained for 100 epochs on the training examples and "
        "synthetic ones ([augmentation.md](../docs/augmentation.md)). `baseline` has none; `coreset` is ours.",
        "",
        *table_head("method", "prior of the samples", "paper", "ours", "sd", "n"),
    ]
    priors = list(dict.fromkeys(c["prior"] for c in mine))
    for method in METHODS:
        groups = {"none": mine} if method == "baseline" else {p: [c for c in mine if c["prior"] == p] for p in priors}
        for prior, own in groups.items():
            values = list(by_seed(own, f"error_{method}").values())
            if values:
                ours = summary(values)
                paper = number(PAPER.get((method, prior)))
                lines.append(f"| {method} | {prior} | {paper} | {ours.mean:.2f} | {number(ours.sd)} | {ours.n} |")
    plates = [c for c in mine if "plate_agreement" in c["figures"]]
    shares = [
        f"{prior} {counted_mean(own, 'plate_agreement')}"
        for prior in priors
        if (own := [c for c in plates if c["prior"] == prior]) and mean(own, "plate_agreement")
    ]
    return [*lines, "", f"Samples with the label of their point, in percent: {', '.join(shares)}.", ""]


EXPERIMENT = Experiment(
    NAME, "Table 3 of the paper: a classifier trained with a model's samples.", table3, section=section,
    shown={fast_table1.PROTOCOL: ("error_baseline", "error_posterior")}, options=("precision",), measure=measure,
)  # fmt: skip
