"""`fig4`: Figure 4 of the paper, kNN accuracy in the latent space by K."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bype.evaluation.neighbours import KNN
from bype.experiments.catalog import sources
from bype.experiments.catalog.sources import SOURCES, Source
from bype.experiments.catalog.table1 import PRIORS
from bype.experiments.cell import Cell, Experiment, Selection
from bype.experiments.markdown import table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import summary
from bype.viz.charts import lines_by_number
from bype.viz.images import save_png

NAME = "fig4"
SETS = ("mnist", "fashion-mnist")


def fig4(selection: Selection) -> list[Cell]:
    """The cells of Table 1 whose accuracies the figure shows: MLP VAE, all priors. `fig4` has no other cells."""
    return sources.networks(selection, SETS)


def accuracies(cells: Sequence[CellRecord], source: Source) -> dict[str, dict[str, dict[int, list[float]]]]:
    """kNN accuracies in percent by data set, prior and K, one for each seed."""
    found = sources.columns(cells, source)
    out: dict[str, dict[str, dict[int, list[float]]]] = {}
    for name in SETS:
        for prior in PRIORS:
            own = found.get(("vae", name), {}).get(prior, ())
            by_k = {k: list(by_seed(own, f"knn_{k}").values()) for k in KNN}
            if all(by_k.values()):
                out.setdefault(name, {})[prior] = by_k
    return out


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A table and a chart for each source of networks."""
    lines: list[str] = []
    for source in SOURCES:
        own = accuracies(cells, source)
        if own:
            file = f"fig4-{source.protocol}.png"
            panels = {f"{name}, {source.title.replace('`', '')}": own[name] for name in own}
            save_png(lines_by_number(panels, "neighbours K", "accuracy (%)", names=PRIORS), folder / file)
            lines += [*_table(own, source), f"![kNN accuracy by K, {source.title}]({file})", ""]
    if not lines:
        return []
    return [
        "## Figure 4: kNN classification in the latent space",
        "",
        "Accuracy in percent on the 10,000 test examples of the majority vote of the K training and validation "
        "examples with the nearest posterior means. MLP VAE; the networks are those of Table 1. Means over n seeds; "
        "in the charts, a dot per seed.",
        "",
        *lines,
    ]


def _table(own: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], source: Source) -> list[str]:
    lines = [f"{source.title.capitalize()}:", "", *table_head("data", "prior", "n", *(f"K = {k}" for k in KNN))]
    for name, priors in own.items():
        for prior, by_k in priors.items():
            means = " | ".join(f"{summary(values).mean:.2f}" for values in by_k.values())
            lines.append(f"| {name} | {prior} | {len(by_k[KNN[0]])} | {means} |")
    return [*lines, ""]


EXPERIMENT = Experiment(
    NAME, "Figure 4 of the paper: kNN accuracy by K, from cells of Table 1.", fig4, section=section,
    options=("protocol", "precision"),
)  # fmt: skip
