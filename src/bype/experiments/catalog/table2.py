"""`table2`: Table 2 of the paper, seconds per training epoch of each prior."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bype.core.config import Config
from bype.core.devices import device_model, resolve_device
from bype.core.precision import fastest_precision
from bype.data.catalog import load
from bype.experiments import timing
from bype.experiments.cell import Cell, Experiment, Outcome, Selection, training_gflop
from bype.experiments.markdown import mean, number, table_head
from bype.experiments.records import CellRecord
from bype.experiments.stats import Summary, summary
from bype.models.build import model_from
from bype.runs.fitting import trainer_from

NAME = "table2"
SETS = ("mnist", "fashion-mnist", "cifar10")
#: Timed epochs of each method: on a CPU three are enough, as the blocks of all methods alternate.
EPOCHS = 3
#: Neighbours of each example in Exemplar(25,000), as in the paper of the exemplar prior (Norouzi et al., 2020).
NEIGHBOURS = 10


class Method(NamedTuple):
    """A row of the table."""

    title: str
    prior: str
    coreset: str = "none"
    exemplars: int | None = None
    retrieve: int | None = None
    paper: tuple[float | None, ...] = (None, None, None)  # seconds per epoch on a GTX 1080 Ti, by data set
    relative: float = 1.0  # time of a step relative to that of 500 points of the same prior, roughly


#: By the suffix of their figures.
METHODS = {
    "standard": Method("standard", "standard"),
    "bype": Method("bype(500), step (i)", "bype", paper=(13.19, 12.05, 17.30)),
    "vamp": Method("vamp(500)", "vamp", paper=(13.03, 12.09, 14.89)),
    "elbo": Method("bype(500), `elbo`", "bype", "elbo"),
    "exemplar": Method("exemplar(500)", "exemplar", exemplars=500),
    "exemplar_25000": Method(
        "exemplar(25,000), 10 neighbours", "exemplar", "none", 25_000, NEIGHBOURS, (35.45, 37.23, 66.85), 2.3
    ),
}


def table2(selection: Selection) -> list[Cell]:
    """A cell per data set, in which the epochs of all methods are timed in turns."""
    precision = selection.precision or fastest_precision(resolve_device(selection.device))
    return [
        Cell(
            NAME,
            Config(
                name, prior="bype", coreset="paper", n_components=500, epochs=EPOCHS, warmup=0, precision=precision,
                seed=seed, device=selection.device,
            ),
            "timing", samples=None,
        )
        for seed in selection.seeds or (0,)
        for name in SETS
    ]  # fmt: skip


def measure(cell: Cell, runs: Path, check: Callable[[], None]) -> Outcome:
    """Times the epochs of all methods in turns, and step (ii) of strategy `paper`.

    Figures, for each method: `seconds_per_epoch_METHOD`, the median of the epochs; `ratio_METHOD`, the mean ratio of
    its blocks to those of `bype` that were measured next to them, and the ends of its 95 % interval. `seconds_coreset`
    is an update by Algorithm 2; `coreset_share` its share of the time at the paper's interval of 10 epochs.
    """
    start, config = time.perf_counter(), cell.config
    epochs = config.epochs or EPOCHS
    data = load(config.set, config.data_dir).to(resolve_device(config.device))
    n = len(data.train)
    trainers = {}
    for name, method in METHODS.items():
        own = replace(
            config, prior=method.prior, coreset=method.coreset, retrieve=method.retrieve,
            exemplars=method.exemplars and min(method.exemplars, n - 1),
        )  # fmt: skip
        trainers[name] = trainer_from(own, model_from(own, data), data)
    blocks = timing.block_seconds(trainers, epochs, check)
    metrics: dict[str, float] = {"epochs": epochs}
    for name, own_blocks in blocks.items():
        metrics[f"seconds_per_epoch_{name}"] = timing.epoch_seconds(own_blocks, epochs)
        ratios = [a / b for a, b in zip(own_blocks, blocks["bype"], strict=True)]
        ratio = summary(ratios)
        low, high = ratio.interval or (ratio.mean, ratio.mean)
        metrics |= {f"ratio_{name}": ratio.mean, f"ratio_{name}_low": low, f"ratio_{name}_high": high}
    update = timing.update_seconds(trainer_from(config, model_from(config, data), data))
    metrics["seconds_coreset"] = update
    metrics["coreset_share"] = update / (update + config.coreset_interval * metrics["seconds_per_epoch_bype"])
    return Outcome([], metrics, device_model(data.train.pixels.device), time.perf_counter() - start)


def left(cell: Cell, runs: Path | None, rate: float) -> float:
    """The seconds of the timed epochs, a little more for the first steps and step (ii)."""
    c = cell.config
    epoch = sum(
        training_gflop(c.set, c.arch, method.prior, c.batch_size or 100) * method.relative
        for method in METHODS.values()
    )
    return (1.1 * (c.epochs or EPOCHS)) * epoch * rate


def ratio(record: CellRecord, method: str) -> Summary:
    """The ratio of a method's epoch to that of `bype`, with its 95 % interval over the blocks."""
    f = record["figures"]
    low, high = f[f"ratio_{method}_low"], f[f"ratio_{method}_high"]
    return Summary(timing.BLOCKS * int(f["epochs"]), f[f"ratio_{method}"], None, (high - low) / 2)


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A row per data set and method, with the paper's times and the NLL of Table 1's cells."""
    mine = [c for c in cells if c["experiment"] == NAME]
    if not mine:
        return []
    lines = [
        "## Table 2: seconds per training epoch",
        "",
        "MLP VAE, batches of 100. Training alone, without validation; all methods of a data set are timed in turns in "
        "one process, in blocks of a tenth of an epoch. The ratio is that of adjacent blocks, with the interval of its "
        "mean. The paper's times are from a GTX 1080 Ti: compare ratios. Exemplar(25,000) encodes, as in the paper "
        f"of that prior, the {NEIGHBOURS} neighbours of each example. `nll_paper` is that of Table 1.",
        "",
        *table_head(
            "data", "method", "paper, s", "paper / bype", "ours, s", "ours / bype", "95 % interval", "`nll_paper`",
            "precision", "device",
        ),
    ]  # fmt: skip
    for c in mine:
        place = SETS.index(c["set"]) if c["set"] in SETS else None
        for name, method in METHODS.items():
            theirs, reference = (None if place is None else m.paper[place] for m in (method, METHODS["bype"]))
            quotient = None if theirs is None or reference is None else theirs / reference
            own = ratio(c, name)
            low, high = own.interval or (own.mean, own.mean)
            lines.append(
                f"| {c['set']} | {method.title} | {number(theirs)} | {number(quotient)} | "
                f"{c['figures'][f'seconds_per_epoch_{name}']:.2f} | {own.mean:.2f} | {low:.2f} to {high:.2f} | "
                f"{_nll(cells, c['set'], name)} | {c['precision']} | {c['device']} |"
            )
    lines += ["", "Step (ii), strategy `paper`, every 10 epochs:", ""]
    lines += table_head("data", "seconds per update", "share of the training time (%)")
    lines += [
        f"| {c['set']} | {c['figures']['seconds_coreset']:.2f} | {100 * c['figures']['coreset_share']:.1f} |"
        for c in mine
    ]
    return [*lines, ""]


def _nll(cells: Sequence[CellRecord], name: str, method: str) -> str:
    """`nll_paper` of the same prior in Table 1, protocol `paper`; blank for methods that are not in that table."""
    own = [
        c
        for c in cells
        if (c["experiment"], c["protocol"], c["arch"], c["set"]) == ("table1", "paper", "vae", name)
        and c["prior"] == method
        and c["coreset"] in (None, "paper")
    ]
    return mean(own, "nll_paper")


FIGURES = tuple(
    figure
    for name in METHODS
    for figure in (f"seconds_per_epoch_{name}", f"ratio_{name}", f"ratio_{name}_low", f"ratio_{name}_high")
)
EXPERIMENT = Experiment(
    NAME, "Table 2 of the paper: seconds per epoch of each prior, timed in turns.", table2, section=section,
    shown={"timing": (*FIGURES, "epochs", "seconds_coreset", "coreset_share")}, options=("precision",), measure=measure,
    left=left,
)  # fmt: skip
