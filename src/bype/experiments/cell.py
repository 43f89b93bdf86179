"""The parts of an experiment: a cell is one training run, and how it is scored; a selection is what one asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bype.core.config import Config
from bype.experiments.records import CellRecord, cell_id, used_coreset

SHORT_SAMPLES, SHORT_ITEMS = 500, 2000
SHORT_EPOCHS, SHORT_WARMUP = 30, 10
#: Where scoring every test item would take hours, each fifth one is.
EVERY_FIFTH = 5

#: GFLOP of a step on 100 grey images of 28x28 (faces for `celeba`), under the standard prior and with M = 500 points.
STEP_GFLOP = {"vae": (0.6, 2.1), "hvae": (1.3, 2.8), "convhvae": (132.0, 220.0), "celeba": (881.0, 1266.0)}
#: Points that are learned want a gradient of their own; 50,000 exemplars are encoded for every validation.
RELATIVE_COST = {"vamp": 1.25, "exemplar": 1.3}


@dataclass(frozen=True)
class Cell:
    """One cell: a training run, and how it is scored.

    `nll_paper_short` is always of 500 samples on the first 2,000 test items.
    """

    experiment: str
    config: Config
    protocol: str
    samples: int | None = 5000  # of each item, for `nll_paper`; None leaves it out
    every: int = 1  # of the test items, for `nll_paper`
    refit: bool = False  # score it also under a refit at all training items

    @property
    def id(self) -> str:
        """The ledger's name for it."""
        return cell_id(self.experiment, self.config, self.protocol)

    @property
    def rank(self) -> float:
        """What it costs beside other cells, roughly: the GFLOP of a step, by the epochs there may be."""
        c = self.config
        alone, with_points = STEP_GFLOP.get(c.arch, STEP_GFLOP["vae"])
        step = alone if c.prior == "standard" else with_points * RELATIVE_COST.get(c.prior, 1.0)
        return step * (1.5 if c.set == "cifar10" else 1.0) * min(c.epochs, 400)


@dataclass(frozen=True)
class Selection:
    """Which cells of an experiment are asked for; None is all there are, or the experiment's default."""

    dataset: str | None = None
    arch: str | None = None
    prior: str | None = None
    coreset: str | None = None
    seeds: Sequence[int] | None = None
    protocol: str | None = None
    precision: str | None = None
    device: str = "auto"

    def admits(self, cell: Cell) -> bool:
        """Whether a cell is asked for."""
        c = cell.config
        given = {"set": self.dataset, "arch": self.arch, "prior": self.prior}
        return all(v in (None, getattr(c, k)) for k, v in given.items()) and self.coreset in (None, used_coreset(c))


@dataclass(frozen=True)
class Experiment:
    """An experiment: its cells, what the ledger must hold of them, and its section of the results page.

    Args:
        name: The name on the command line and in the ledger.
        summary: One sentence.
        cells: The cells of a selection; those that it does not admit are left out afterwards.
        shown: The metrics that its section needs of each cell, by protocol.
        options: The options of a selection, of `protocol` and `precision`, that it uses.
        check: Raises an InputError for a record whose settings its section cannot show.
        section: The lines of its section, from the cells of all experiments; pictures go into the folder it is given.
    """

    name: str
    summary: str
    cells: Callable[[Selection], list[Cell]]
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    check: Callable[[CellRecord], None] | None = None
    section: Callable[[Sequence[CellRecord], Path], list[str]] | None = None


def short_config(selection: Selection, seed: int, prior: str, coreset: str = "none") -> Config:
    """MNIST, MLP VAE, protocol short: 30 epochs, warm-up 10, otherwise `train`'s defaults."""
    return Config(
        "mnist", prior=prior, coreset=coreset, n_components=500, exemplars=500, epochs=SHORT_EPOCHS,
        warmup=SHORT_WARMUP, seed=seed, device=selection.device,
    )  # fmt: skip
