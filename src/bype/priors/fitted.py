"""A prior fitted after training."""

import torch
from torch import Tensor

from bype.core.numbers import readable
from bype.data.images import Images, scale
from bype.distributions.mixtures import IsotropicMixture
from bype.priors.base import DataPrior, PointEncoder


class FittedMixture(DataPrior):
    """A mixture fixed after training, for evaluation and sampling: stored means and one sigma.

    Args:
        loc: The means, (K, D).
        log_weights: The log mixing weights, (K,), normalised.
        log_scale: log sigma, a scalar.
        images: The training set, if the components are training examples.
        items: The rows of the components in the training set, (K,).
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
        """The mixture; the encoder is ignored."""
        return IsotropicMixture(self.loc, self.log_scale.exp(), self.log_weights)

    def facts(self) -> list[tuple[str, object]]:
        """The number of components and their scale."""
        return [("components", len(self.loc)), ("sigma", readable(self.log_scale.exp().item()))]

    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """None: the mixture does not depend on the encoder."""
        return

    def mixture(self, encoder: PointEncoder, features: Tensor, log_weights: Tensor) -> IsotropicMixture:
        """The mixture; the features are ignored."""
        return self(encoder)

    @property
    def lacks_items(self) -> bool:
        """Whether the components are training examples that are missing."""
        return self.items is not None and self.pixels is None

    def attach_items(self, images: Images) -> None:
        """Gives the prior the training set, of which `items` are rows.

        Raises:
            ValueError: If the set has no such rows.
        """
        if self.items is None:
            return
        if len(self.items) and not 0 <= int(self.items.min()) <= int(self.items.max()) < len(images):
            raise ValueError(f"items: expected rows of the {len(images)} training examples")
        self._attach(images)

    def points_at(self, index: Tensor) -> Tensor | None:
        """The training examples of the components at `index`, (n, c, h, w); None for components fitted by EM."""
        if self.pixels is None or self.items is None:
            return None
        return scale(self._pixels_at(self.items[index]), self.levels, self.loc.dtype)
