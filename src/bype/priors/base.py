"""The interface of a prior, and base classes shared by several priors."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.core.display import SHOWN, Card, Described, Strip
from bype.core.names import CUSTOM
from bype.core.numbers import readable
from bype.data.images import Images
from bype.distributions.mixtures import IsotropicMixture
from bype.distributions.normal import DiagonalNormal


class PointEncoder(Protocol):
    """The part of an encoder that a prior needs; `bype.networks.Encoder` has it."""

    def features(self, x: Tensor, /) -> Tensor:
        """Maps images (n, c, h, w) to features (n, F)."""

    def loc(self, features: Tensor, /) -> Tensor:
        """The posterior means from features, (n, D)."""

    def posterior(self, features: Tensor, /) -> DiagonalNormal:
        """q(z|x) from features, batch shape (n,)."""

    def means(self, batches: Iterable[Tensor], /) -> Tensor:
        """The posterior means for batches of images, (n, D), without a gradient."""


class ComponentPoints(NamedTuple):
    """The images that become the components of a mixture, and their log mixing weights."""

    images: Tensor  # (M, c, h, w), in [0, 1]
    log_weights: Tensor  # (M,), or (B, M) if each row of the batch has its own


#: The former name.
Points = ComponentPoints


@dataclass(frozen=True)
class PriorOptions:
    """The options of a run that a prior may use; None selects a default from the size of the data."""

    latent_dim: int = 40
    n_components: int | None = None
    exemplars: int | None = None
    retrieve: int | None = None
    coreset: str = "paper"


class WeightedPoints(Protocol):
    """A pseudocoreset: the points and weights that step (ii) updates in place."""

    pseudo_inputs: Tensor  # U, (M, c, h, w)
    weights: Tensor  # w, (M,), summing to n_data
    n_data: int  # N
    coreset: str  # the name of its strategy

    @property
    def learned(self) -> bool:
        """Whether U and w are parameters, updated in every network step."""


class Prior(nn.Module, Described, ABC):
    """The interface of every prior."""

    #: Its name among the registered priors.
    name: str = CUSTOM
    #: Whether `step_points` returns the same points in the same order at every step, so that features can be cached.
    keeps_points = False
    #: Whether p(z) depends on training items, which are not saved: a model is then loaded together with its data.
    needs_items = False
    #: Whether a training step needs the rows of its batch in the training set.
    needs_rows = False
    #: Entries of `metadata()` that are restored on load; all others must match.
    restored_metadata: tuple[str, ...] = ()

    @property
    def fixed_shapes(self) -> bool:
        """Whether all training steps have tensors of the same shapes, which a CUDA graph requires."""
        return True

    @abstractmethod
    def forward(self, encoder: PointEncoder) -> Distribution:
        """Returns p(z) for evaluation and sampling, event shape (D,)."""

    @abstractmethod
    def step_points(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> ComponentPoints | None:
        """The points to encode for the p(z) of a training step, or None if it does not encode them with the batch.

        `mixture` then makes p(z) of their features; after None, `step_prior` returns it.

        Args:
            index: The rows of the batch in the training set, (B,), for priors made of training examples.
            generator: The generator of random choices.
        """

    @abstractmethod
    def mixture(self, encoder: PointEncoder, features: Tensor, log_weights: Tensor) -> Distribution:
        """Returns p(z) with components computed from the encoder's features of the points, (M, F)."""

    def step_prior(
        self, encoder: PointEncoder, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Distribution:
        """The p(z) of a training step without points to encode with the batch; by default that of evaluation.

        Args:
            encoder: The encoder.
            index: The rows of the batch in the training set, (B,), for priors made of training examples.
            generator: The generator of random choices.
        """
        return self(encoder)

    def points_at(self, index: Tensor) -> Tensor | None:
        """The images of the components at `index`, (n, c, h, w); None if components are not made from images."""
        return None

    def facts(self) -> list[tuple[str, object]]:
        """Names and values that a repr shows."""
        return []

    def extra_repr(self) -> str:
        """The same on one line, for the repr of a module."""
        return ", ".join(f"{name}={value}" for name, value in self.facts())

    def shown_points(self) -> Strip | None:
        """The images that a notebook shows of the prior; None if it has none."""
        return None

    def card(self) -> Card:
        """What a notebook shows of the prior."""
        return Card(type(self).__name__, self.facts(), self.shown_points())

    @property
    def lacks_items(self) -> bool:
        """Whether `points_at` would show training items, which the prior was loaded without (see `attach_items`)."""
        return False

    def attach_items(self, images: Images) -> None:
        """Gives the prior the training items that `points_at` shows, if it was loaded without them."""

    @property
    def pseudocoreset(self) -> WeightedPoints | None:
        """The weighted points that step (ii) updates; None if the prior has none."""
        return None

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters with their own learning rate, and that rate; all others use the rate of the networks."""
        return []

    def metadata(self) -> dict[str, object]:
        """JSON values that p(z) depends on besides the tensors of its `state_dict`."""
        return {}

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if the prior cannot be trained on these images."""

    def begin_epoch(self, encoder: PointEncoder) -> None:
        """Hook called before each training epoch."""

    def after_step(self) -> None:
        """Hook called after each optimiser step."""


class PointPrior(Prior):
    """Base of priors with a fixed number of points, the same in training and evaluation."""

    keeps_points = True

    @abstractmethod
    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> ComponentPoints:
        """All points."""

    def forward(self, encoder: PointEncoder) -> Distribution:
        """The mixture over all points."""
        points = self.step_points()
        return self.mixture(encoder, encoder.features(points.images), points.log_weights)

    def points_at(self, index: Tensor) -> Tensor:
        """The points at `index`, (n, c, h, w)."""
        return self.step_points().images[index].detach()

    def facts(self) -> list[tuple[str, object]]:
        """The number of components."""
        return [*super().facts(), ("components", len(self.step_points().images))]

    def shown_points(self) -> Strip | None:
        """The points of largest weight."""
        points = self.step_points()
        if points.images.shape[2] == 1:  # rows of a table
            return None
        chosen = points.log_weights.detach().argsort(descending=True, stable=True)[:SHOWN]
        return Strip(points.images[chosen].detach().float().cpu().numpy(), "points of the largest weights")


class SharedScalePrior(Prior):
    """Base of priors with components N(mu(point), sigma^2 I); sigma is one parameter, initially 1 (Eq. 11)."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def facts(self) -> list[tuple[str, object]]:
        """The scale sigma of the components."""
        return [*super().facts(), ("sigma", readable(self.log_scale.exp().item()))]

    def mixture(self, encoder: PointEncoder, features: Tensor, log_weights: Tensor) -> IsotropicMixture:
        """The isotropic mixture around the posterior means of the points."""
        return IsotropicMixture(encoder.loc(features), self.log_scale.exp(), log_weights)


class DataPrior(Prior):
    """Base of priors that hold the training examples: stored values shared with the data set, not saved."""

    def _attach(self, images: Images | None) -> None:
        self.levels = None if images is None else images.levels
        self.pixels: Tensor | None
        self.rows: Tensor | None
        self.register_buffer("pixels", None if images is None else images.pixels, persistent=False)
        self.register_buffer("rows", None if images is None else images.rows, persistent=False)

    def _pixels_at(self, index: Tensor | slice) -> Tensor:
        """The stored values of the training examples at `index`, (n, c, h, w)."""
        assert self.pixels is not None
        return self.pixels[index if self.rows is None else self.rows[index]]
