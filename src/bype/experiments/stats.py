"""Means, standard deviations and intervals over a few seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# The 97.5 % points of Student's t with 1, 2, ... 30 degrees of freedom.
T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


class Summary(NamedTuple):
    """Mean of n values; from two on, their standard deviation and the half-width of the mean's 95 % interval."""

    n: int
    mean: float
    sd: float | None
    half_width: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean, by Student's t."""
        return None if self.half_width is None else (self.mean - self.half_width, self.mean + self.half_width)


def summary(values: Sequence[float]) -> Summary:
    """Mean, standard deviation (n - 1) and 95 % interval.

    >>> [round(end, 3) for end in summary([1.0, 2.0, 3.0]).interval]
    [-0.484, 4.484]
    """
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Summary(n, mean, None, None)
    sd = statistics.stdev(values)
    t = T_975[n - 2] if n - 2 < len(T_975) else T_975[-1]
    return Summary(n, mean, sd, t * sd / math.sqrt(n))


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Summary | None:
    """The differences ours - theirs over the seeds that both have; None without one."""
    seeds = sorted(ours.keys() & theirs.keys())
    return summary([ours[s] - theirs[s] for s in seeds]) if seeds else None
