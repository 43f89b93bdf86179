"""Priors over the latent z: a standard normal, and mixtures whose components are encoded points.

A prior is a module; calling it with an encoder returns p(z), a distribution with event shape (D,). The encoder is an
argument, so that the model alone owns it. For a training step the prior first says which points it wants encoded
(`draw`), the model encodes them together with its batch, and the prior makes p(z) of their features (`mixture`).
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.conditionals.base import Encoder
from bype.config import CORESETS
from bype.data import Images, scale
from bype.distributions import DiagonalMixture, DiagonalNormal, IsotropicMixture


class Points(NamedTuple):
    """Points that become a mixture's components, and their log-shares."""

    images: Tensor  # (M, c, h, w), in [0, 1]
    log_weights: Tensor  # (M,), or (B, M) where each row of the batch has shares of its own


class Prior(nn.Module, ABC):
    """The interface of every prior."""

    #: Whether `draw` gives the same points, in the same order, at every step, so that their features can be kept.
    keeps_points = False
    #: Which of its `facts` a saved prior brings along, as attributes; in the others a model that loads it must agree.
    brought_facts: tuple[str, ...] = ()

    @property
    def fixed_shapes(self) -> bool:
        """Whether every training step has tensors of the same shapes, as a recorded step must."""
        return True

    @abstractmethod
    def forward(self, encoder: Encoder) -> Distribution:
        """Returns p(z) as it is evaluated and sampled, event shape (D,)."""

    @abstractmethod
    def draw(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> Points | None:
        """The points that a training step's p(z) needs encoded, or None.

        Args:
            index: The rows of the training set that the batch holds, (B,), for priors made of training items.
            generator: Where random choices come from.
        """

    @abstractmethod
    def mixture(self, encoder: Encoder, features: Tensor, log_weights: Tensor) -> Distribution:
        """p(z) with components made of the encoder's features (M, F) of the points."""

    def points_at(self, index: Tensor) -> Tensor | None:
        """The images behind the components at `index`, (n, c, h, w); None where components are not made of images."""
        return None

    def facts(self) -> dict[str, Any]:
        """What p(z) depends on beside the tensors of its `state_dict`, as JSON can hold it."""
        return {}

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if the prior cannot be trained on these items."""

    def begin_epoch(self, encoder: Encoder) -> None:
        """Called before each epoch of training."""

    def after_step(self) -> None:
        """Called after each step of the optimiser."""


class StandardPrior(Prior):
    r"""The standard normal, :math:`p(z) = \mathcal{N}(0, I)`.

    Args:
        latent_dim: The dimension D.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc: Tensor
        self.register_buffer("loc", torch.zeros(latent_dim), persistent=False)

    def forward(self, encoder: Encoder) -> DiagonalNormal:
        """N(0, I)."""
        return DiagonalNormal(self.loc, torch.ones_like(self.loc))

    def draw(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """No points."""
        return

    def mixture(self, encoder: Encoder, features: Tensor, log_weights: Tensor) -> DiagonalNormal:
        """N(0, I), whatever the features."""
        return self(encoder)


class _PointPrior(Prior):
    """A prior whose components are a fixed number of points, the same in training and evaluation."""

    keeps_points = True

    @abstractmethod
    def draw(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> Points:
        """All the points."""

    def forward(self, encoder: Encoder) -> Distribution:
        """The mixture over all the points."""
        points = self.draw()
        return self.mixture(encoder, encoder.features(points.images), points.log_weights)

    def points_at(self, index: Tensor) -> Tensor:
        """The points at `index`, (n, c, h, w)."""
        return self.draw().images[index].detach()


class VampPrior(_PointPrior):
    r"""Variational mixture of posteriors, over pseudo-inputs moved by the gradient of the objective.

    .. math:: p(z) = \frac{1}{M} \sum_{m=1}^M \mathcal{N}(z \mid \mu(u_m), \mathrm{diag}\,v(u_m))

    The points are kept in [0, 1], at the start and after each step, so that each of their values goes on learning: a
    clamp where they are used alone gives no gradient to a value beyond it, which then stays there.

    Source: VAE with a VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120

    Args:
        pseudo_inputs: The initial points u_m, shape (M, c, h, w); clamped to [0, 1].

    Raises:
        ValueError: If there is no pseudo-input.
    """

    def __init__(self, pseudo_inputs: Tensor) -> None:
        super().__init__()
        if not len(pseudo_inputs):
            raise ValueError("Expected at least one pseudo-input, but got none.")
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.clamp(0, 1))

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamps the points to [0, 1]."""
        self.pseudo_inputs.clamp_(0, 1)

    def draw(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> Points:
        """All pseudo-inputs, equal shares."""
        m = len(self.pseudo_inputs)
        return Points(self.pseudo_inputs.clamp(0, 1), self.pseudo_inputs.new_full((m,), 1 / m).log())

    def mixture(self, encoder: Encoder, features: Tensor, log_weights: Tensor) -> DiagonalMixture:
        """The mixture of the points' posteriors."""
        q = encoder.posterior(features)
        return DiagonalMixture(q.loc, q.scale, log_weights)


class _SharedVariance(Prior):
    """Components N(mu(point), sigma^2 I) with one sigma, a parameter that starts at 1 (Eq. 11)."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def mixture(self, encoder: Encoder, features: Tensor, log_weights: Tensor) -> IsotropicMixture:
        """The isotropic mixture about the points' posterior means."""
        return IsotropicMixture(encoder.loc(features), self.log_scale.exp(), log_weights)


class PseudocoresetPrior(_SharedVariance, _PointPrior):
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

    brought_facts = ("n_data",)  # the weights go on to stand for the items they stood for

    def __init__(self, pseudo_inputs: Tensor, n_data: int, *, coreset: str = "paper") -> None:
        super().__init__()
        m = len(pseudo_inputs)
        if not 1 <= m <= n_data:
            raise ValueError(f"Expected between 1 and n_data={n_data} pseudo-inputs, but got {m}.")
        if coreset not in CORESETS:
            raise ValueError(f"Expected `coreset` to be one of {', '.join(CORESETS)}, but got {coreset!r}.")
        self.n_data, self.coreset = n_data, coreset
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
        return self.coreset == "elbo"

    def draw(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> Points:
        """All pseudo-points, with the shares w/N."""
        if self.learned:
            return Points(self.pseudo_inputs, self.log_weights.log_softmax(0))
        return Points(self.pseudo_inputs, (self.weights / self.n_data).log())

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if they are more than the weights stand for."""
        if len(images) > self.n_data:
            raise ValueError(f"expected the {self.n_data} training items of the prior, got {len(images)}")

    def facts(self) -> dict[str, Any]:
        """What the weights sum to."""
        return {"n_data": self.n_data}

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamps learned points to [0, 1] and lets `weights` follow."""
        if self.learned:
            self.pseudo_inputs.clamp_(0, 1)
            self.weights.copy_(self.n_data * self.log_weights.softmax(0))


class _ItemPrior(Prior):
    """A prior that knows the training items: their stored values, shared with the data set and not saved with it."""

    def _know(self, images: Images | None) -> None:
        self.levels = None if images is None else images.levels
        self.pixels: Tensor | None
        self.rows: Tensor | None
        self.register_buffer("pixels", None if images is None else images.pixels, persistent=False)
        self.register_buffer("rows", None if images is None else images.rows, persistent=False)

    def _stored(self, index: Tensor | slice) -> Tensor:
        """The stored values of the training items at `index`, (n, c, h, w)."""
        assert self.pixels is not None
        return self.pixels[index if self.rows is None else self.rows[index]]


class ExemplarPrior(_SharedVariance, _ItemPrior):
    r"""Mixture over training points themselves.

    .. math:: p(z) = \frac{1}{N} \sum_{j=1}^N \mathcal{N}(z \mid \mu(x_j), \sigma^2 I)

    A training step draws n of the N points without replacement. Each row of the batch then sees the mixture over the
    drawn points without its own, the count corrected. With `retrieve` = K the components are, of the n drawn, the
    union over the batch of each row's K nearest by cached mean; what is left out keeps its share of the count, so
    that the density is a lower bound, exact at K = n. The cache is made anew at the start of every epoch.

    Source: Exemplar VAE (Norouzi et al., 2020), https://arxiv.org/abs/2004.04795

    Args:
        images: The training set.
        n_exemplars: How many points n a training step draws, 2 <= n <= N.
        retrieve: How many nearest of them each row asks for, 1 <= K <= n; None for all.

    Raises:
        ValueError: If `n_exemplars` or `retrieve` is out of range.
    """

    # Points encoded at once for an evaluation over all N.
    chunk = 2000

    def __init__(self, images: Images, n_exemplars: int, retrieve: int | None = None) -> None:
        super().__init__()
        if not 2 <= n_exemplars <= len(images):
            raise ValueError(f"Expected between 2 and N={len(images)} exemplars a step, but got {n_exemplars}.")
        if retrieve is not None and not 1 <= retrieve <= n_exemplars:
            raise ValueError(f"Expected `retrieve` between 1 and n_exemplars={n_exemplars}, but got {retrieve}.")
        self.n_exemplars, self.retrieve, self.n_data = n_exemplars, retrieve, len(images)
        self._know(images)
        self.cached_means: Tensor | None
        self.register_buffer("cached_means", None, persistent=False)

    def facts(self) -> dict[str, Any]:
        """How many training items it is made of, and which."""
        return {"n_data": self.n_data, "training_items": _checksum(self._stored, self.n_data, self.chunk)}

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if they are not its own, in its order: a batch leaves its own out by their places."""
        if images.pixels is self.pixels and images.rows is self.rows:
            return
        n = len(images)

        def own(index: slice) -> Tensor:
            return self._stored(index).to(images.pixels.dtype)  # floats follow the model's

        same = n <= self.n_data and images.levels == self.levels
        if not same or _checksum(images.stored, n, self.chunk) != _checksum(own, n, self.chunk):
            raise ValueError(f"expected the {self.n_data} training items of the prior, got {n} others")

    @property
    def fixed_shapes(self) -> bool:
        """Not where the union of the retrieved points differs from step to step."""
        return self.retrieve is None

    def points_at(self, index: Tensor | slice) -> Tensor:
        """The training items at `index`, (n, c, h, w)."""
        return scale(self._stored(index), self.levels, self.log_scale.dtype)

    def means(self, encoder: Encoder) -> Tensor:
        """The posterior means of all N points, (N, D), without a gradient."""
        return encoder.means(self.points_at(slice(i, i + self.chunk)) for i in range(0, self.n_data, self.chunk))

    def forward(self, encoder: Encoder) -> IsotropicMixture:
        """The mixture over all N points; the means carry no gradient."""
        loc = self.means(encoder)
        return IsotropicMixture(loc, self.log_scale.exp(), loc.new_full((self.n_data,), 1 / self.n_data).log())

    def begin_epoch(self, encoder: Encoder) -> None:
        """Encodes the training set for retrieval."""
        if self.retrieve is not None:
            self.cached_means = self.means(encoder)

    def draw(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> Points:
        """n points drawn afresh (or those retrieved of them); each row of `index` leaves its own out."""
        drawn = torch.randperm(self.n_data, generator=generator, device=self.log_scale.device)[: self.n_exemplars]
        if index is None:
            return Points(self.points_at(drawn), self.log_scale.new_full((len(drawn),), 1 / len(drawn)).log())
        own = index[:, None] == drawn  # (B, n)
        log_weights = -(len(drawn) - own.sum(1, keepdim=True, dtype=self.log_scale.dtype)).log().expand(own.shape)
        log_weights = log_weights.masked_fill(own, -torch.inf)
        if self.retrieve is not None and self.retrieve < len(drawn):
            nearest = self._nearest(index, drawn, own)
            drawn, log_weights = drawn[nearest], log_weights[:, nearest]
        return Points(self.points_at(drawn), log_weights)

    def _nearest(self, index: Tensor, drawn: Tensor, own: Tensor) -> Tensor:
        """Positions in `drawn` of the union of each row's K nearest, its own point excepted."""
        if self.cached_means is None or self.retrieve is None:
            raise ValueError("Expected cached means to retrieve by: call `begin_epoch(encoder)` first.")
        # A row that was drawn itself has n - 1 candidates; its own then fills the K-th place at K = n.
        distances = torch.cdist(self.cached_means[index], self.cached_means[drawn]).masked_fill(own, torch.inf)
        return distances.topk(self.retrieve, largest=False).indices.unique()


class FittedMixture(_ItemPrior):
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
        self._know(images)
        self.items: Tensor | None
        self.register_buffer("items", items, persistent=False)

    def forward(self, encoder: Encoder) -> IsotropicMixture:
        """The mixture, whatever the encoder."""
        return IsotropicMixture(self.loc, self.log_scale.exp(), self.log_weights)

    def draw(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """No points: the mixture is not made of the encoder's features any more."""
        return

    def mixture(self, encoder: Encoder, features: Tensor, log_weights: Tensor) -> IsotropicMixture:
        """The mixture, whatever the features."""
        return self(encoder)

    def points_at(self, index: Tensor) -> Tensor | None:
        """The training items behind the components at `index`; None for components found by EM."""
        if self.pixels is None or self.items is None:
            return None
        return scale(self._stored(self.items[index]), self.levels, self.loc.dtype)


def _checksum(stored: Callable[[slice], Tensor], n: int, chunk: int) -> str:
    """Of the first n stored images."""
    total = 0
    for start in range(0, n, chunk):
        part = stored(slice(start, min(n, start + chunk)))
        total = zlib.crc32(part.cpu().contiguous().numpy().data, total)
    return f"{total:08x}"
