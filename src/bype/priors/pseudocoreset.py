"""The pseudocoreset prior: a mixture over weighted pseudo-points."""

from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from bype.core.names import STRATEGIES
from bype.data.images import Dataset, Images
from bype.priors.base import ComponentPoints, PointPrior, PriorOptions, SharedScalePrior
from bype.priors.points import initial_points

LEARNED_LR = 1e-3  # of U and log w where the objective's gradient moves them


class PseudocoresetPrior(SharedScalePrior, PointPrior):
    r"""Mixture over a Bayesian pseudocoreset: M weighted points that stand for N data points.

    .. math:: p(z) = \sum_{m=1}^M \frac{w_m}{N} \, \mathcal{N}(z \mid \mu(u_m), \sigma^2 I)

    The points and weights are buffers: step (i), the network step, trains `parameters()`; step (ii), a strategy of
    `bype.pseudocoreset`, moves the buffers. Under `elbo` the points are parameters instead, and so are the logarithms
    of the weights, w = N softmax(log_weights), which `weights` follows after each step.

    Source: ByPE-VAE (Ai et al., 2021), Eq. 11-12, https://arxiv.org/abs/2107.09286

    Args:
        pseudo_inputs: The initial points u_m, shape (M, c, h, w), in the units of the data.
        n_data: The number of data points N, which is also what the weights sum to.
        coreset: The strategy by which points and weights learn, unless a trainer is given another one.

    Raises:
        ValueError: If M is 0 or more than N, or there is no such strategy.
    """

    restored_metadata = ("n_data",)  # the weights go on to stand for the items they stood for

    def __init__(self, pseudo_inputs: Tensor, n_data: int, *, coreset: str = "paper") -> None:
        super().__init__()
        m = len(pseudo_inputs)
        if not 1 <= m <= n_data:
            raise ValueError(f"Expected between 1 and n_data={n_data} pseudo-inputs, but got {m}.")
        if coreset not in STRATEGIES:
            raise ValueError(f"Expected `coreset` to be one of {', '.join(STRATEGIES)}, but got {coreset!r}.")
        self.n_data, self.coreset = n_data, coreset
        self._learned: bool = STRATEGIES[coreset].learned
        self.pseudo_inputs: Tensor
        self.weights: Tensor
        self.register_buffer("weights", pseudo_inputs.new_full((m,), n_data / m))
        if self.learned:
            self.pseudo_inputs = nn.Parameter(pseudo_inputs.clone())
            self.log_weights = nn.Parameter(pseudo_inputs.new_full((m,), 1 / m).log())
        else:
            self.register_buffer("pseudo_inputs", pseudo_inputs.clone())

    @property
    def learned(self) -> bool:
        """Whether the gradient of the objective moves points and weights."""
        return self._learned

    @property
    def pseudocoreset(self) -> Self:
        """The prior itself."""
        return self

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Learned points and log-weights, with a rate of their own."""
        if not self.learned:
            return []
        return [([cast(nn.Parameter, self.pseudo_inputs), self.log_weights], LEARNED_LR)]

    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> ComponentPoints:
        """All pseudo-points, with the shares w/N."""
        if self.learned:
            return ComponentPoints(self.pseudo_inputs, self.log_weights.log_softmax(0))
        return ComponentPoints(self.pseudo_inputs, (self.weights / self.n_data).log())

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if they are more than the weights stand for."""
        if len(images) > self.n_data:
            raise ValueError(f"expected the {self.n_data} training items of the prior, got {len(images)}")

    def metadata(self) -> dict[str, Any]:
        """What the weights sum to."""
        return {"n_data": self.n_data}

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamps learned points to [0, 1] and lets `weights` follow."""
        if self.learned:
            self.pseudo_inputs.clamp_(0, 1)
            self.weights.copy_(self.n_data * self.log_weights.softmax(0))


def build(data: Dataset, options: PriorOptions) -> PseudocoresetPrior:
    """The prior `bype`: its points start at training examples."""
    return PseudocoresetPrior(initial_points(data, options.n_components), len(data.train), coreset=options.coreset)
