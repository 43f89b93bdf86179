"""The results page: `results/README.md` and its pictures, made from the ledger alone."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bype.core.errors import InputError
from bype.core.files import write_text
from bype.core.names import PRIORS, STRATEGIES
from bype.experiments.cells import EVERY_FIFTH
from bype.experiments.ledger import VAMP_POINTS, read
from bype.experiments.stats import Summary, paired, summary
from bype.viz import charts
from bype.viz import images as pictures

#: Table 1 of the paper (Ai et al., 2021): `nll_paper` by network, data set and prior.
PAPER_TABLE1: dict[str, dict[str, tuple[float, ...]]] = {
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

Cell = Mapping[str, Any]
Text = list[str]

#: What every page begins with: a page without it is somebody else's, and is left alone.
MARK = "Made by `bype reproduce --render`"

UNIT = "Negative log-likelihood in the paper's unit, `nll_paper`; lower is better."


def render(ledger: Path) -> Path:
    """Writes README.md and the pictures beside a ledger's folder.

    Returns:
        The page.

    Raises:
        InputError: If there is no such folder, or the README.md beside it is none that was made so.
    """
    if ledger.name in ("", ".."):  # `.` has no name to be linked by, and no folder above it
        ledger = ledger.resolve()
    if not ledger.is_dir():
        raise InputError(f"--ledger {ledger}: expected a folder of finished cells, got none there")
    page = ledger.parent / "README.md"
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise InputError(
            f"{page}: expected a page made by reproduce --render, or none, got another; move it, or --ledger"
        )
    cells, left_out = read(ledger)
    folder = ledger.parent
    parts = [_head(ledger, cells, left_out)]
    for section in (_table1, _table1_short, _step_two, _reencode, _trunk):
        parts.append(section(cells, folder))
    write_text(page, "\n".join(line for part in parts for line in part) + "\n")
    return page


def _head(ledger: Path, cells: Sequence[Cell], left_out: Sequence[str]) -> Text:
    lines = [
        "# Results",
        "",
        f"{MARK} from the {len(cells)} cells of [`{ledger.name}`]({ledger.name}) and from "
        "nothing else: one file for each run, with all its settings and figures. Means over seeds; intervals are 95 %, "
        "by Student's t; differences are paired by seed.",
        "",
    ]
    names = [Path(line.split(": ")[1]).name for line in left_out]
    return lines + ([f"Left out, damaged or foreign: {', '.join(names)}.", ""] if names else [])


def by_seed(cells: Sequence[Cell], figure: str) -> dict[int, float]:
    """A figure of each cell that has it, by seed."""
    return {c["seed"]: c["figures"][figure] for c in cells if figure in c["figures"]}


class _Row(NamedTuple):
    arch: str
    set: str
    prior: str
    precision: str | None
    cells: list[Cell]
    paper: float | None  # None where the paper has none


def _table1(cells: Sequence[Cell], folder: Path) -> Text:
    """Paper beside ours, every cell of Table 1; what was not run is shown as such."""
    mine = [c for c in cells if c["experiment"] == "table1" and c["protocol"] == "paper"]
    rows: list[_Row] = []
    for arch, sets in PAPER_TABLE1.items():
        for name, figures in sets.items():
            for prior, paper in zip(PRIORS, figures, strict=True):
                own = [c for c in mine if (c["arch"], c["set"], _label(c)) == (arch, name, prior)]
                rows += _by_settings(arch, name, prior, [c for c in own if c["coreset"] in (None, "paper")], paper)
            for coreset in STRATEGIES:  # controls, beside what the paper has
                if coreset != "paper":
                    own = [c for c in mine if (c["arch"], c["set"], c["coreset"]) == (arch, name, coreset)]
                    rows += _by_settings(arch, name, f"bype ({coreset})", own, None) if own else []
    lines = [
        "## Table 1: four priors, protocol `paper`",
        "",
        f"{UNIT} 5,000 importance samples of each test item (fewer items where the last columns say so). Protocol: at "
        "most 4,000 epochs, warm-up 100, stopped after 50 epochs without a better validation loss.",
        "",
        "| network | data | prior | paper | ours | sd | n | 95 % interval | ours - paper | epochs | precision "
        "| test items | device |",
        "|" + "---|" * 13,
    ]
    for row in rows:
        lines.append(_table1_row(row))
    lines += ["", *_differences(rows), *_claims(rows), *_refits(rows)]
    ran = [row for row in rows if row.cells]
    if beside := [(row, row.paper) for row in ran if row.paper is not None]:
        pictures.save_png(
            charts.dots(
                [f"{r.arch} {r.set} {r.prior} {r.precision}" for r, _ in beside],
                [list(by_seed(r.cells, "nll_paper").values()) for r, _ in beside],
                [paper for _, paper in beside],
                "nll_paper",
            ),
            folder / "table1.png",
        )
        lines += ["![Ours beside the paper's](table1.png)", ""]
    for arch, name in dict.fromkeys((r.arch, r.set) for r in ran):
        curves = {
            f"{r.prior} {r.precision} s{c['seed']}": c["curve"]
            for r in ran
            for c in r.cells
            if (r.arch, r.set) == (arch, name)
        }
        file = f"curves-{arch}-{name}.png"
        pictures.save_png(charts.loss_curves(curves, f"{arch}, {name}: validation loss, paper's unit"), folder / file)
        lines += [f"![Validation loss of {arch} on {name}]({file})", ""]
    return lines


def _by_settings(arch: str, name: str, prior: str, cells: Sequence[Cell], paper: float | None) -> list[_Row]:
    """A row for each precision, and any other settings, that there are cells of; or one without any."""
    kinds = sorted({(c["precision"], c["settings_hash"]) for c in cells})
    if not kinds:
        return [_Row(arch, name, prior, None, [], paper)]
    return [
        _Row(arch, name, prior, precision, [c for c in cells if c["settings_hash"] == settings], paper)
        for precision, settings in kinds
    ]


def _table1_row(row: _Row) -> str:
    head = f"| {row.arch} | {row.set} | {row.prior} | {'' if row.paper is None else f'{row.paper:.2f}'} |"
    if not row.cells:
        return head + " not run |" + " |" * 8
    ours = summary(list(by_seed(row.cells, "nll_paper").values()))
    epochs = summary(list(by_seed(row.cells, "epochs").values()))
    devices = sorted({c["device"] for c in row.cells})
    less = "" if row.paper is None else f"{ours.mean - row.paper:+.2f}"
    return (
        f"{head} {ours.mean:.2f} | {_number(ours.sd)} | {ours.n} | {_interval(ours)} | {less} | "
        f"{epochs.mean:.0f} | {row.precision} | {_items(row.cells)} | {'; '.join(devices)} |"
    )


def _refits(rows: Sequence[_Row]) -> Text:
    """Each run under a refit with all training items: figures that never stand in the paper's rows."""
    lines = []
    for row in rows:
        for figure in ("nll_paper", "nll_paper_short"):
            own, refit = by_seed(row.cells, figure), by_seed(row.cells, f"{figure}@all")
            if gain := paired(own, refit):
                before, after = (summary([of[seed] for seed in own if seed in refit]) for of in (own, refit))
                lines.append(
                    f"| {row.arch} | {row.set} | {row.prior} | {row.precision} | `{figure}` | {before.mean:.2f} "
                    f"| {after.mean:.2f} | {gain.mean:+.2f} | {gain.n} | {_interval(gain)} |"
                )
                break
    if not lines:
        return []
    return [
        "The same runs under a refit, all training items for components and sigma chosen on validation items (`@all`); "
        "`nll_paper_short` is of 500 samples on the first 2,000 test items:",
        "",
        "| network | data | prior | precision | figure | as trained | `@all` | gain | n | 95 % interval |",
        "|" + "---|" * 10,
        *lines,
        "",
    ]


