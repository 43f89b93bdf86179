"""A prior fitted after training."""

import torch
from torch import Tensor

from bype.data.images import Images, scale
from bype.distributions.mixtures import IsotropicMixture
from bype.priors.base import DataPrior, PointEncoder


class FittedMixture(DataPrior):
    """A mixture fixed after training: components with means of their own and one sigma, for evaluation and sampling.

    Args:
        loc: The means, (K, D).
        log_weights: The log-shares, (K,), normalised.
        log_scale: log sigma, a scalar.
        images: The training set, where the components are training items.
        items: The rows of it that they are, (K,).
    """

    def __init__(
        self,
        loc: Tensor,
        log_weights: Tensor,
        log_scale: Tensor,
        images: Images | None = None,
        items: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.loc: Tensor
        self.log_weights: Tensor
        self.log_scale: Tensor
        self.register_buffer("loc", loc)
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("log_scale", log_scale)
        self._attach(images)
        self.items: Tensor | None
        self.register_buffer("items", items, persistent=False)

    def forward(self, encoder: PointEncoder) -> IsotropicMixture:
        """The mixture, whatever the encoder."""
        return IsotropicMixture(self.loc, self.log_scale.exp(), self.log_weights)

    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """No points: the mixture is not made of the encoder's features any more."""
        return

    def mixture(self, encoder: PointEncoder, features: Tensor, log_weights: Tensor) -> IsotropicMixture:
        """The mixture, whatever the features."""
        return self(encoder)

    def points_at(self, index: Tensor) -> Tensor | None:
        """The training items behind the components at `index`; None for components found by EM."""
        if self.pixels is None or self.items is None:
            return None
        return scale(self._pixels_at(self.items[index]), self.levels, self.loc.dtype)
