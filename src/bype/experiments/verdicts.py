"""Claims and verdicts: a claim is broken down into comparisons, each of which the claim says is below zero.

A comparison with an interval above zero refutes the claim; if all of them are there and below zero, the claim holds;
anything else is not decided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from bype.experiments.catalog.registry import select_cells
from bype.experiments.catalog.sources import FAST, Source
from bype.experiments.cell import Cell, Selection
from bype.experiments.records import CellRecord
from bype.experiments.stats import Summary

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "not decided", "not run"


class Comparison(NamedTuple):
    """A value that the claim says is below zero."""

    label: str  # what is subtracted from what
    value: Summary

    @property
    def ends(self) -> tuple[float, float] | None:
        """The ends of the 95 % interval; None if there is none."""
        return self.value.interval


class Evidence(NamedTuple):
    """The comparisons that have been run, and whether these are all that the claim is about."""

    comparisons: list[Comparison]
    complete: bool
    scope: str  # the part of the claim that has been run, in words
    digits: int = 2
    scale: str = ""  # the unit of the values


class Wanted(NamedTuple):
    """The cells that a verdict needs: those that a command selects, on some data sets."""

    experiment: str
    options: Mapping[str, str] = MappingProxyType({})
    seeds: Sequence[int] | None = None  # None: the experiment's
    sets: Sequence[str] | None = None  # None: all

    @property
    def command(self) -> str:
        """The command that runs them."""
        options = [f"--{name} {value}" for name, value in self.options.items()]
        seeds = [] if self.seeds is None else [f"--seeds {','.join(map(str, self.seeds))}"]
        return " ".join(["bype reproduce", self.experiment, *options, *seeds])

    def cells(self) -> list[Cell]:
        """The cells; their precision, which depends on the device, is that of a CPU."""
        selection = Selection(**self.options, seeds=self.seeds, device="cpu")
        return [c for c in select_cells(self.experiment, selection) if self.sets is None or c.config.set in self.sets]


@dataclass(frozen=True)
class Claim:
    """A claim.

    Args:
        name: C1 to C11.
        sentence: The claim, in a sentence.
        paper: The paper's figures.
        wanted: The cells that the verdict needs.
        evidence: Collects the comparisons from the records of the ledger.
        fast: The cells of the verdict by the recipe `fast`, if the claim compares priors and is judged by both.
    """

    name: str
    sentence: str
    paper: str
    wanted: Wanted
    evidence: Callable[[Sequence[CellRecord], Source], Evidence]
    fast: Wanted | None = None

    def cells_wanted(self, source: Source) -> Wanted:
        """The cells of the verdict by a source of networks."""
        return self.fast if source == FAST and self.fast is not None else self.wanted


def verdict(evidence: Evidence) -> str:
    """`holds`, `does not hold`, `not decided` or `not run`.

    >>> from bype.experiments.stats import summary
    >>> below = Comparison("a", summary([-1.0, -1.1, -0.9]))
    >>> verdict(Evidence([below], True, "")), verdict(Evidence([below], False, "")), verdict(Evidence([], False, ""))
    ('holds', 'not decided', 'not run')
    """
    ends = [c.ends for c in evidence.comparisons]
    if not ends:
        return NOT_RUN
    if any(e is not None and e[0] > 0 for e in ends):
        return FAILS
    return HOLDS if evidence.complete and all(e is not None and e[1] < 0 for e in ends) else OPEN


def least_favourable(evidence: Evidence) -> Comparison:
    """The comparison that is least favourable to the claim: by the upper end of its interval, or its mean."""
    return max(evidence.comparisons, key=lambda c: c.value.mean if c.ends is None else c.ends[1])