def _less(ours: Sequence[Cell], theirs: Sequence[Cell]) -> Summary | None:
    """`nll_paper` of ours less theirs, paired by seed and over the same test items; None where that cannot be had."""
    scored = {(c["figures"]["nll_paper_items"], _every(c)) for c in (*ours, *theirs)}
    if len(scored) == 1:
        return paired(by_seed(ours, "nll_paper"), by_seed(theirs, "nll_paper"))

    def fifth(cells: Sequence[Cell]) -> dict[int, float]:
        own = {c["seed"]: c["figures"]["nll_paper"] for c in cells if _every(c) == EVERY_FIFTH}
        return own | by_seed(cells, "nll_paper_fifth")

    return paired(fifth(ours), fifth(theirs))


def _every(cell: Cell) -> int:
    return int(cell["figures"].get("nll_paper_every", 1))


def _items(cells: Sequence[Cell]) -> str:
    """Which test items `nll_paper` is of: all, every fifth, or the first so many."""

    def told(c: Cell) -> str:
        count = int(c["figures"]["nll_paper_items"])
        return f"{count}, every {_every(c)}th" if _every(c) > 1 else str(count) if count == 10_000 else f"first {count}"

    return "; ".join(dict.fromkeys(told(c) for c in cells if "nll_paper_items" in c["figures"]))


