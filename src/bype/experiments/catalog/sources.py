"""The trained networks that figures and claims are about: by the paper's protocol, or by the recipe `fast`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from bype.core.config import Config
from bype.core.devices import resolve_device
from bype.core.errors import InputError
from bype.core.precision import fastest_precision
from bype.experiments.catalog import fast_table1, table1
from bype.experiments.cell import Cell, Selection
from bype.experiments.markdown import prior_label
from bype.experiments.records import CellRecord, training_settings

Columns = Mapping[tuple[str, str], Mapping[str, Sequence[CellRecord]]]


class Source(NamedTuple):
    """The cells whose networks are used."""

    experiment: str
    protocol: str
    title: str


#: Never in one table or chart.
PAPER = Source(table1.NAME, "paper", "protocol `paper`")
FAST = Source(fast_table1.NAME, fast_table1.PROTOCOL, "recipe `fast`")
SOURCES = (PAPER, FAST)
#: The name of the faces' data set and of their networks; the paper's number of training faces.
FACES, N_FACES = "celeba", 26_000


def source_of(protocol: str) -> Source:
    """The source of a protocol.

    Raises:
        InputError: If there is none.
    """
    found = next((source for source in SOURCES if source.protocol == protocol), None)
    if found is None:
        raise InputError(f"--protocol: expected {' or '.join(s.protocol for s in SOURCES)}, got {protocol!r}")
    return found


def networks(selection: Selection, sets: Sequence[str], priors: Sequence[str] = table1.PRIORS) -> list[Cell]:
    """The MLP VAEs on some data sets with some priors, as cells of Table 1 under the selected protocol, or `fast`.

    By default with three seeds.
    """
    source = source_of(selection.protocol or FAST.protocol)
    own = replace(selection, seeds=selection.seeds or (0, 1, 2))
    cells = table1.table1(own) if source == PAPER else fast_table1.fast_table1(own)
    return [c for c in cells if c.config.arch == "vae" and c.config.set in sets and c.config.prior in priors]


def pictured(selection: Selection) -> list[Cell]:
    """The networks whose samples Figures 1 and 2 show: ByPE's MLP VAEs of Table 1, and one of faces, seed 0."""
    source = source_of(selection.protocol or FAST.protocol)
    precision = selection.precision or fastest_precision(resolve_device(selection.device))
    faces = [
        Cell(
            FACES,
            Config(
                FACES, recipe=source.protocol, likelihood="mse", arch=FACES, n_components=240, precision=precision,
                seed=seed, device=selection.device,
            ).sized(N_FACES),
            source.protocol, samples=None,
        )
        for seed in selection.seeds or (0,)
    ]  # fmt: skip
    return networks(selection, ("mnist", "fashion-mnist"), ("bype",)) + faces


def network_of(cell: Cell) -> Cell:
    """The cell whose run is the network of a cell: of Table 1, which has no faces, or of the run `celeba-...`."""
    experiment = FACES if cell.config.arch == FACES else source_of(cell.protocol).experiment
    return Cell(experiment, cell.config, cell.protocol)


def columns(cells: Sequence[CellRecord], source: Source) -> Columns:
    """For each network and data set, the cells of each prior that `one_kind` returns."""
    grouped: dict[tuple[str, str], list[CellRecord]] = {}
    for c in cells:
        own = c["coreset"] in (None, "paper") and prior_label(c) == c["prior"]
        if own and (c["experiment"], c["protocol"]) == source[:2]:
            grouped.setdefault((c["arch"], c["set"]), []).append(c)
    return {key: by_prior(one_kind(own)) for key, own in grouped.items()}


def by_prior(cells: Sequence[CellRecord]) -> dict[str, list[CellRecord]]:
    """The records by prior."""
    groups: dict[str, list[CellRecord]] = {}
    for c in cells:
        groups.setdefault(c["prior"], []).append(c)
    return groups


def one_kind(cells: Sequence[CellRecord]) -> list[CellRecord]:
    """The records of one precision and the same options of training, which may be compared.

    A recipe may change: of several kinds, that with the most priors, then that with the most records.
    """
    kinds: dict[tuple[str, str], list[CellRecord]] = {}
    for c in cells:
        kinds.setdefault((c["precision"], training_settings(c)), []).append(c)
    return max(kinds.values(), key=lambda own: (len(by_prior(own)), len(own)), default=[])
