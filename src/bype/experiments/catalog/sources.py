"""The trained networks that figures and claims are about: by the paper's protocol, or by the recipe `fast`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from bype.core.errors import InputError
from bype.experiments.catalog import fast_table1, table1
from bype.experiments.cell import Cell, Selection
from bype.experiments.markdown import prior_label
from bype.experiments.records import CellRecord

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


def network_of(cell: Cell) -> Cell:
    """The cell of Table 1 whose run is the network of a cell."""
    return Cell(source_of(cell.protocol).experiment, cell.config, cell.protocol)


def columns(cells: Sequence[CellRecord], source: Source) -> Columns:
    """For each network and data set, the cells of each prior; of several precisions, the one with the most cells."""
    grouped: dict[tuple[str, str], dict[str, dict[str, list[CellRecord]]]] = {}
    for c in cells:
        own = c["coreset"] in (None, "paper") and prior_label(c) == c["prior"]
        if own and (c["experiment"], c["protocol"]) == source[:2]:
            by_precision = grouped.setdefault((c["arch"], c["set"]), {})
            by_precision.setdefault(c["precision"], {}).setdefault(c["prior"], []).append(c)

    def size(priors: Mapping[str, Sequence[CellRecord]]) -> tuple[int, int]:
        return len(priors), sum(map(len, priors.values()))

    return {key: max(by_precision.values(), key=size) for key, by_precision in grouped.items()}
