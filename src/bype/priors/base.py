"""The interface of a prior, and what several priors share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.data.images import Images
from bype.distributions.mixtures import IsotropicMixture
from bype.distributions.normal import DiagonalNormal


class PointEncoder(Protocol):
    """The part of an encoder that a prior needs; `bype.networks.Encoder` has it."""

    def features(self, x: Tensor, /) -> Tensor:
        """Images (n, c, h, w) to features (n, F)."""

    def loc(self, features: Tensor, /) -> Tensor:
        """The posterior means of features, (n, D)."""

    def posterior(self, features: Tensor, /) -> DiagonalNormal:
        """q(z|x) of features, batch shape (n,)."""

    def means(self, batches: Iterable[Tensor], /) -> Tensor:
        """The posterior means of batches of images, (n, D), without a gradient."""


class ComponentPoints(NamedTuple):
    """The images that become a mixture's components, and their log-weights."""

    images: Tensor  # (M, c, h, w), in [0, 1]
    log_weights: Tensor  # (M,), or (B, M) where each row of the batch has its own


#: The former name.
Points = ComponentPoints


@dataclass(frozen=True)
class PriorOptions:
    """The options of a run that a prior may use; None means: by the size of the data."""

    latent_dim: int = 40
    n_components: int | None = None
    exemplars: int | None = None
    retrieve: int | None = None
    coreset: str = "paper"


class WeightedPoints(Protocol):
    """A pseudocoreset: what step (ii) moves, in place."""

    pseudo_inputs: Tensor  # U, (M, c, h, w)
    weights: Tensor  # w, (M,), summing to n_data
    n_data: int  # N
    coreset: str  # the name of its strategy

    @property
    def learned(self) -> bool:
        """Whether U and w are parameters that every network step moves."""


class Prior(nn.Module, ABC):
    """The interface of every prior."""

    #: Whether `step_points` returns the same points in the same order at every step, so that features can be cached.
    keeps_points = False
    #: Entries of `metadata()` that are restored on load; all others must match.
    restored_metadata: tuple[str, ...] = ()

    @property
    def fixed_shapes(self) -> bool:
        """Whether every training step has tensors of the same shapes, as a recorded step must."""
        return True

    @abstractmethod
    def forward(self, encoder: PointEncoder) -> Distribution:
        """Returns p(z) as it is evaluated and sampled, event shape (D,)."""

    @abstractmethod
    def step_points(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> ComponentPoints | None:
        """The points that a training step's p(z) needs encoded, or None.

        Args:
            index: The rows of the training set that the batch holds, (B,), for priors made of training items.
            generator: Where random choices come from.
        """

    @abstractmethod
    def mixture(self, encoder: PointEncoder, features: Tensor, log_weights: Tensor) -> Distribution:
        """p(z) with components made of the encoder's features (M, F) of the points."""

    def points_at(self, index: Tensor) -> Tensor | None:
        """The images behind the components at `index`, (n, c, h, w); None where components are not made of images."""
        return None

    @property
    def pseudocoreset(self) -> WeightedPoints | None:
        """The weighted points that step (ii) moves; None where there are none."""
        return None

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters that have a learning rate of their own, and that rate; the others have the networks' rate."""
        return []

    def metadata(self) -> dict[str, Any]:
        """What p(z) depends on beside the tensors of its `state_dict`, as JSON can hold it."""
        return {}

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if the prior cannot be trained on these items."""

    def begin_epoch(self, encoder: PointEncoder) -> None:
        """Called before each epoch of training."""

    def after_step(self) -> None:
        """Called after each step of the optimiser."""


class PointPrior(Prior):
    """A prior whose components are a fixed number of points, the same in training and evaluation."""

    keeps_points = True

    @abstractmethod
    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> ComponentPoints:
        """All the points."""

    def forward(self, encoder: PointEncoder) -> Distribution:
        """The mixture over all the points."""
        points = self.step_points()
        return self.mixture(encoder, encoder.features(points.images), points.log_weights)

    def points_at(self, index: Tensor) -> Tensor:
        """The points at `index`, (n, c, h, w)."""
        return self.step_points().images[index].detach()


class SharedScalePrior(Prior):
    """Components N(mu(point), sigma^2 I) with one sigma, a parameter that starts at 1 (Eq. 11)."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def mixture(self, encoder: PointEncoder, features: Tensor, log_weights: Tensor) -> IsotropicMixture:
        """The isotropic mixture about the points' posterior means."""
        return IsotropicMixture(encoder.loc(features), self.log_scale.exp(), log_weights)


class DataPrior(Prior):
    """A prior that knows the training items: their stored values, shared with the data set and not saved with it."""

    def _attach(self, images: Images | None) -> None:
        self.levels = None if images is None else images.levels
        self.pixels: Tensor | None
        self.rows: Tensor | None
        self.register_buffer("pixels", None if images is None else images.pixels, persistent=False)
        self.register_buffer("rows", None if images is None else images.rows, persistent=False)

    def _pixels_at(self, index: Tensor | slice) -> Tensor:
        """The stored values of the training items at `index`, (n, c, h, w)."""
        assert self.pixels is not None
        return self.pixels[index if self.rows is None else self.rows[index]]
