"""`reencode`: a share of the points encoded at each step, the rest cached."""

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
    """`bype` with half and a fifth of its points encoded at each step; with all of them it is step-two's `paper`."""
    cells = []
    for seed in selection.seeds or (0, 1, 2):
        for share in (0.5, 0.2):
            config = replace(short_config(selection, seed, "bype", "paper"), reencode=share)
            cells.append(Cell(NAME, config, "short", samples=None))
    return cells


def _share(record: CellRecord) -> float:
    return float(record["settings"]["reencode"])


def check(record: CellRecord) -> None:
    """Refuses a record without a share from 0 to 1."""
    share = record["settings"].get("reencode")
    if not (isinstance(share, int | float) and 0 < share <= 1):
        raise InputError(f"expected a share from 0 to 1 in 'reencode', got {share!r:.60}")


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A share of the points encoded at each step, beside all of them."""
    mine = [c for c in cells if c["experiment"] == NAME]
    if not mine:
        return []
    exact = [c for c in cells if c["experiment"] == "step-two" and c["coreset"] == "paper"]
    shares = sorted({_share(c) for c in mine}, reverse=True)
    rows = [(1.0, exact), *((share, [c for c in mine if _share(c) == share]) for share in shares)]
    lines = [
        "## Encoding a share of the points at each step, protocol `short`",
        "",
        "MNIST, MLP VAE, `bype` with `paper`, M = 500, `--reencode`; the share 1 is step (ii)'s `paper` above.",
        "",
        *table_head(
            "share", "n", "`nll_paper_short`", "sd", "less share 1, paired", "95 % interval", "validation loss",
            "less share 1", "95 % interval",
        ),
    ]  # fmt: skip
    for share, own in rows:
        if not own:
            lines.append(f"| {share:g} | 0 | not run |" + " |" * 6)
            continue
        values = []
        for metric in ("nll_paper_short", "val_loss"):
            value = summary(list(by_seed(own, metric).values()))
            less = paired(by_seed(own, metric), by_seed(exact, metric)) if own is not exact else None
            values += [f"{value.mean:.2f}", *([number(value.sd)] if metric != "val_loss" else []), signed_mean(less)]
            values.append(interval(less))
        lines.append(f"| {share:g} | {len(own)} | {' | '.join(values)} |")
    return [*lines, ""]


EXPERIMENT = Experiment(
    NAME, "Half and a fifth of the points encoded at each step, the rest cached.", reencode,
    shown={"short": ("nll_paper_short", "val_loss")}, check=check, section=section,
)  # fmt: skip
