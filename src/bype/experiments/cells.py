"""The experiments as lists of cells: a cell is one training run, and how it is scored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bype.core.config import Config
from bype.core.errors import InputError
from bype.core.names import PRIORS
from bype.experiments import ledger

SHORT_SAMPLES, SHORT_ITEMS = 500, 2000
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
        return ledger.cell_id(self.experiment, self.config, self.protocol)

    @property
    def rank(self) -> float:
        """What it costs beside other cells, roughly: the GFLOP of a step, by the epochs there may be."""
        c = self.config
        alone, with_points = STEP_GFLOP[c.arch]
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
        return all(v in (None, getattr(c, k)) for k, v in given.items()) and (
            self.coreset is None or (c.prior, c.coreset) == ("bype", self.coreset)
        )


def short(prior: str, coreset: str = "none", **options: Any) -> Config:
    """MNIST, MLP VAE, protocol short: 30 epochs, warm-up 10, otherwise `train`'s defaults."""
    given = {"n_components": 500, "exemplars": 500, "epochs": 30, "warmup": 10} | options
    return Config("mnist", prior=prior, coreset=coreset, **given)


def trunk(asked: Selection) -> list[Cell]:
    """The four priors, and `bype` in bf16; the full evaluation at seed 0."""
    cells = []
    for seed in asked.seeds or (0,):
        for prior, precision in (("standard", "fp32"), ("vamp", "fp32"), ("bype", "fp32"), ("bype", "bf16"),
                                 ("exemplar", "fp32")):  # fmt: skip
            config = short(prior, precision=precision, seed=seed, device=asked.device)
            every = EVERY_FIFTH if prior == "exemplar" else 1
            cells.append(Cell("trunk", config, "short", samples=None if seed else 5000, every=every))
    return cells


def step_two(asked: Selection) -> list[Cell]:
    """Every strategy of step (ii), and VampPrior."""
    kinds = [("bype", "paper"), ("bype", "published"), ("bype", "elbo"), ("bype", "none"), ("vamp", "none")]
    return [
        Cell("step-two", short(prior, coreset, seed=seed, device=asked.device), "short", samples=None)
        for seed in asked.seeds or (0, 1, 2)
        for prior, coreset in kinds
    ]


def step_two_settings(asked: Selection) -> list[Cell]:
    """Strategy `paper` with ten times the inner steps, and with thirty times the rate; its defaults are in step-two."""
    settings: list[dict[str, Any]] = [{"coreset_steps": 1000}, {"coreset_lr": 3e-2}]
    return [
        Cell("step-two-settings", short("bype", "paper", seed=seed, device=asked.device, **more), "short", samples=None)
        for seed in asked.seeds or (0,)
        for more in settings
    ]


def reencode(asked: Selection) -> list[Cell]:
    """`bype` with half and a fifth of its points encoded at each step; with all of them it is step-two's `paper`."""
    return [
        Cell("reencode", short("bype", "paper", reencode=share, seed=seed, device=asked.device), "short", samples=None)
        for seed in asked.seeds or (0, 1, 2)
        for share in (0.5, 0.2)
    ]


TABLE1_SETS, TABLE1_ARCHS = ("mnist", "fashion-mnist", "cifar10"), ("vae", "hvae", "convhvae")


def table1(asked: Selection) -> list[Cell]:
    """Table 1: every data set and network under every prior, ByPE by Algorithm 2.

    Protocol `paper` is `train`'s defaults; in bf16 on a CPU, where it is half as long, unless told otherwise. On a CPU
    `nll_paper` under the exemplar prior is of every fifth test item. Protocol `short`, no match for the paper's
    figures, is scored by `nll_paper_short` alone.
    """
    from bype.core.devices import resolve_device

    on_cpu = resolve_device(asked.device).type == "cpu"
    protocol = asked.protocol or "paper"
    if protocol not in ("paper", "short"):
        raise InputError(f"--protocol: expected paper or short, got {protocol!r}")
    length: dict[str, Any] = {"epochs": 30, "warmup": 10} if protocol == "short" else {}
    precision = asked.precision or ("bf16" if on_cpu else "tf32")
    coreset = asked.coreset or "paper"
    cells = []
    for seed in asked.seeds or (0,):
        for arch in TABLE1_ARCHS:
            for name in TABLE1_SETS:
                for prior in PRIORS:
                    config = Config(
                        name, arch=arch, prior=prior, coreset=coreset if prior == "bype" else "paper",
                        n_components=500, exemplars=500, precision=precision, seed=seed, device=asked.device, **length,
                    )  # fmt: skip
                    if protocol == "short":
                        cells.append(Cell("table1", config, protocol, samples=None))
                        continue
                    every = EVERY_FIFTH if on_cpu and prior == "exemplar" else 1
                    cells.append(Cell("table1", config, protocol, every=every, refit=True))
    return cells


EXPERIMENTS: dict[str, Callable[[Selection], list[Cell]]] = {
    "trunk": trunk,
    "step-two": step_two,
    "step-two-settings": step_two_settings,
    "reencode": reencode,
    "table1": table1,
}


def select_cells(what: str, asked: Selection) -> list[Cell]:
    """An experiment's cells, those asked for.

    Raises:
        InputError: If there is no such experiment, or no such cell in it.
    """
    if what not in EXPERIMENTS:
        raise InputError(f"reproduce: expected one of {', '.join(EXPERIMENTS)}, got {what!r}")
    for name in ("protocol", "precision"):
        if what != "table1" and (given := getattr(asked, name)) is not None:
            raise InputError(f"--{name}: expected it with table1 alone, got {given!r} with {what}")
    cells = [c for c in EXPERIMENTS[what](asked) if asked.admits(c)]
    if not cells:
        given = {k: v for k, v in vars(asked).items() if v is not None and k != "device"}
        words = " ".join(f"--{k} {v}" for k, v in given.items())
        raise InputError(f"reproduce {what}: expected {words} to name cells of it, got none")
    return cells
