"""`fig5`: Figure 5 of the paper, ByPE and Exemplar with the same number of components."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bype.experiments.catalog import step_two, trunk
from bype.experiments.cell import Cell, Experiment, Selection, short_config
from bype.experiments.markdown import UNIT, interval, number, signed_mean, table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import Summary, paired, summary
from bype.viz.charts import lines_by_number
from bype.viz.images import save_png

NAME = "fig5"
COMPONENTS = (50, 100, 250, 500, 1000)
PRIORS = ("bype", "exemplar")
#: The cells with M = 500 are those of other experiments.
SOURCES = (NAME, step_two.NAME, trunk.NAME)


def fig5(selection: Selection) -> list[Cell]:
    """MNIST, MLP VAE, M from 50 to 1000; M exemplars are sampled per step."""
    selection = replace(selection, seeds=selection.seeds or (0,))
    cells = [c for c in step_two.step_two(selection) if c.config.coreset == "paper"]
    cells += [c for c in trunk.baseline(selection) if c.config.prior == "exemplar"]
    for seed in selection.seeds or ():
        for m in (m for m in COMPONENTS if m != 500):
            points = replace(short_config(selection, seed, "bype", "paper"), n_components=m)
            exemplars = replace(short_config(selection, seed, "exemplar"), exemplars=m)
            cells += [Cell(NAME, config, "short", samples=None) for config in (points, exemplars)]
    return cells


def components(record: CellRecord) -> int:
    """M: the components of `bype`, or the exemplars sampled per step."""
    return int(record["settings"]["n_components" if record["prior"] == "bype" else "exemplars"])


def curves(cells: Sequence[CellRecord]) -> dict[str, dict[int, dict[int, float]]]:
    """`nll_paper_short` by prior, M and seed; also from cells of other experiments with the same settings."""
    own: dict[str, dict[int, dict[int, float]]] = {prior: {} for prior in PRIORS}
    for c in cells:
        if c["experiment"] not in SOURCES or c["prior"] not in own or c["coreset"] not in (None, "paper"):
            continue
        if (c["set"], c["arch"], c["protocol"], c["precision"]) == ("mnist", "vae", "short", "fp32"):
            own[c["prior"]].setdefault(components(c), {}).update(by_seed([c], "nll_paper_short"))
    return own


def differences(cells: Sequence[CellRecord]) -> dict[int, Summary]:
    """`bype` minus `exemplar` at equal M, paired by seed."""
    own = curves(cells)
    at_m = {m: paired(own["bype"][m], own["exemplar"][m]) for m in COMPONENTS if all(m in own[p] for p in PRIORS)}
    return {m: value for m, value in at_m.items() if value is not None}


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A row per M, and the picture."""
    if not any(c["experiment"] == NAME for c in cells):
        return []
    own, difference = curves(cells), differences(cells)
    lines = [
        "## Figure 5: the number of components, protocol `short`",
        "",
        f"{UNIT} MNIST, MLP VAE, 30 epochs, warm-up 10; `nll_paper_short` uses 500 samples on the first 2,000 test "
        "examples. M is the number of pseudo-points of `bype`, and the number of exemplars sampled per step of "
        "`exemplar`, which is evaluated with all training examples as components.",
        "",
        *table_head("M", "bype", "exemplar", "bype - exemplar", "n", "95 % interval"),
        *(_row(m, own, difference.get(m)) for m in COMPONENTS),
        "",
    ]
    points = {
        prior: {m: list(seeds.values()) for m, seeds in sorted(by_m.items())} for prior, by_m in own.items() if by_m
    }
    save_png(
        lines_by_number(
            {"Figure 5: NLL by M": points}, "number of components M", "nll_paper_short (the paper's unit)", log=True
        ),
        folder / "fig5.png",
    )
    return [*lines, "![Negative log-likelihood by the number of components](fig5.png)", ""]


def _row(m: int, own: Mapping[str, Mapping[int, Mapping[int, float]]], difference: Summary | None) -> str:
    means = [number(summary(list(own[prior][m].values())).mean) if m in own[prior] else "not run" for prior in PRIORS]
    n = "" if difference is None else str(difference.n)
    return f"| {m} | {' | '.join(means)} | {signed_mean(difference)} | {n} | {interval(difference)} |"


EXPERIMENT = Experiment(
    NAME, "Figure 5 of the paper: ByPE and Exemplar with 50 to 1,000 components.", fig5,
    shown={"short": ("nll_paper_short",)}, section=section,
)  # fmt: skip
