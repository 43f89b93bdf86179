"""`fast-table1`: cells of Table 1 under the recipe `fast`."""

from collections.abc import Sequence
from pathlib import Path

from bype.core.config import Config
from bype.core.devices import resolve_device
from bype.core.precision import fastest_precision
from bype.experiments.catalog.table1 import PAPER, PRIORS
from bype.experiments.cell import EVERY_FIFTH, Cell, Experiment, Selection
from bype.experiments.markdown import (
    UNIT,
    interval,
    mean,
    number,
    scored_examples,
    table_head,
)
from bype.experiments.records import CellRecord, by_seed, training_settings
from bype.experiments.stats import paired, summary

NAME, PROTOCOL = "fast-table1", "fast"

#: The columns of the experiment: network, data set, its training examples, seeds.
COLUMNS = (
    ("vae", "mnist", 50_000, (0, 1, 2)),
    ("vae", "fashion-mnist", 50_000, (0,)),
    ("vae", "cifar10", 40_000, (0,)),
    ("hvae", "mnist", 50_000, (0,)),
)


def fast_table1(selection: Selection) -> list[Cell]:
    """The four priors under the recipe `fast`, with the paper's likelihood `mse`, which defines `nll_paper`.

    Seed 0 is scored as in `table1`, with 5,000 samples on all test examples, for the exemplar prior on every fifth; the
    other seeds get `nll_paper_short` only. The default precision is that of `table1`.
    """
    precision = selection.precision or fastest_precision(resolve_device(selection.device))
    cells = []
    for arch, name, n, seeds in COLUMNS:
        for seed in seeds if selection.seeds is None else selection.seeds:
            for prior in PRIORS:
                config = Config(
                    name, recipe="fast", likelihood="mse", arch=arch, prior=prior, n_components=500, exemplars=500,
                    coreset=selection.coreset or "paper" if prior == "bype" else "paper",
                    precision=precision, seed=seed, device=selection.device,
                ).sized(n)  # fmt: skip
                samples = 5000 if seed == 0 else None
                cells.append(Cell(NAME, config, PROTOCOL, samples, every=EVERY_FIFTH if prior == "exemplar" else 1))
    return cells


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """Our figures under `fast` beside the paper's, and the differences between priors, paired by seed."""
    mine = [c for c in cells if c["experiment"] == NAME]
    if not mine:
        return []
    lines = [
        "## Table 1 under the recipe `fast`",
        "",
        f"{UNIT} The recipe is ours ([recipes.md](../docs/recipes.md)); these rows show what it reaches in how much "
        "time, and are not the paper's protocol. `nll_paper` is of seed 0, with 5,000 samples for each of the test "
        "examples named; `nll_paper_short`, with 500 samples on the first 2,000 test examples, is the mean of n seeds. "
        "The minutes are those of training and validation.",
        "",
        *table_head(
            "network", "data", "prior", "paper", "`nll_paper`", "ours - paper", "test examples", "`nll_paper_short`",
            "sd", "n", "validation loss", "epochs", "minutes", "precision", "device",
        ),
    ]  # fmt: skip
    groups: dict[tuple[str, str, str], list[CellRecord]] = {}
    for arch, name, *_ in COLUMNS:
        column = [c for c in mine if (c["arch"], c["set"]) == (arch, name)]
        for precision, settings in sorted({(c["precision"], training_settings(c)) for c in column}):
            kind = [c for c in column if (c["precision"], training_settings(c)) == (precision, settings)]
            for prior in PRIORS:
                for label in sorted({c["coreset"] or "" for c in kind if c["prior"] == prior}):
                    own = [c for c in kind if (c["prior"], c["coreset"] or "") == (prior, label)]
                    lines.append(_row(arch, name, prior, own))
                    if label in ("", "paper"):
                        groups[f"| {arch} | {name} |", precision + settings, prior] = own
    return [*lines, "", *_differences(groups)]


def _row(arch: str, name: str, prior: str, cells: Sequence[CellRecord]) -> str:
    paper = PAPER[arch][name][PRIORS.index(prior)]
    own = prior if cells[0]["coreset"] in (None, "paper") else f"{prior} ({cells[0]['coreset']})"
    full = by_seed(cells, "nll_paper").get(0)
    short = summary(list(by_seed(cells, "nll_paper_short").values()))
    minutes = summary([(c["seconds"] - c["figures"]["seconds_evaluation"]) / 60 for c in cells]).mean
    compared = full is not None and own == prior
    difference = f"{full - paper:+.2f}" if compared and full is not None else ""
    columns = (
        arch, name, own, number(paper) if own == prior else "", number(full), difference, scored_examples(cells),
        number(short.mean), number(short.sd), short.n, mean(cells, "val_loss"), mean(cells, "epochs", 0),
        f"{minutes:.0f}", cells[0]["precision"], "; ".join(sorted({c["device"] for c in cells})),
    )  # fmt: skip
    return f"| {' | '.join(map(str, columns))} |"


def _differences(groups: dict[tuple[str, str, str], list[CellRecord]]) -> list[str]:
    """`nll_paper_short` of `bype` minus that of each other prior, paired by seed."""
    lines = []
    for (where, settings, prior), ours in groups.items():
        if prior != "bype":
            continue
        for other in PRIORS[:-1]:
            theirs = groups.get((where, settings, other), [])
            value = paired(by_seed(ours, "nll_paper_short"), by_seed(theirs, "nll_paper_short"))
            if value is not None:
                lines.append(f"{where} bype - {other} | {value.mean:+.2f} | {value.n} | {interval(value)} |")
    if not lines:
        return []
    return [
        "Differences in `nll_paper_short`, paired by seed (negative if ByPE is better):",
        "",
        *table_head("network", "data", "difference", "ours", "n", "95 % interval"),
        *lines,
        "",
    ]


EXPERIMENT = Experiment(
    NAME, "Cells of Table 1 under the recipe `fast`.", fast_table1, section=section,
    shown={PROTOCOL: ("nll_paper_short", "val_loss", "epochs", "seconds_evaluation")}, options=("precision",),
)  # fmt: skip
