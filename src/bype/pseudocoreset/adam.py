"""Adam on U and w, for step (ii)."""

import torch
from torch import Tensor

from bype.pseudocoreset.gradient import CoresetGradient


class Adam:
    """Adam in place on (U, w), with a learning rate per call and per tensor. Source: Kingma and Ba, 2015.

    Args:
        params: The tensors to update, U and w.
        moments: The moments of an earlier update, as `moments` returns them; by default zero.
    """

    def __init__(self, params: list[Tensor], moments: dict[str, Tensor] | None = None) -> None:
        moments = moments or {}
        self.params = params
        self.first = [moments.get(f"exp_avg.{i}", torch.zeros_like(p)).to(p.device) for i, p in enumerate(params)]
        self.second = [moments.get(f"exp_avg_sq.{i}", torch.zeros_like(p)).to(p.device) for i, p in enumerate(params)]
        self.count = torch.zeros((), dtype=torch.float64, device=params[0].device)

    def step(self, gradient: CoresetGradient, rates: list[float]) -> None:
        """Takes one step on U and w, each with its own learning rate."""
        self.count += 1
        corrections = 1 - 0.9**self.count, 1 - 0.999**self.count
        for p, g, m, v, rate in zip(self.params, gradient, self.first, self.second, rates, strict=True):
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            p.sub_(rate * (m / corrections[0]) / ((v / corrections[1]).sqrt() + 1e-8))

    def reset(self) -> None:
        """Resets the moments and the step count to zero."""
        for t in self.tensors():
            t.zero_()

    def tensors(self) -> list[Tensor]:
        """The moments and the step count."""
        return [*self.first, *self.second, self.count]

    def moments(self) -> dict[str, Tensor]:
        """The moments by name, as `__init__` expects them."""
        return {f"exp_avg.{i}": m for i, m in enumerate(self.first)} | {
            f"exp_avg_sq.{i}": v for i, v in enumerate(self.second)
        }
