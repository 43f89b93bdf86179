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
    return Summary(n, mean, sd, t_975(n - 1) * sd / math.sqrt(n))


def t_975(df: int) -> float:
    """The 97.5 % point of Student's t; beyond the table by the expansion around the normal's.

    >>> t_975(1), round(t_975(100), 4), round(t_975(10**9), 4)
    (12.7062, 1.984, 1.96)
    """
    if df <= len(T_975):
        return T_975[df - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Summary | None:
    """The differences ours - theirs over the seeds that both have; None without one."""
    seeds = sorted(ours.keys() & theirs.keys())
    return summary([ours[s] - theirs[s] for s in seeds]) if seeds else None
