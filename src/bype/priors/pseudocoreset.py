"""The pseudocoreset prior: a mixture over weighted pseudo-points."""

from typing import Self, cast

import torch
from torch import Tensor, nn

from bype.core.names import STRATEGIES
from bype.data.images import Dataset, Images
from bype.priors.base import ComponentPoints, PointPrior, PriorOptions, SharedScalePrior
from bype.priors.points import initial_points

LEARNED_LR = 1e-3  # learning rate of U and log w if they are trained by the objective's gradient


class PseudocoresetPrior(SharedScalePrior, PointPrior):
    r"""Mixture over a Bayesian pseudocoreset: M weighted points that stand for N data points.

    .. math:: p(z) = \sum_{m=1}^M \frac{w_m}{N} \, \mathcal{N}(z \mid \mu(u_m), \sigma^2 I)

    The points and weights are buffers: step (i), the network step, trains `parameters()`; step (ii), a strategy of
    `bype.pseudocoreset`, updates the buffers. With the strategy `elbo` the points and `log_weights` are parameters
    instead, and `weights` is set to N softmax(log_weights) after each step.

    Source: ByPE-VAE (Ai et al., 2021), Eq. 11-12, https://arxiv.org/abs/2107.09286

    Args:
        pseudo_inputs: The initial points u_m, shape (M, c, h, w), in the units of the data.
        n_data: The number of data points N, which is also the sum of the weights.
        coreset: The strategy that updates points and weights, unless a trainer is given another one.

    Raises:
        ValueError: If M is 0 or more than N, or `coreset` is unknown.
    """

    name = "bype"
    restored_metadata = ("n_data",)  # the weights still sum to the number of examples they were trained on

    def __init__(self, pseudo_inputs: Tensor, n_data: int, *, coreset: str = "paper") -> None:
        super().__init__()
        m = len(pseudo_inputs)
        if not 1 <= m <= n_data:
            raise ValueError(f"pseudo_inputs: expected between 1 and n_data={n_data}, got {m}")
        if coreset not in STRATEGIES:
            raise ValueError(f"coreset: expected one of {', '.join(STRATEGIES)}, got {coreset!r}")
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
        """Whether points and weights are trained by the gradient of the objective."""
        return self._learned

    @property
    def pseudocoreset(self) -> Self:
        """This prior, which holds the points and weights."""
        return self

    def facts(self) -> list[tuple[str, object]]:
        """The number of training items that the weights sum to, and the strategy."""
        return [*super().facts(), ("n_data", self.n_data), ("coreset", self.coreset)]

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The points and log-weights with their own learning rate, if they are parameters."""
        if not self.learned:
            return []
        return [([cast(nn.Parameter, self.pseudo_inputs), self.log_weights], LEARNED_LR)]

    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> ComponentPoints:
        """All pseudo-points, with the mixing weights w/N."""
        if self.learned:
            return ComponentPoints(self.pseudo_inputs, self.log_weights.log_softmax(0))
        return ComponentPoints(self.pseudo_inputs, (self.weights / self.n_data).log())

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if there are more images than N, the sum of the weights."""
        if len(images) > self.n_data:
            raise ValueError(f"expected the {self.n_data} training items of the prior, got {len(images)}")

    def metadata(self) -> dict[str, object]:
        """The number of data points N, the sum of the weights."""
        return {"n_data": self.n_data}

    @torch.no_grad()
    def after_step(self) -> None:
        """If points and weights are parameters: clamps the points to [0, 1] and updates `weights`."""
        if self.learned:
            self.pseudo_inputs.clamp_(0, 1)
            self.weights.copy_(self.n_data * self.log_weights.softmax(0))


def build(data: Dataset, options: PriorOptions) -> PseudocoresetPrior:
    """Builds the prior `bype`, with random training examples as initial points."""
    return PseudocoresetPrior(initial_points(data, options.n_components), len(data.train), coreset=options.coreset)
