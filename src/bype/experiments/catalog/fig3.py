"""`fig3`: Figure 3 of the paper, maps of test latents under the standard prior and ByPE's."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from bype.core.devices import device_model
from bype.core.errors import InputError
from bype.core.sampling import random_subset
from bype.evaluation.classifier import labels_of
from bype.evaluation.latents import latents, silhouette, tsne
from bype.experiments.arrays import pack, unpack
from bype.experiments.catalog.sources import SOURCES, Source, network_of, networks
from bype.experiments.cell import Cell, Experiment, Outcome, Selection
from bype.experiments.markdown import prior_order, table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import paired, summary
from bype.experiments.training import train
from bype.viz.images import save_png
from bype.viz.latents import ClassMap, class_maps

NAME = "fig3"
PRIORS = ("standard", "bype")
#: Test examples on a map, at most: more would hide one another.
MAP_ITEMS = 3000


def fig3(selection: Selection) -> list[Cell]:
    """MNIST, MLP VAE, the standard prior and ByPE's; the networks are those of Table 1."""
    return [Cell(NAME, c.config, c.protocol, samples=None) for c in networks(selection, ("mnist",), PRIORS)]


def measure(cell: Cell, runs: Path, check: Callable[[], None]) -> Outcome:
    """The silhouette of all test latents, and a map of some of them by t-SNE.

    Arrays: `map` (n, 2), `labels` (n,).
    """
    trained = train(network_of(cell).id, cell.config, runs, check)
    start, seed, test = time.perf_counter(), cell.config.seed, trained.data.test
    labels = labels_of(test, trained.data.name).cpu()
    means = latents(trained.trainer.model, test, seed).cpu()
    metrics = {}
    if (separation := silhouette(means, labels, seed)) is not None:
        metrics["silhouette"] = separation
    check()
    rows = random_subset(len(means), min(MAP_ITEMS, len(means)), torch.Generator().manual_seed(seed)).sort().values
    arrays = {"map": pack(tsne(means[rows], seed).float().numpy()), "labels": pack(labels[rows].numpy())}
    device = device_model(test.pixels.device)
    return Outcome([], metrics, device, time.perf_counter() - start, arrays)


def check(record: CellRecord) -> None:
    """Checks the arrays that the map is drawn from."""
    arrays = record.get("arrays", {})
    if missing := {"map", "labels"} - arrays.keys():
        raise InputError(f"expected a cell with the arrays {', '.join(sorted(missing))}")
    place, labels = unpack(arrays["map"], "map"), unpack(arrays["labels"], "labels")
    if place.shape != (len(labels), 2) or labels.ndim != 1 or not (abs(place) < 1e9).all():
        raise InputError(f"expected a place and a label for each example, got {place.shape} and {labels.shape}")


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """The maps of one seed, and the silhouettes of all."""
    lines: list[str] = []
    for source in SOURCES:
        mine = sorted(
            (c for c in cells if (c["experiment"], c["protocol"]) == (NAME, source.protocol)), key=prior_order
        )
        if mine:
            lines += _of_source(mine, source, folder)
    if not lines:
        return []
    return [
        "## Figure 3: maps of test latents",
        "",
        "MNIST, MLP VAE; the networks are those of Table 1. The silhouette, from -1 to 1, is that of the ten classes "
        "among the posterior means of all test examples; higher is better separated. The maps show "
        f"{MAP_ITEMS:,} test examples, chosen at random, or all if there are fewer, by t-SNE, which keeps neighbours "
        "together; the distance between clusters, and their size, have no meaning.",
        "",
        *lines,
    ]


def _of_source(mine: Sequence[CellRecord], source: Source, folder: Path) -> list[str]:
    groups = {prior: [c for c in mine if c["prior"] == prior] for prior in PRIORS}
    lines = [f"{source.title.capitalize()}:", "", *table_head("prior", "silhouette", "sd", "n", "95 % interval")]
    for prior, own in groups.items():
        if values := list(by_seed(own, "silhouette").values()):
            s = summary(values)
            ends = "" if s.interval is None else f"{s.interval[0]:.3f} to {s.interval[1]:.3f}"
            lines.append(f"| {prior} | {s.mean:.3f} | {'' if s.sd is None else f'{s.sd:.3f}'} | {s.n} | {ends} |")
    both = paired(by_seed(groups["bype"], "silhouette"), by_seed(groups["standard"], "silhouette"))
    if both is not None:
        ends = "" if both.interval is None else f"{both.interval[0]:.3f} to {both.interval[1]:.3f}"
        lines.append(f"| bype - standard | {both.mean:+.3f} | | {both.n} | {ends} |")
    file = f"fig3-{source.protocol}.png"
    save_png(class_maps(_maps(groups)), folder / file)
    return [*lines, "", f"![Maps of test latents, {source.title}]({file})", ""]


def _maps(groups: Mapping[str, Sequence[CellRecord]]) -> list[ClassMap]:
    """A map for each prior, of the lowest seed that all have, else of their own lowest."""
    own = {prior: {c["seed"]: c for c in records} for prior, records in groups.items() if records}
    common = set.intersection(*(set(seeds) for seeds in own.values()))
    maps = []
    for prior, seeds in own.items():
        seed = min(common or seeds)
        arrays = seeds[seed].get("arrays", {})
        labels = [str(label) for label in unpack(arrays["labels"], "labels").tolist()]
        maps.append(ClassMap(torch.from_numpy(unpack(arrays["map"], "map")), labels, f"prior {prior}, seed {seed}"))
    return maps


EXPERIMENT = Experiment(
    NAME, "Figure 3 of the paper: maps of test latents, and their silhouette.", fig3, section=section, check=check,
    shown=dict.fromkeys((s.protocol for s in SOURCES), ("silhouette",)), options=("protocol", "precision"),
    measure=measure, network=network_of, left=lambda cell, runs, rate: 60.0,
)  # fmt: skip
