"""`reencode`: a fraction of the points is encoded at each step, the rest is cached."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bype.core.errors import InputError
from bype.experiments.cell import Cell, Experiment, Selection, short_config
from bype.experiments.markdown import interval, number, signed_mean, table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import paired, summary

NAME = "reencode"


def reencode(selection: Selection) -> list[Cell]:
    """Prior `bype` with fractions 1/2 and 1/5; fraction 1 is strategy `paper` of step-two."""
    cells = []
    for seed in selection.seeds or (0, 1, 2):
        for fraction in (0.5, 0.2):
            config = replace(short_config(selection, seed, "bype", "paper"), reencode=fraction)
            cells.append(Cell(NAME, config, "short", samples=None))
    return cells


def _fraction(record: CellRecord) -> float:
    return float(record["settings"]["reencode"])


def check(record: CellRecord) -> None:
    """Checks that the fraction is in (0, 1]."""
    value = record["settings"].get("reencode")
    if not (isinstance(value, int | float) and 0 < value <= 1):
        raise InputError(f"expected a fraction from 0 to 1 for 'reencode', got {value!r:.60}")


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A row per fraction, compared with all points encoded."""
    mine = [c for c in cells if c["experiment"] == NAME]
    if not mine:
        return []
    exact = [c for c in cells if c["experiment"] == "step-two" and c["coreset"] == "paper"]
    fractions = sorted({_fraction(c) for c in mine}, reverse=True)
    rows = [(1.0, exact), *((fraction, [c for c in mine if _fraction(c) == fraction]) for fraction in fractions)]
    lines = [
        "## Encoding a fraction of the points at each step, protocol `short`",
        "",
        "MNIST, MLP VAE, prior `bype`, strategy `paper`, M = 500, option `--reencode`. Fraction 1 is strategy `paper` "
        "in the section on step (ii).",
        "",
        *table_head(
            "fraction", "n", "`nll_paper_short`", "sd", "minus fraction 1, paired", "95 % interval", "validation loss",
            "minus fraction 1", "95 % interval",
        ),
    ]  # fmt: skip
    for fraction, own in rows:
        if not own:
            lines.append(f"| {fraction:g} | 0 | not run |" + " |" * 6)
            continue
        values = []
        for metric in ("nll_paper_short", "val_loss"):
            value = summary(list(by_seed(own, metric).values()))
            less = paired(by_seed(own, metric), by_seed(exact, metric)) if own is not exact else None
            values += [f"{value.mean:.2f}", *([number(value.sd)] if metric != "val_loss" else []), signed_mean(less)]
            values.append(interval(less))
        lines.append(f"| {fraction:g} | {len(own)} | {' | '.join(values)} |")
    return [*lines, ""]


EXPERIMENT = Experiment(
    NAME, "Half or a fifth of the points encoded at each step, the rest cached.", reencode,
    shown={"short": ("nll_paper_short", "val_loss")}, check=check, section=section,
)  # fmt: skip
