"""`fig1`: Figure 1 of the paper, plates of samples that share a pseudo-point, and how much they resemble it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bype.core.config import dataset_stem
from bype.core.devices import device_model
from bype.core.errors import InputError
from bype.evaluation.classifier import ClassifierOptions
from bype.evaluation.plates import plate_agreement, plate_variance
from bype.experiments.arrays import pack, pack_images, pictures_of, unpack
from bype.experiments.catalog.sources import FACES, SOURCES, Source, network_of, pictured
from bype.experiments.cell import Cell, Experiment, Outcome, Selection
from bype.experiments.classifiers import baseline_path, kept_classifier, seconds_left
from bype.experiments.markdown import table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import summary
from bype.experiments.training import train
from bype.models.generation import Plates, plates
from bype.viz.charts import plates as plates_picture
from bype.viz.images import save_png

NAME = "fig1"
#: Plates of the picture, and samples on each.
N_PLATES, N_SAMPLES = 9, 9
TITLES = {"plate_agreement": "same label as the point (%)", "plate_variance": "variance within plates (%)"}


def fig1(selection: Selection) -> list[Cell]:
    """ByPE on MNIST, Fashion-MNIST and CelebA; the networks are those of Table 1, and one of faces."""
    return [Cell(NAME, c.config, c.protocol, samples=None) for c in pictured(selection)]


def measure(cell: Cell, runs: Path, check: Callable[[], None]) -> Outcome:
    """Draws the plates of some components, and measures those of all.

    Figures: `plate_variance`, and with labelled data `plate_agreement` with the classifier that is trained without
    samples; both in percent. Arrays: `points` (k, h, w, c), `samples` (k, n, h, w, c), `components` and `weights` (k,).
    """
    trained = train(network_of(cell).id, cell.config, runs, check)
    model, data, seed = trained.trainer.model.eval(), trained.data, cell.config.seed
    start = time.perf_counter()
    generator = torch.Generator(data.train.pixels.device).manual_seed(seed)
    drawn = plates(model, N_SAMPLES, N_PLATES, generator=generator)
    metrics = {"plate_variance": plate_variance(model, seed=seed)}
    seconds = time.perf_counter() - start
    check()
    if data.train.labels is not None:
        options = ClassifierOptions(seed=seed)
        own = kept_classifier(baseline_path(runs, data.name, options), data, None, options, check)
        start = time.perf_counter()
        metrics["plate_agreement"] = plate_agreement(model, own.classifier, seed=seed)
        seconds += own.seconds + time.perf_counter() - start
    arrays = {
        "points": pack_images(drawn.points),
        "samples": pack_images(drawn.images),
        "components": pack(drawn.components.cpu().numpy()),
        "weights": pack(drawn.weights.float().cpu().numpy()),
    }
    return Outcome([], metrics, device_model(data.train.pixels.device), seconds, arrays)


def left(cell: Cell, runs: Path | None, rate: float) -> float:
    """The seconds of the classifier; faces have none."""
    if cell.config.set == FACES:
        return 0.0
    options = ClassifierOptions(seed=cell.config.seed)
    path = None if runs is None else baseline_path(runs, cell.config.set, options)
    return seconds_left(path, cell.config.set, options, rate, alone=True)


def check(record: CellRecord) -> None:
    """Checks the arrays that the plates are drawn from."""
    _plates(record)


def _plates(record: CellRecord) -> Plates:
    """The plates of a record.

    Raises:
        InputError: If its arrays are missing, or do not fit one another.
    """
    points, samples = pictures_of(record, {"points": 1, "samples": 2}, N_PLATES)
    numbers = [unpack(record.get("arrays", {}).get(name), name) for name in ("components", "weights")]
    if any(values.shape[:1] < (len(points),) or values.ndim != 1 for values in numbers):
        raise InputError(f"expected a number and a weight for each of {len(points)} plates")
    components, weights = (torch.from_numpy(values[: len(points)]) for values in numbers)
    return Plates(points, samples, components, weights)


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """The measurements of all plates, and a picture of some for each data set."""
    lines: list[str] = []
    for source in SOURCES:
        mine = [c for c in cells if (c["experiment"], c["protocol"]) == (NAME, source.protocol)]
        if mine:
            lines += _of_source(mine, source, folder)
    if not lines:
        return []
    return [
        "## Figure 1: samples of single pseudo-points",
        "",
        "ByPE's prior is a mixture with a component for each pseudo-point; a plate shows samples of one component. "
        "Measured over all components with a positive weight, 16 samples each: the share of samples that a classifier, "
        "trained on the training examples alone, labels as it labels the image of their point; and the share of the "
        "samples' variance that lies within the plates (0: all samples of a plate are the same; 100: the plates do not "
        "differ). The pictures show components chosen by their weights.",
        "",
        *lines,
    ]


def _of_source(mine: Sequence[CellRecord], source: Source, folder: Path) -> list[str]:
    lines = [f"{source.title.capitalize()}:", "", *table_head("data", "measure", "mean", "sd", "n", "95 % interval")]
    groups = {name: [c for c in mine if c["set"] == name] for name in sorted({c["set"] for c in mine}, reverse=True)}
    for name, own in groups.items():
        for metric, title in TITLES.items():
            if values := list(by_seed(own, metric).values()):
                s = summary(values)
                ends = "" if s.interval is None else f"{s.interval[0]:.1f} to {s.interval[1]:.1f}"
                spread = "" if s.sd is None else f"{s.sd:.1f}"
                lines.append(f"| {name} | {title} | {s.mean:.1f} | {spread} | {s.n} | {ends} |")
    lines.append("")
    for name, own in groups.items():
        file = f"fig1-{dataset_stem(name)}-{source.protocol}.png"
        first = min(own, key=lambda c: c["seed"])
        save_png(plates_picture(_plates(first)), folder / file)
        lines += [f"![Plates of {dataset_stem(name)}, {source.title}, seed {first['seed']}]({file})", ""]
    return lines


EXPERIMENT = Experiment(
    NAME, "Figure 1 of the paper: samples of single pseudo-points, and whether they resemble it.", fig1,
    section=section, check=check, shown=dict.fromkeys((s.protocol for s in SOURCES), ("plate_variance",)),
    options=("protocol", "precision"), measure=measure, network=network_of, left=left,
)  # fmt: skip