def _differences(rows: Sequence[_Row]) -> Text:
    """Bype less each other prior, paired by seed."""
    lines = []
    for row in rows:
        if row.prior != "bype" or not row.cells:
            continue
        for other in rows:
            same = (other.arch, other.set, other.precision) == (row.arch, row.set, row.precision)
            if not same or other.prior == "bype" or not other.cells:
                continue
            difference = _less(row.cells, other.cells)
            if difference is not None:
                where = f"| {row.arch} | {row.set} | {row.precision} | bype - {other.prior} |"
                theirs = "" if row.paper is None or other.paper is None else f"{row.paper - other.paper:+.2f}"
                lines.append(f"{where} {theirs} | {difference.mean:+.2f} | {difference.n} | {_interval(difference)} |")
    if not lines:
        return []
    head = ["| network | data | precision | difference | paper | ours | n | 95 % interval |", "|" + "---|" * 8]
    return [
        "Differences, below zero where ByPE is better; over the items that both were scored on:", "", *head, *lines, ""
    ]  # fmt: skip


def _claims(rows: Sequence[_Row]) -> Text:
    """C1 and C2 as far as the cells go: a lead is shown where the interval of each paired difference excludes zero."""
    by_precision: dict[tuple[str, str, str | None], dict[str, list[Cell]]] = {}
    for row in rows:
        if row.cells and row.paper is not None:
            by_precision.setdefault((row.arch, row.set, row.precision), {})[row.prior] = row.cells
    columns: dict[tuple[str, str], list[dict[str, list[Cell]]]] = {}
    for (arch, name, _), own in by_precision.items():
        if set(own) == set(PRIORS):
            columns.setdefault((arch, name), []).append(own)
    total = sum(len(sets) for sets in PAPER_TABLE1.values())
    if not columns:
        return [f"Claims C1 and C2 are of whole columns; of the {total} none is whole yet.", ""]
    # Of a column at several precisions, the one with the most runs.
    whole = [max(found, key=lambda own: sum(map(len, own.values()))) for found in columns.values()]

    def counts(pairs: Sequence[tuple[str, str]]) -> tuple[int, int]:
        """In how many columns the first of every pair is lower, and in how many that is shown."""
        less = [[_less(own[a], own[b]) for a, b in pairs] for own in whole]
        leads = [all(d is not None and d.mean < 0 for d in column) for column in less]
        shown = [all(d is not None and d.interval and d.interval[1] < 0 for d in column) for column in less]
        return sum(leads), sum(shown)

    lowest = counts([("bype", p) for p in PRIORS if p != "bype"])
    beaten = counts([(p, "standard") for p in PRIORS if p != "standard"])
    return [
        f"Claim C1, ByPE has the lowest figure in all {total} columns: of the {len(whole)} that are whole here, it has "
        f"it in {lowest[0]}, and in {lowest[1]} each 95 % interval of its lead excludes zero. Claim C2, the priors "
        f"built from data all beat the standard one: in {beaten[0]} of {len(whole)}, so shown in {beaten[1]}.",
        "",
    ]


def _table1_short(cells: Sequence[Cell], folder: Path) -> Text:
    """Cells of Table 1 at protocol short, which stand beside nothing of the paper's."""
    mine = [c for c in cells if c["experiment"] == "table1" and c["protocol"] == "short"]
    if not mine:
        return []
    lines = [
        "## Table 1's cells at protocol `short`",
        "",
        f"{UNIT} 30 epochs, warm-up 10, far from the end of training: to be compared with one another, not with the "
        "paper. `nll_paper_short` is of 500 samples on the first 2,000 test items.",
        "",
        "| network | data | prior | precision | n | `nll_paper_short` | validation loss | kNN, K = 5 (%) "
        "| active units |",
        "|" + "---|" * 9,
    ]
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for c in sorted(mine, key=lambda c: (*_column(c), _place(c))):
        label = _label(c) if c["coreset"] in (None, "paper") else f"{c['prior']} ({c['coreset']})"
        groups.setdefault((c["arch"], c["set"], label, c["precision"]), []).append(c)
    for key, own in groups.items():
        means = [("nll_paper_short", 2), ("val_loss", 2), ("knn_5", 2), ("active_units", 1)]
        figures = " | ".join(_mean(own, figure, digits) for figure, digits in means)
        lines.append(f"| {' | '.join(key)} | {len(own)} | {figures} |")
    return [*lines, ""]


