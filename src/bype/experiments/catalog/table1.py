"""`table1`: Table 1 of the paper, all data sets and networks with each prior."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bype.core.config import Config
from bype.core.devices import resolve_device
from bype.core.errors import InputError
from bype.core.names import STRATEGIES
from bype.core.precision import fastest_precision
from bype.experiments.cell import EVERY_FIFTH, SHORT_EPOCHS, SHORT_WARMUP, Cell, Experiment, Selection
from bype.experiments.markdown import (
    UNIT,
    interval,
    mean,
    number,
    prior_label,
    prior_order,
    scored_every,
    scored_examples,
    table_head,
)
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import Summary, paired, summary
from bype.viz.charts import dots, loss_curves
from bype.viz.images import save_png

NAME = "table1"

#: The columns of the paper's tables.
PRIORS = ("standard", "vamp", "exemplar", "bype")
#: Table 1 of the paper (Ai et al., 2021): `nll_paper` by network, data set and prior.
PAPER: dict[str, dict[str, tuple[float, ...]]] = {
    "vae": {
        "mnist": (24.41, 23.65, 23.83, 23.61),
        "fashion-mnist": (21.43, 20.87, 21.00, 20.85),
        "cifar10": (72.21, 71.97, 72.55, 71.91),
    },
    "hvae": {
        "mnist": (23.82, 23.54, 23.58, 23.48),
        "fashion-mnist": (21.04, 20.83, 20.95, 20.82),
        "cifar10": (71.63, 71.54, 71.77, 71.38),
    },
    "convhvae": {
        "mnist": (23.16, 22.94, 22.92, 22.84),
        "fashion-mnist": (20.76, 20.59, 20.62, 20.58),
        "cifar10": (70.83, 70.61, 70.83, 70.55),
    },
}


def table1(selection: Selection) -> list[Cell]:
    """All data sets and networks with each prior, ByPE by Algorithm 2 unless another strategy is selected.

    Protocol `paper` uses the defaults of `train`. The default precision is tf32 on CUDA; on a CPU it is bf16 if the
    processor has instructions for it, which takes half the time, else fp32. On a CPU, `nll_paper` with the exemplar
    prior uses every fifth test example. Protocol `short` is not comparable with the paper and gets `nll_paper_short`
    only.
    """
    device = resolve_device(selection.device)
    on_cpu = device.type == "cpu"
    protocol = selection.protocol or "paper"
    if protocol not in ("paper", "short"):
        raise InputError(f"--protocol: expected paper or short, got {protocol!r}")
    precision = selection.precision or fastest_precision(device)
    coreset = selection.coreset or "paper"
    cells = []
    for seed in selection.seeds or (0,):
        for arch, sets in PAPER.items():
            for name in sets:
                for prior in PRIORS:
                    config = Config(
                        name, arch=arch, prior=prior, coreset=coreset if prior == "bype" else "paper",
                        n_components=500, exemplars=500, precision=precision, seed=seed, device=selection.device,
                    )  # fmt: skip
                    if protocol == "short":
                        config = replace(config, epochs=SHORT_EPOCHS, warmup=SHORT_WARMUP)
                        cells.append(Cell(NAME, config, protocol, samples=None))
                        continue
                    every = EVERY_FIFTH if on_cpu and prior == "exemplar" else 1
                    cells.append(Cell(NAME, config, protocol, every=every, refit=True))
    return cells


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """Our results and the paper's at protocol `paper`; the cells at protocol `short` in a separate table."""
    mine = [c for c in cells if c["experiment"] == NAME]
    paper, short = ([c for c in mine if c["protocol"] == protocol] for protocol in ("paper", "short"))
    return [*_paper_section(paper, folder), *_short_section(short)]


class _Row(NamedTuple):
    arch: str
    set: str
    prior: str
    precision: str | None
    cells: list[CellRecord]
    paper: float | None  # None if the paper has no such row


