"""`trunk`: the baseline, four priors at protocol short."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bype.experiments.cell import EVERY_FIFTH, Cell, Experiment, Selection, short_config
from bype.experiments.markdown import (
    UNIT,
    counted_mean,
    mean,
    number,
    prior_label,
    prior_order,
    scored_examples,
    table_head,
)
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import summary

NAME = "trunk"
RUNS = (("standard", "fp32"), ("vamp", "fp32"), ("bype", "fp32"), ("bype", "bf16"), ("exemplar", "fp32"))


def baseline(selection: Selection) -> list[Cell]:
    """The four priors, and `bype` in bf16; seed 0 gets the full evaluation too."""
    cells = []
    for seed in selection.seeds or (0,):
        for prior, precision in RUNS:
            config = replace(short_config(selection, seed, prior), precision=precision)
            every = EVERY_FIFTH if prior == "exemplar" else 1
            cells.append(Cell(NAME, config, "short", samples=None if seed else 5000, every=every))
    return cells


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A row per prior and precision."""
    mine = [c for c in cells if c["experiment"] == NAME]
    if not mine:
        return []
    lines = [
        "## Baseline: four priors, protocol `short`",
        "",
        f"{UNIT} MNIST, MLP VAE, M = 500, 30 epochs, warm-up 10: far from the end of training.",
        "",
        *table_head(
            "prior", "precision", "n", "`nll_paper_short`", "sd", "`nll_paper`", "test examples", "kNN, K = 5 (%)",
            "active units",
        ),
    ]  # fmt: skip
    for prior, precision in dict.fromkeys((prior_label(c), c["precision"]) for c in sorted(mine, key=prior_order)):
        own = [c for c in mine if (prior_label(c), c["precision"]) == (prior, precision)]
        short, full = summary(list(by_seed(own, "nll_paper_short").values())), counted_mean(own, "nll_paper")
        lines.append(
            f"| {prior} | {precision} | {short.n} | {short.mean:.2f} | {number(short.sd)} | {full} | "
            f"{scored_examples(own)} | {mean(own, 'knn_5')} | {mean(own, 'active_units', 1)} |"
        )
    return [*lines, ""]


EXPERIMENT = Experiment(
    NAME, "The baseline: four priors on MNIST.", baseline, shown={"short": ("nll_paper_short",)}, section=section
)