def _column(cell: Cell) -> tuple[int, int]:
    """Where a cell's column stands in Table 1; other networks and sets come last."""
    known = [*PAPER_TABLE1, cell["arch"]], [*PAPER_TABLE1["vae"], cell["set"]]
    return known[0].index(cell["arch"]), known[1].index(cell["set"])


def _step_two(cells: Sequence[Cell], folder: Path) -> Text:
    """Every strategy of step (ii), paired by seed with `none`."""
    mine = [c for c in cells if c["experiment"] == "step-two"]
    if not mine:
        return []
    kinds = {
        k: [c for c in mine if (c["coreset"] or _label(c)) == k]
        for k in ("none", "paper", "published", "elbo", "vamp", CLAMPED_AT_USE)
    }
    if not kinds[CLAMPED_AT_USE]:
        del kinds[CLAMPED_AT_USE]
    base = by_seed(kinds["none"], "nll_paper_short")
    lines = [
        "## Step (ii): its strategies, protocol `short`",
        "",
        "MNIST, MLP VAE, M = 500, 30 epochs, warm-up 10; `nll_paper_short` is of 500 samples on the first 2,000 test "
        "items, the validation loss that of the best epoch. What it means is said in [docs/step-two.md]"
        "(../docs/step-two.md).",
        "",
        "| strategy | n | `nll_paper_short` | sd | less `none`, paired | 95 % interval | validation loss | less `none` "
        "| `kl_prior` | `kl_prior_reverse` |",
        "|" + "---|" * 10,
    ]
    losses = by_seed(kinds["none"], "val_loss")
    for kind, own in kinds.items():
        if not own:
            lines.append(f"| {kind} | 0 | not run |" + " |" * 7)
            continue
        nll = summary(list(by_seed(own, "nll_paper_short").values()))
        loss = summary(list(by_seed(own, "val_loss").values()))
        less, less_loss = paired(by_seed(own, "nll_paper_short"), base), paired(by_seed(own, "val_loss"), losses)
        other = kind != "none"
        lines.append(
            f"| {kind} | {nll.n} | {nll.mean:.2f} | {_number(nll.sd)} | {_signed(less) if other else ''} | "
            f"{_interval(less) if other and less else ''} | {loss.mean:.2f} | {_signed(less_loss) if other else ''} | "
            f"{_mean(own, 'kl_prior')} | {_mean(own, 'kl_prior_reverse')} |"
        )
    lines += ["", *_updates(kinds), *_settings(cells, kinds["paper"])]
    curves = {f"{k} s{c['seed']}": c["curve"] for k, own in kinds.items() for c in own if c["seed"] == 0}
    pictures.save_png(charts.loss_curves(curves, "step (ii): validation loss, paper's unit"), folder / "step-two.png")
    return [*lines, "![Validation loss by strategy, seed 0](step-two.png)", ""]


def _updates(kinds: Mapping[str, Sequence[Cell]]) -> Text:
    """Before and after each update of `paper` and `published`, means over seeds."""
    lines = [
        "| strategy | epoch | validation loss before | after | distance of means | share of U outside [0, 1] |",
        "|" + "---|" * 6,
    ]
    for kind in ("paper", "published", "elbo"):
        own = kinds[kind]
        updates = (re.fullmatch("coreset_mean_distance_([0-9]{1,9})", k) for c in own for k in c["figures"])
        for epoch in sorted({int(update[1]) for update in updates if update}):
            figures = ("val_loss_before", "val_loss_after", "coreset_mean_distance", "coreset_outside")
            means = [_mean(own, f"{figure}_{epoch}") for figure in figures]
            lines.append(f"| {kind} | {epoch} | {' | '.join(means)} |")
    return [*lines, ""]


def _settings(cells: Sequence[Cell], default: Sequence[Cell]) -> Text:
    """Strategy `paper` with other settings, beside the defaults at the same seeds."""
    others = [c for c in cells if c["experiment"] == "step-two-settings"]
    if not others:
        return []
    figures = ("nll_paper_short", "val_loss", "val_loss_before_30", "val_loss_after_30", "coreset_mean_distance_30")
    lines = [
        "`paper` with other settings than its own (100 inner steps, rate 1e-3):",
        "",
        "| seed | inner steps | rate on U | `nll_paper_short` | validation loss | before the last update | after it "
        "| distance of means | `kl_prior` |",
        "|" + "---|" * 9,
    ]
    seeds = {c["seed"] for c in others}
    for c in sorted([*(d for d in default if d["seed"] in seeds), *others], key=lambda c: c["seed"]):
        settings = c["settings"]
        means = [_mean([c], figure) for figure in (*figures, "kl_prior")]
        own = f"{settings.get('coreset_steps', 100)} | {settings.get('coreset_lr', 1e-3):g}"
        lines.append(f"| {c['seed']} | {own} | {' | '.join(means)} |")
    return [*lines, ""]