def _paper_section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """Our results and the paper's, for every cell of Table 1; missing cells are marked `not run`."""
    rows = _rows(cells)
    lines = [
        "## Table 1: four priors, protocol `paper`",
        "",
        f"{UNIT} 5,000 importance samples for each of the 10,000 test examples, or for the fewer in the column `test "
        "examples`. Protocol: at most 4,000 epochs, warm-up 100, early stopping after 50 epochs without a better "
        "validation loss.",
        "",
        *table_head(
            "network", "data", "prior", "paper", "ours", "sd", "n", "95 % interval", "ours - paper", "epochs",
            "precision", "test examples", "device",
        ),
        *map(_row_line, rows),
        "",
        *_differences(rows), *_refits(rows),
    ]  # fmt: skip
    ran = [row for row in rows if row.cells]
    if compared := [(row, row.paper) for row in ran if row.paper is not None]:
        names = [f"{r.arch} {r.set} {r.prior} {r.precision}" for r, _ in compared]
        ours = [list(by_seed(r.cells, "nll_paper").values()) for r, _ in compared]
        save_png(
            dots(names, ours, [paper for _, paper in compared], "nll_paper", "the paper's unit"), folder / "table1.png"
        )
        lines += ["![Our values minus the paper's](table1.png)", ""]
    for arch, name in dict.fromkeys((r.arch, r.set) for r in ran):
        column = [r for r in ran if (r.arch, r.set) == (arch, name)]
        curves = {f"{r.prior} {r.precision} s{c['seed']}": c["curve"] for r in column for c in r.cells}
        file = f"curves-{arch}-{name}.png"
        save_png(loss_curves(curves, f"{arch}, {name}: validation loss", "the paper's unit"), folder / file)
        lines += [f"![Validation loss of {arch} on {name}]({file})", ""]
    return lines


def _rows(cells: Sequence[CellRecord]) -> list[_Row]:
    """A row per cell of the paper; after each column, the other strategies of step (ii) as controls."""
    rows: list[_Row] = []
    for arch, sets in PAPER.items():
        for name, metrics in sets.items():
            column = [c for c in cells if (c["arch"], c["set"]) == (arch, name)]
            for prior, paper in zip(PRIORS, metrics, strict=True):
                own = [c for c in column if prior_label(c) == prior and c["coreset"] in (None, "paper")]
                rows += _by_settings(own, _Row(arch, name, prior, None, [], paper))
            for coreset in STRATEGIES:
                if coreset != "paper" and (own := [c for c in column if c["coreset"] == coreset]):
                    rows += _by_settings(own, _Row(arch, name, f"bype ({coreset})", None, [], None))
    return rows


def _by_settings(cells: Sequence[CellRecord], empty: _Row) -> list[_Row]:
    """A row per precision and settings; one empty row if there are no cells."""
    kinds = sorted({(c["precision"], c["settings_hash"]) for c in cells})
    return [
        empty._replace(precision=precision, cells=[c for c in cells if c["settings_hash"] == settings])
        for precision, settings in kinds
    ] or [empty]


def _row_line(row: _Row) -> str:
    head = f"| {row.arch} | {row.set} | {row.prior} | {number(row.paper)} |"
    if not row.cells:
        return head + " not run |" + " |" * 8
    ours = summary(list(by_seed(row.cells, "nll_paper").values()))
    devices = sorted({c["device"] for c in row.cells})
    difference = "" if row.paper is None else f"{ours.mean - row.paper:+.2f}"
    return (
        f"{head} {ours.mean:.2f} | {number(ours.sd)} | {ours.n} | {interval(ours)} | {difference} | "
        f"{mean(row.cells, 'epochs', 0)} | {row.precision} | {scored_examples(row.cells)} | {'; '.join(devices)} |"
    )


def _refits(rows: Sequence[_Row]) -> list[str]:
    """The metrics under a refit to all training examples, which never appear in the paper's rows."""
    lines = []
    for row in rows:
        for metric in ("nll_paper", "nll_paper_short"):
            own, refit = by_seed(row.cells, metric), by_seed(row.cells, f"{metric}@all")
            if gain := paired(own, refit):
                before, after = (summary([of[seed] for seed in own if seed in refit]) for of in (own, refit))
                lines.append(
                    f"| {row.arch} | {row.set} | {row.prior} | {row.precision} | `{metric}` | {before.mean:.2f} "
                    f"| {after.mean:.2f} | {gain.mean:+.2f} | {gain.n} | {interval(gain)} |"
                )
                break
    if not lines:
        return []
    return [
        "The same runs under a refitted prior, with all training examples as components and sigma chosen on validation "
        "examples (`@all`). `nll_paper_short` uses 500 samples on the first 2,000 test examples:",
        "",
        *table_head(
            "network", "data", "prior", "precision", "metric", "as trained", "`@all`", "gain", "n", "95 % interval"
        ),
        *lines,
        "",
    ]


