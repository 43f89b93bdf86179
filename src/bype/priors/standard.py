"""The standard normal prior."""

import torch
from torch import Tensor

from bype.data.images import Dataset
from bype.distributions.normal import DiagonalNormal
from bype.priors.base import PointEncoder, Prior, PriorOptions


class StandardPrior(Prior):
    r"""The standard normal, :math:`p(z) = \mathcal{N}(0, I)`.

    Args:
        latent_dim: The dimension D of z.
    """

    name = "standard"

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc: Tensor
        self.register_buffer("loc", torch.zeros(latent_dim), persistent=False)

    def forward(self, encoder: PointEncoder) -> DiagonalNormal:
        """N(0, I)."""
        return DiagonalNormal(self.loc, torch.ones_like(self.loc))

    def facts(self) -> list[tuple[str, object]]:
        """The dimension."""
        return [("latent_dim", len(self.loc))]

    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """None: the prior has no points."""
        return

    def mixture(self, encoder: PointEncoder, features: Tensor, log_weights: Tensor) -> DiagonalNormal:
        """N(0, I); the features are ignored."""
        return self(encoder)


def build(data: Dataset, options: PriorOptions) -> StandardPrior:
    """Builds the prior `standard`."""
    return StandardPrior(options.latent_dim)