def _reencode(cells: Sequence[Cell], folder: Path) -> Text:
    """A share of the points encoded at each step, beside all of them."""
    mine = [c for c in cells if c["experiment"] == "reencode"]
    if not mine:
        return []
    exact = [c for c in cells if c["experiment"] == "step-two" and c["coreset"] == "paper"]
    lines = [
        "## Encoding a share of the points at each step, protocol `short`",
        "",
        "MNIST, MLP VAE, `bype` with `paper`, M = 500, `--reencode`; the share 1 is step (ii)'s `paper` above.",
        "",
        "| share | n | `nll_paper_short` | sd | less share 1, paired | 95 % interval | validation loss "
        "| less share 1 | 95 % interval |",
        "|" + "---|" * 9,
    ]
    shares = sorted({c["settings"]["reencode"] for c in mine}, reverse=True)
    for share, own in [(1, exact), *((s, [c for c in mine if c["settings"]["reencode"] == s]) for s in shares)]:
        if not own:
            lines.append(f"| {share} | 0 | not run |" + " |" * 6)
            continue
        figures = []
        for figure in ("nll_paper_short", "val_loss"):
            value = summary(list(by_seed(own, figure).values()))
            less = paired(by_seed(own, figure), by_seed(exact, figure)) if own is not exact else None
            figures += [f"{value.mean:.2f}", *([_number(value.sd)] if figure != "val_loss" else []), _signed(less)]
            figures.append(_interval(less) if less else "")
        lines.append(f"| {share} | {len(own)} | {' | '.join(figures)} |")
    return [*lines, ""]


def _trunk(cells: Sequence[Cell], folder: Path) -> Text:
    """The four priors at protocol short."""
    mine = [c for c in cells if c["experiment"] == "trunk"]
    if not mine:
        return []
    lines = [
        "## The trunk: four priors, protocol `short`",
        "",
        f"{UNIT} MNIST, MLP VAE, M = 500, 30 epochs, warm-up 10, far from the end of training.",
        "",
        "| prior | precision | n | `nll_paper_short` | sd | `nll_paper` | its test items | kNN, K = 5 (%) "
        "| active units |",
        "|" + "---|" * 9,
    ]
    for key in dict.fromkeys((_label(c), c["precision"]) for c in sorted(mine, key=_place)):
        own = [c for c in mine if (_label(c), c["precision"]) == key]
        short, full = summary(list(by_seed(own, "nll_paper_short").values())), _counted(own, "nll_paper")
        lines.append(
            f"| {key[0]} | {key[1]} | {short.n} | {short.mean:.2f} | {_number(short.sd)} | {full} | "
            f"{_items(own)} | {_mean(own, 'knn_5')} | {_mean(own, 'active_units', 1)} |"
        )
    return [*lines, ""]


#: VampPrior's first cells (`ledger.VAMP_POINTS`).
CLAMPED_AT_USE = "vamp (points clamped at use)"


def _label(cell: Cell) -> str:
    """The prior, and of VampPrior's first cells what tells them from later ones."""
    return (
        CLAMPED_AT_USE
        if cell["prior"] == "vamp" and not VAMP_POINTS.items() <= cell["settings"].items()
        else cell["prior"]
    )


def _counted(cells: Sequence[Cell], figure: str) -> str:
    """A mean, and of how many seeds where not all have the figure."""
    values = by_seed(cells, figure)
    some = f" (n = {len(values)})" if 0 < len(values) < len(cells) else ""
    return _mean(cells, figure) + some


def _place(cell: Cell) -> tuple[int, str]:
    return list(PRIORS).index(cell["prior"]), cell["precision"]


def _mean(cells: Sequence[Cell], figure: str, digits: int = 2) -> str:
    values = list(by_seed(cells, figure).values())
    return f"{summary(values).mean:.{digits}f}" if values else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _signed(value: Summary | None) -> str:
    return "" if value is None else f"{value.mean:+.2f}"


def _interval(value: Summary) -> str:
    ends = value.interval
    return "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
