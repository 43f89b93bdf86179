"""The exemplar prior: a mixture over the training items."""

import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.data.images import Dataset, Images, scale
from bype.distributions.mixtures import IsotropicMixture
from bype.priors.base import ComponentPoints, DataPrior, PointEncoder, PriorOptions, SharedScalePrior


class ExemplarPrior(SharedScalePrior, DataPrior):
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
        self._attach(images)
        self.cached_means: Tensor | None
        self.register_buffer("cached_means", None, persistent=False)

    def metadata(self) -> dict[str, Any]:
        """How many training items it is made of, and which."""
        return {"n_data": self.n_data, "training_items": _checksum(self._pixels_at, self.n_data, self.chunk)}

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if they are not its own, in its order: a batch leaves its own out by their places."""
        if images.pixels is self.pixels and images.rows is self.rows:
            return
        n = len(images)

        def own(index: slice) -> Tensor:
            return self._pixels_at(index).to(images.pixels.dtype)  # floats follow the model's

        same = n <= self.n_data and images.levels == self.levels
        if not same or _checksum(images.stored, n, self.chunk) != _checksum(own, n, self.chunk):
            raise ValueError(f"expected the {self.n_data} training items of the prior, got {n} others")

    @property
    def fixed_shapes(self) -> bool:
        """Not where the union of the retrieved points differs from step to step."""
        return self.retrieve is None

    def points_at(self, index: Tensor | slice) -> Tensor:
        """The training items at `index`, (n, c, h, w)."""
        return scale(self._pixels_at(index), self.levels, self.log_scale.dtype)

    def means(self, encoder: PointEncoder) -> Tensor:
        """The posterior means of all N points, (N, D), without a gradient."""
        return encoder.means(self.points_at(slice(i, i + self.chunk)) for i in range(0, self.n_data, self.chunk))

    def forward(self, encoder: PointEncoder) -> IsotropicMixture:
        """The mixture over all N points; the means carry no gradient."""
        loc = self.means(encoder)
        return IsotropicMixture(loc, self.log_scale.exp(), loc.new_full((self.n_data,), 1 / self.n_data).log())

    def begin_epoch(self, encoder: PointEncoder) -> None:
        """Encodes the training set for retrieval."""
        if self.retrieve is not None:
            self.cached_means = self.means(encoder)

    def step_points(self, index: Tensor | None = None, generator: torch.Generator | None = None) -> ComponentPoints:
        """n points drawn afresh (or those retrieved of them); each row of `index` leaves its own out."""
        drawn = torch.randperm(self.n_data, generator=generator, device=self.log_scale.device)[: self.n_exemplars]
        if index is None:
            return ComponentPoints(self.points_at(drawn), self.log_scale.new_full((len(drawn),), 1 / len(drawn)).log())
        own = index[:, None] == drawn  # (B, n)
        log_weights = -(len(drawn) - own.sum(1, keepdim=True, dtype=self.log_scale.dtype)).log().expand(own.shape)
        log_weights = log_weights.masked_fill(own, -torch.inf)
        if self.retrieve is not None and self.retrieve < len(drawn):
            nearest = self._nearest(index, drawn, own)
            drawn, log_weights = drawn[nearest], log_weights[:, nearest]
        return ComponentPoints(self.points_at(drawn), log_weights)

    def _nearest(self, index: Tensor, drawn: Tensor, own: Tensor) -> Tensor:
        """Positions in `drawn` of the union of each row's K nearest, its own point excepted."""
        if self.cached_means is None or self.retrieve is None:
            raise ValueError("Expected cached means to retrieve by: call `begin_epoch(encoder)` first.")
        # A row that was drawn itself has n - 1 candidates; its own then fills the K-th place at K = n.
        distances = torch.cdist(self.cached_means[index], self.cached_means[drawn]).masked_fill(own, torch.inf)
        return distances.topk(self.retrieve, largest=False).indices.unique()


def _checksum(stored: Callable[[slice], Tensor], n: int, chunk: int) -> str:
    """Of the first n stored images."""
    total = 0
    for start in range(0, n, chunk):
        part = stored(slice(start, min(n, start + chunk)))
        total = zlib.crc32(part.cpu().contiguous().numpy().data, total)
    return f"{total:08x}"


def build(data: Dataset, options: PriorOptions) -> ExemplarPrior:
    """The prior `exemplar`.

    Raises:
        InputError: If a number of exemplars does not fit the data.
    """
    n_exemplars = min(500, len(data.train) - 1) if options.exemplars is None else options.exemplars
    try:
        return ExemplarPrior(data.train, n_exemplars, options.retrieve)
    except ValueError as e:
        raise InputError(f"prior exemplar: {e}") from None
