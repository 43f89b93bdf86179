"""`fig5`: Figure 5 of the paper, ByPE and Exemplar with the same number of components."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bype.core.errors import InputError
from bype.experiments.catalog import step_two, table1, trunk
from bype.experiments.catalog.sources import FAST, networks, one_kind
from bype.experiments.cell import Cell, Experiment, Selection
from bype.experiments.markdown import UNIT, interval, number, signed_mean, table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import Summary, paired, summary
from bype.viz.charts import lines_by_number
from bype.viz.images import save_png

NAME = "fig5"
COMPONENTS = (50, 100, 250, 500, 1000)
PRIORS = ("bype", "exemplar")
#: By protocol, the experiments whose cells are those of the figure; cells with M = 500 are those of others.
SOURCES = {"short": (NAME, step_two.NAME, trunk.NAME), FAST.protocol: (NAME, FAST.experiment)}
TITLES = {"short": "protocol `short` (30 epochs, warm-up 10)", FAST.protocol: FAST.title}


def fig5(selection: Selection) -> list[Cell]:
    """MNIST, MLP VAE, M from 50 to 1000; M exemplars are sampled per step. Protocol `short`, or the recipe `fast`."""
    protocol = selection.protocol or "short"
    if protocol not in SOURCES:
        raise InputError(f"--protocol: expected {' or '.join(SOURCES)}, got {protocol!r}")
    selection = replace(selection, seeds=selection.seeds or (0,), protocol=protocol)
    of_500 = _fast_500(selection) if protocol == FAST.protocol else _short_500(selection)
    cells = list(of_500)
    for own in of_500:
        for m in (m for m in COMPONENTS if m != 500):
            points = own.config.prior == "bype"
            config = replace(own.config, n_components=m) if points else replace(own.config, exemplars=m)
            cells.append(Cell(NAME, config, protocol, samples=None))
    return cells


def _short_500(selection: Selection) -> list[Cell]:
    points = [c for c in step_two.step_two(selection) if c.config.coreset == "paper"]
    return points + [c for c in trunk.baseline(selection) if c.config.prior == "exemplar"]


def _fast_500(selection: Selection) -> list[Cell]:
    return networks(selection, ("mnist",), PRIORS)


def components(record: CellRecord) -> int | None:
    """M: the components of `bype`, or the exemplars sampled per step; None if the record does not have it."""
    m = record["settings"].get("n_components" if record["prior"] == "bype" else "exemplars")
    return m if isinstance(m, int) else None


def curves(cells: Sequence[CellRecord], protocol: str) -> dict[str, dict[int, dict[int, float]]]:
    """`nll_paper_short` by prior, M and seed; also from cells of other experiments with the same settings."""
    chosen = [
        c
        for c in cells
        if c["experiment"] in SOURCES[protocol]
        and c["prior"] in PRIORS
        and c["coreset"] in (None, "paper")
        and (c["set"], c["arch"], c["protocol"]) == ("mnist", "vae", protocol)
    ]
    own: dict[str, dict[int, dict[int, float]]] = {prior: {} for prior in PRIORS}
    for c in one_kind(chosen):
        if (m := components(c)) is not None:
            own[c["prior"]].setdefault(m, {}).update(by_seed([c], "nll_paper_short"))
    return own


def differences(cells: Sequence[CellRecord], protocol: str) -> dict[int, Summary]:
    """`bype` minus `exemplar` at equal M, paired by seed."""
    own = curves(cells, protocol)
    at_m = {m: paired(own["bype"][m], own["exemplar"][m]) for m in COMPONENTS if all(m in own[p] for p in PRIORS)}
    return {m: value for m, value in at_m.items() if value is not None}


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A row per M, and the picture, for each protocol."""
    run = [p for p in SOURCES if any((c["experiment"], c["protocol"]) == (NAME, p) for c in cells)]
    if not run:
        return []
    lines = [
        "## Figure 5: the number of components",
        "",
        f"{UNIT} MNIST, MLP VAE; `nll_paper_short` uses 500 samples on the first 2,000 test examples. M is the number "
        "of pseudo-points of `bype`, and the number of exemplars sampled per step of `exemplar`, which is evaluated "
        "with all training examples as components.",
        "",
    ]
    for protocol in run:
        lines += _of_protocol(cells, protocol, folder)
    return lines


def _of_protocol(cells: Sequence[CellRecord], protocol: str, folder: Path) -> list[str]:
    own, difference = curves(cells, protocol), differences(cells, protocol)
    points = {
        prior: {m: list(seeds.values()) for m, seeds in sorted(by_m.items())} for prior, by_m in own.items() if by_m
    }
    file, title = f"fig5-{protocol}.png", TITLES[protocol]
    panels = {f"NLL by M, {title.replace('`', '')}": points}
    labels = "number of components M", "nll_paper_short (the paper's unit)"
    picture = lines_by_number(panels, *labels, names=table1.PRIORS, log=True)
    save_png(picture, folder / file)
    return [
        f"{title.capitalize()}:",
        "",
        *table_head("M", "bype", "exemplar", "bype - exemplar", "n", "95 % interval"),
        *(_row(m, own, difference.get(m)) for m in COMPONENTS),
        "",
        f"![Negative log-likelihood by the number of components, {title}]({file})",
        "",
    ]


def _row(m: int, own: Mapping[str, Mapping[int, Mapping[int, float]]], difference: Summary | None) -> str:
    means = [number(summary(list(own[prior][m].values())).mean) if m in own[prior] else "not run" for prior in PRIORS]
    n = "" if difference is None else str(difference.n)
    return f"| {m} | {' | '.join(means)} | {signed_mean(difference)} | {n} | {interval(difference)} |"


EXPERIMENT = Experiment(
    NAME, "Figure 5 of the paper: ByPE and Exemplar with 50 to 1,000 components.", fig5,
    shown=dict.fromkeys(SOURCES, ("nll_paper_short",)), section=section, options=("protocol",),
)  # fmt: skip
