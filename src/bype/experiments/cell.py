"""The parts of an experiment: a cell is one training run and its evaluation; a selection chooses cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from bype.core.config import Config
from bype.experiments.records import CellRecord, EpochMetrics, PackedArray, cell_id, used_coreset

SHORT_SAMPLES, SHORT_ITEMS = 500, 2000
SHORT_EPOCHS, SHORT_WARMUP = 30, 10
#: Test examples scored where all of them would take hours: every fifth.
EVERY_FIFTH = 5

#: GFLOP of a step on 100 grey images of 28x28 (faces for `celeba`), with the standard prior and with M = 500 points.
STEP_GFLOP = {"vae": (0.6, 2.1), "hvae": (1.3, 2.8), "convhvae": (132.0, 220.0), "celeba": (881.0, 1266.0)}
#: Learned points need gradients; the exemplar prior encodes 50,000 exemplars for every validation.
RELATIVE_COST = {"vamp": 1.25, "exemplar": 1.3}
#: Epochs of a run with early stopping, until the ledger has one.
ASSUMED_EPOCHS = 400
#: Training examples and pixels of the data sets; others are counted as MNIST.
SIZES = {"mnist": (50_000, 784), "fashion-mnist": (50_000, 784), "cifar10": (40_000, 3072), "celeba": (26_000, 12_288)}
#: Test examples that are scored where all are.
TEST_ITEMS = 10_000


@dataclass(frozen=True)
class Cell:
    """One cell: a training run and its evaluation.

    `nll_paper_short` always uses 500 samples on the first 2,000 test examples. A cell's settings name its precision,
    the same on every device: `auto` becomes `fp32`.
    """

    experiment: str
    config: Config
    protocol: str
    samples: int | None = 5000  # per test example, for `nll_paper`; None omits it
    every: int = 1  # score every n-th test example for `nll_paper`
    refit: bool = False  # evaluate also under a refit to all training examples

    def __post_init__(self) -> None:
        if self.config.precision == "auto":
            object.__setattr__(self, "config", replace(self.config, precision="fp32"))

    @property
    def id(self) -> str:
        """The name of its file in the ledger, without `.json`."""
        return cell_id(self.experiment, self.config, self.protocol)

    @property
    def rank(self) -> float:
        """Rough cost relative to other cells: GFLOP per step times the expected epochs."""
        c = self.config
        return step_gflop(c.set, c.arch, c.prior) * min(c.epochs or ASSUMED_EPOCHS, ASSUMED_EPOCHS)

    @property
    def gflop(self) -> float:
        """GFLOP of the training run and its evaluation, roughly."""
        c = self.config
        epochs = min(c.epochs or ASSUMED_EPOCHS, ASSUMED_EPOCHS)
        scored = SHORT_SAMPLES * SHORT_ITEMS + (self.samples or 0) * TEST_ITEMS // self.every
        # A sample is decoded, which is half of a forward pass, a third of the step on one of 100 images.
        decode = step_gflop(c.set, c.arch, "standard") / 600
        return training_gflop(c.set, c.arch, c.prior, c.batch_size or 100) * epochs + decode * scored


def step_gflop(name: str, arch: str, prior: str) -> float:
    """GFLOP of a training step on 100 images."""
    alone, with_points = STEP_GFLOP.get(arch, STEP_GFLOP["vae"])
    step = alone if prior == "standard" else with_points * RELATIVE_COST.get(prior, 1.0)
    return step * (1.5 if name == "cifar10" else 1.0)


def training_gflop(name: str, arch: str, prior: str, batch_size: int) -> float:
    """GFLOP of a training epoch; larger batches encode the prior's points less often."""
    alone, whole = (step_gflop(name, arch, kind) for kind in ("standard", prior))
    images, _ = SIZES.get(name, SIZES["mnist"])
    return images / 100 * (alone + (whole - alone) * 100 / batch_size)


@dataclass(frozen=True)
class Selection:
    """The selected cells of an experiment; None selects all, or the experiment's default."""

    dataset: str | None = None
    arch: str | None = None
    prior: str | None = None
    coreset: str | None = None
    seeds: Sequence[int] | None = None
    protocol: str | None = None
    precision: str | None = None
    device: str = "auto"

    def admits(self, cell: Cell) -> bool:
        """Whether a cell is selected."""
        c = cell.config
        given = {"set": self.dataset, "arch": self.arch, "prior": self.prior}
        return all(v in (None, getattr(c, k)) for k, v in given.items()) and self.coreset in (None, used_coreset(c))


class Outcome(NamedTuple):
    """The result of a cell."""

    epochs: Sequence[EpochMetrics]  # with `val_loss`; empty if nothing was trained to be evaluated
    metrics: Mapping[str, float]
    device: str
    seconds: float
    arrays: Mapping[str, PackedArray] | None = None  # what pictures are drawn from


#: Runs a cell that is not a training run with its evaluation. The second argument is the folder of runs; the third is
#: to be called now and then, and an exception that it raises ends the cell.
Measure = Callable[[Cell, Path, Callable[[], None]], Outcome]


@dataclass(frozen=True)
class Experiment:
    """An experiment: its cells, the requirements on their records, and its section of the results page.

    Args:
        name: The name on the command line and in the ledger.
        summary: One sentence.
        cells: Returns the cells for a selection; cells that it does not admit are dropped afterwards.
        shown: The metrics that the section needs of each cell, by protocol.
        options: Which of the options `protocol` and `precision` it uses.
        check: Raises InputError for a record that the section cannot show.
        section: Returns the lines of the section, given the records of all experiments and the folder for pictures.
        measure: Runs a cell, if a cell is not a training run with its evaluation.
        network: The training run that `measure` starts from, if there is one.
        left: Returns the seconds that `measure` takes apart from that training run, given a cell, the folder of runs
            (None: with nothing done yet) and the seconds per GFLOP.
    """

    name: str
    summary: str
    cells: Callable[[Selection], list[Cell]]
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    check: Callable[[CellRecord], None] | None = None
    section: Callable[[Sequence[CellRecord], Path], list[str]] | None = None
    measure: Measure | None = None
    network: Callable[[Cell], Cell] | None = None
    left: Callable[[Cell, Path | None, float], float] | None = None


def short_config(selection: Selection, seed: int, prior: str, coreset: str = "none") -> Config:
    """MNIST, MLP VAE, protocol short: 30 epochs, warm-up 10, otherwise the defaults of `train`."""
    return Config(
        "mnist", prior=prior, coreset=coreset, n_components=500, exemplars=500, epochs=SHORT_EPOCHS,
        warmup=SHORT_WARMUP, precision="fp32", seed=seed, device=selection.device,
    )  # fmt: skip
