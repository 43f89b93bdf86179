"""`fig2`: Figure 2 of the paper, images along lines in the latent space."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bype.core.config import dataset_stem
from bype.core.devices import device_model
from bype.core.errors import InputError
from bype.core.sampling import random_subset
from bype.evaluation.latents import latents
from bype.experiments.arrays import pack_images, pictures_of
from bype.experiments.catalog.sources import FACES, SOURCES, Source, network_of, pictured
from bype.experiments.cell import Cell, Experiment, Outcome, Selection
from bype.experiments.markdown import table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import summary
from bype.experiments.training import train
from bype.models.generation import decode_line, step_sizes
from bype.viz import labelled
from bype.viz.images import save_png

NAME = "fig2"
#: Rows of the picture, images on a line, and lines that are measured.
ROWS, STEPS, LINES = 6, 11, 500


def fig2(selection: Selection) -> list[Cell]:
    """ByPE on CelebA, as in the paper, and on MNIST and Fashion-MNIST with the networks of Table 1."""
    return [Cell(NAME, c.config, c.protocol, samples=None) for c in pictured(selection)]


def measure(cell: Cell, runs: Path, check: Callable[[], None]) -> Outcome:
    """Images on the lines between random pairs of test images.

    Figures: `largest_step`, the largest step along a line in pixel space over the mean step: 1 if all are equal,
    `STEPS - 1` if the image changes in one jump; the mean over the lines. Arrays: `ends` (r, 2, h, w, c), the test
    images, and `lines` (r, s, h, w, c), from the reconstruction of the first to that of the second.
    """
    trained = train(network_of(cell).id, cell.config, runs, check)
    model, test, seed = trained.trainer.model.eval(), trained.data.test, cell.config.seed
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    n_lines = min(LINES, len(test) // 2)
    pairs = random_subset(len(test), 2 * n_lines, generator).view(-1, 2)
    rows = pairs.flatten().to(test.pixels.device)
    means = latents(model, test[rows], seed).unflatten(0, (-1, 2))
    ratios = []
    for block in means.split(50):
        steps = step_sizes(decode_line(model, block[:, 0], block[:, 1], STEPS))
        ratios.append(steps.amax(1) / steps.mean(1).clamp(min=torch.finfo(steps.dtype).tiny))
        check()
    shown = means[:ROWS]
    arrays = {
        "ends": pack_images(test.scaled(rows[: 2 * ROWS]).unflatten(0, (-1, 2))),
        "lines": pack_images(decode_line(model, shown[:, 0], shown[:, 1], STEPS)),
    }
    metrics = {"largest_step": torch.cat(ratios).double().mean().item()}
    return Outcome([], metrics, device_model(test.pixels.device), time.perf_counter() - start, arrays)


def check(record: CellRecord) -> None:
    """Checks the arrays that the lines are drawn from."""
    _rows(record)


def _rows(record: CellRecord) -> torch.Tensor:
    """The rows of the picture, (r, s + 2, c, h, w).

    Raises:
        InputError: If the arrays are missing, or do not fit one another.
    """
    ends, between = pictures_of(record, {"ends": 2, "lines": 2}, ROWS)
    if ends.shape[1] != 2:
        raise InputError(f"expected two ends of each line, got {ends.shape[1]}")
    return torch.cat([ends[:, :1], between, ends[:, 1:]], 1)


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """The measurement, and the lines of one seed for each data set."""
    mine = [c for c in cells if c["experiment"] == NAME]
    if not mine:
        return []
    lines = [
        "## Figure 2: interpolation in the latent space",
        "",
        "Each row begins and ends with a test image; between them are the images decoded from points at equal "
        "distances on the line from the posterior mean of the first to that of the second. The largest step is that in "
        f"pixel space relative to the mean step of its line: 1 if all {STEPS - 1} steps are equal, {STEPS - 1} if the "
        f"image changes in one jump; the mean over up to {LINES} random pairs of test images.",
        *(
            []
            if any(c["set"] == FACES for c in mine)
            else ["The paper shows faces of CelebA, which have not been run; the data sets below stand in for them."]
        ),
        "",
        *table_head("networks", "data", "largest step / mean step", "sd", "n"),
    ]
    pictures = []
    for source in SOURCES:
        own = [c for c in mine if c["protocol"] == source.protocol]
        for name in sorted({c["set"] for c in own}, reverse=True):
            of_set = [c for c in own if c["set"] == name]
            s = summary(list(by_seed(of_set, "largest_step").values()))
            spread = "" if s.sd is None else f"{s.sd:.2f}"
            lines.append(f"| {source.title} | {name} | {s.mean:.2f} | {spread} | {s.n} |")
            pictures += _picture(min(of_set, key=lambda c: c["seed"]), source, folder)
    return [*lines, "", *pictures]


def _picture(record: CellRecord, source: Source, folder: Path) -> list[str]:
    name, rows = dataset_stem(record["set"]), _rows(record)
    file = f"fig2-{name}-{source.protocol}.png"
    title = f"{name}: test images at both ends, and images along the line in z between them"
    save_png(labelled.samples(rows.flatten(0, 1), title, columns=rows.shape[1]), folder / file)
    return [f"![Interpolation on {name}, {source.title}, seed {record['seed']}]({file})", ""]


EXPERIMENT = Experiment(
    NAME, "Figure 2 of the paper: images along lines in the latent space.", fig2, section=section, check=check,
    shown=dict.fromkeys((s.protocol for s in SOURCES), ("largest_step",)), options=("protocol", "precision"),
    measure=measure, network=network_of, left=lambda cell, runs, rate: 10.0,
)  # fmt: skip