def difference(ours: Sequence[CellRecord], theirs: Sequence[CellRecord]) -> Summary | None:
    """`nll_paper` of ours minus theirs, by seed and on the same test examples; None if there are no such pairs."""
    scored = {(c["figures"]["nll_paper_items"], scored_every(c)) for c in (*ours, *theirs)}
    if len(scored) == 1:
        return paired(by_seed(ours, "nll_paper"), by_seed(theirs, "nll_paper"))

    def fifth(cells: Sequence[CellRecord]) -> dict[int, float]:
        own = by_seed([c for c in cells if scored_every(c) == EVERY_FIFTH], "nll_paper")
        return own | by_seed(cells, "nll_paper_fifth")

    return paired(fifth(ours), fifth(theirs))


def _differences(rows: Sequence[_Row]) -> list[str]:
    """`bype` minus each other prior, paired by seed."""
    lines = []
    for row in rows:
        if row.prior != "bype" or not row.cells:
            continue
        for other in rows:
            same = (other.arch, other.set, other.precision) == (row.arch, row.set, row.precision)
            if not same or other.prior == "bype" or not other.cells:
                continue
            value = difference(row.cells, other.cells)
            if value is not None:
                where = f"| {row.arch} | {row.set} | {row.precision} | bype - {other.prior} |"
                paper = "" if row.paper is None or other.paper is None else f"{row.paper - other.paper:+.2f}"
                lines.append(f"{where} {paper} | {value.mean:+.2f} | {value.n} | {interval(value)} |")
    if not lines:
        return []
    return [
        "Differences (negative if ByPE is better), on the test examples that both were scored on:",
        "",
        *table_head("network", "data", "precision", "difference", "paper", "ours", "n", "95 % interval"),
        *lines,
        "",
    ]


def _short_section(cells: Sequence[CellRecord]) -> list[str]:
    """The cells at protocol `short`, which are not comparable with the paper."""
    if not cells:
        return []
    lines = [
        "## Cells of Table 1, protocol `short`",
        "",
        f"{UNIT} 30 epochs, warm-up 10: far from the end of training, so that these rows are comparable with one "
        "another, not with the paper. `nll_paper_short` uses 500 samples on the first 2,000 test examples.",
        "",
        *table_head(
            "network", "data", "prior", "precision", "n", "`nll_paper_short`", "validation loss", "kNN, K = 5 (%)",
            "active units",
        ),
    ]  # fmt: skip
    groups: dict[tuple[str, ...], list[CellRecord]] = {}
    for c in sorted(cells, key=lambda c: (*_column_order(c), prior_order(c))):
        label = prior_label(c) if c["coreset"] in (None, "paper") else f"{c['prior']} ({c['coreset']})"
        groups.setdefault((c["arch"], c["set"], label, c["precision"]), []).append(c)
    for key, own in groups.items():
        columns = [("nll_paper_short", 2), ("val_loss", 2), ("knn_5", 2), ("active_units", 1)]
        means = " | ".join(mean(own, metric, digits) for metric, digits in columns)
        lines.append(f"| {' | '.join(key)} | {len(own)} | {means} |")
    return [*lines, ""]


def _column_order(cell: CellRecord) -> tuple[int, int]:
    """Sort key: the place of the column in Table 1; other networks and data sets come last."""
    archs, sets = [*PAPER, cell["arch"]], [*PAPER["vae"], cell["set"]]
    return archs.index(cell["arch"]), sets.index(cell["set"])


EXPERIMENT = Experiment(
    NAME, "Table 1 of the paper: all data sets and networks with each prior.", table1, section=section,
    shown={"paper": ("nll_paper", "nll_paper_items", "epochs"), "short": ("nll_paper_short", "val_loss")},
    options=("protocol", "precision"),
)  # fmt: skip
