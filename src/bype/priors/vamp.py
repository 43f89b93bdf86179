"""VampPrior: a mixture of the posteriors of learned pseudo-inputs."""

import torch
from torch import Tensor, nn

from bype.data.images import Dataset
from bype.distributions.mixtures import DiagonalMixture
from bype.priors.base import ComponentPoints, PointEncoder, PointPrior, PriorOptions
from bype.priors.points import initial_points


class _Clamped(torch.autograd.Function):
    """Clamps to [0, 1]; the gradient passes unchanged, also to values outside, which the next step clamps."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.clamp(0, 1)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


class VampPrior(PointPrior):
    r"""Variational mixture of posteriors, over pseudo-inputs trained by the gradient of the objective.

    .. math:: p(z) = \frac{1}{M} \sum_{m=1}^M \mathcal{N}(z \mid \mu(u_m), \mathrm{diag}\,v(u_m))

    The points are clamped to [0, 1] at the start and after each step, so that all of their values keep a gradient:
    clamping only at the point of use would leave out-of-range values without one, and they would stay out of range.

    Source: VAE with a VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120

    Args:
        pseudo_inputs: The initial points u_m, shape (M, c, h, w); clamped to [0, 1].

    Raises:
        ValueError: If `pseudo_inputs` is empty.
    """

    name = "vamp"

    def __init__(self, pseudo_inputs: Tensor) -> None:
        super().__init__()
        if not len(pseudo_inputs):
            raise ValueError("pseudo_inputs: expected at least 1, got 0")
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.clamp(0, 1))

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamps the points to [0, 1]."""
        self.pseudo_inputs.clamp_(0, 1)

    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> ComponentPoints:
        """All pseudo-inputs, with equal mixing weights."""
        m = len(self.pseudo_inputs)
        return ComponentPoints(_Clamped.apply(self.pseudo_inputs), self.pseudo_inputs.new_full((m,), 1 / m).log())

    def mixture(self, encoder: PointEncoder, features: Tensor, log_weights: Tensor) -> DiagonalMixture:
        """The mixture of the posteriors of the pseudo-inputs."""
        q = encoder.posterior(features)
        return DiagonalMixture(q.loc, q.scale, log_weights)


def build(data: Dataset, options: PriorOptions) -> VampPrior:
    """Builds the prior `vamp`, with random training examples plus noise of scale 0.01 as initial points."""
    points = initial_points(data, options.n_components)
    return VampPrior(points + 0.01 * torch.randn_like(points))
