"""The learning rate over the steps of a run."""

import math
from dataclasses import dataclass

from bype.core.config import SCHEDULES
from bype.core.errors import InputError


@dataclass(frozen=True)
class Schedule:
    r"""The factor of all learning rates at each network step.

    Step t = 0, 1, ... of T has the factor :math:`f(t) = \min(1, (t + 1) / W) \, g(t / T)`, where W is the number of
    warm-up steps and g(s) is 1 (`constant`), 1 - s (`linear`) or (1 + cos(pi s))/2 (`cosine`). The factor depends on t
    alone, so that a resumed run has the same rates.

    Source: `cosine` as in SGDR without restarts (Loshchilov and Hutter, 2017), https://arxiv.org/abs/1608.03983

    Args:
        kind: `constant`, `linear` or `cosine`.
        total: The number T of steps of the run.
        warmup: The number W of steps over which the rate rises linearly; 0 for none.

    Raises:
        InputError: If `kind` is unknown.
    """

    kind: str = "constant"
    total: int = 1
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise InputError(f"schedule: expected one of {', '.join(SCHEDULES)}, got {self.kind!r}")

    @property
    def constant(self) -> bool:
        """Whether the factor is 1 at every step."""
        return not self.warmup and not self.decays

    @property
    def decays(self) -> bool:
        """Whether the rate falls to 0 at the end of the run, so that the run's length must be known."""
        return self.kind != "constant"

    def factor(self, step: int) -> float:
        """The factor at a step, from 0 to 1; 0 from step T on if the rate decays."""
        share = min(1.0, step / self.total)
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.kind == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * share))
        return rise * (1 - share) if self.kind == "linear" else rise
