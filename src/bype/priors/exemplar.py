"""The exemplar prior: a mixture over the training examples."""

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.sampling import random_subset
from bype.data.images import Dataset, Images, scale
from bype.distributions.mixtures import IsotropicMixture
from bype.distributions.retrieved import CachedMeans, RetrievedMixture
from bype.priors.base import ComponentPoints, DataPrior, PointEncoder, PriorOptions, SharedScalePrior


class ExemplarPrior(SharedScalePrior, DataPrior):
    r"""Mixture over the training examples.

    .. math:: p(z) = \frac{1}{N} \sum_{j=1}^N \mathcal{N}(z \mid \mu(x_j), \sigma^2 I)

    A training step samples n of the N examples without replacement. The prior of each row of the batch leaves out the
    row's own example and divides by the number of the others (leave-one-out).

    With `retrieve` = K a step encodes only few of the n: for each row, the K whose components have the largest density
    at its z, as a union over the batch. The other components stay in the density with means from the start of the
    epoch, which carry no gradient (`bype.distributions.retrieved.RetrievedMixture`): p(z) is approximated as far as the
    encoder has changed since then, and exact at K = n. The cost of a step grows by two products of the batch's latents
    with the n means, not by their encoding; the means of all N examples are computed once an epoch.

    Source: Exemplar VAE (Norouzi et al., 2020), https://arxiv.org/abs/2004.04795

    Args:
        images: The training set.
        n_exemplars: The number n of examples that a training step samples, 2 <= n <= N.
        retrieve: The number K of examples to encode per row, 1 <= K <= n; None for all n.

    Raises:
        ValueError: If `n_exemplars` or `retrieve` is out of range.
    """

    name = "exemplar"
    needs_items = True
    needs_rows = True
    # Chunk size for encoding all N examples.
    chunk = 2000

    def __init__(self, images: Images, n_exemplars: int, retrieve: int | None = None) -> None:
        super().__init__()
        if not 2 <= n_exemplars <= len(images):
            raise ValueError(f"n_exemplars: expected between 2 and N={len(images)}, got {n_exemplars}")
        if retrieve is not None and not 1 <= retrieve <= n_exemplars:
            raise ValueError(f"retrieve: expected between 1 and n_exemplars={n_exemplars}, got {retrieve}")
        self.n_exemplars, self.retrieve, self.n_data = n_exemplars, retrieve, len(images)
        self._attach(images)
        self.cached: CachedMeans | None = None

    def facts(self) -> list[tuple[str, object]]:
        """The number of components, and of the examples of a step."""
        retrieve = [] if self.retrieve is None else [("retrieve", self.retrieve)]
        return [*super().facts(), ("components", self.n_data), ("n_exemplars", self.n_exemplars), *retrieve]

    def metadata(self) -> dict[str, object]:
        """The number of training examples and a checksum of their stored values."""
        return {"n_data": self.n_data, "training_items": _checksum(self._pixels_at, self.n_data, self.chunk)}

    def check_items(self, images: Images) -> None:
        """Raises a ValueError if the images are not the prior's training examples, in the same order.

        Leave-one-out identifies an example by its row.
        """
        if images.pixels is self.pixels and images.rows is self.rows:
            return
        n = len(images)

        def stored(index: slice) -> Tensor:
            return self._pixels_at(index).to(images.pixels.dtype)  # a float buffer changes dtype with the model

        comparable = n <= self.n_data and images.levels == self.levels
        if not comparable or _checksum(images.stored, n, self.chunk) != _checksum(stored, n, self.chunk):
            raise ValueError(f"expected the {self.n_data} training items of the prior, got {n} others")

    @property
    def fixed_shapes(self) -> bool:
        """False with `retrieve`: the number of retrieved examples varies from step to step."""
        return self.retrieve is None

    def points_at(self, index: Tensor | slice) -> Tensor:
        """The training examples at `index`, (n, c, h, w)."""
        return scale(self._pixels_at(index), self.levels, self.log_scale.dtype)

    def means(self, encoder: PointEncoder) -> Tensor:
        """The posterior means of all N examples, (N, D), without a gradient."""
        return encoder.means(self.points_at(slice(i, i + self.chunk)) for i in range(0, self.n_data, self.chunk))

    def forward(self, encoder: PointEncoder) -> IsotropicMixture:
        """The mixture over all N examples; the means carry no gradient."""
        loc = self.means(encoder)
        return IsotropicMixture(loc, self.log_scale.exp(), loc.new_full((self.n_data,), 1 / self.n_data).log())

    def begin_epoch(self, encoder: PointEncoder) -> None:
        """Encodes the training set for retrieval."""
        if self.retrieve is not None:
            self.cached = CachedMeans.of(self.means(encoder))

    def step_points(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> ComponentPoints | None:
        """A new random sample of n examples; each row of `index` leaves its own out. None with retrieval."""
        if self._retrieves(index):
            return None
        rows = random_subset(self.n_data, self.n_exemplars, generator, self.log_scale.device)
        if index is None:
            return ComponentPoints(self.points_at(rows), self.log_scale.new_full((len(rows),), 1 / len(rows)).log())
        own = index[:, None] == rows  # (B, n)
        log_weights = -(len(rows) - own.sum(1, keepdim=True, dtype=self.log_scale.dtype)).log().expand(own.shape)
        return ComponentPoints(self.points_at(rows), log_weights.masked_fill(own, -torch.inf))

    def step_prior(
        self, encoder: PointEncoder, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> IsotropicMixture | RetrievedMixture:
        """The mixture of a step with retrieval, over n examples with cached means; without it, over all N."""
        if index is None or self.retrieve is None or not self._retrieves(index):
            return self(encoder)
        if self.cached is None:
            raise ValueError("retrieve: the posterior means are not cached; call `begin_epoch(encoder)` first")
        cached, own, rows = self.cached, index, None
        if self.n_exemplars < self.n_data:
            rows = random_subset(self.n_data, self.n_exemplars, generator, index.device)
            place = index.new_full((self.n_data,), -1)
            place[rows] = torch.arange(len(rows), device=index.device)
            cached, own = cached.at(rows), place[index]

        def encode(positions: Tensor) -> Tensor:
            return encoder.loc(encoder.features(self.points_at(positions if rows is None else rows[positions])))

        return RetrievedMixture(cached, self.log_scale.exp(), encode, self.retrieve, own, generator)

    def _retrieves(self, index: Tensor | None) -> bool:
        """Whether a step of these rows encodes only some of the n examples."""
        return index is not None and self.retrieve is not None and self.retrieve < self.n_exemplars


def _checksum(stored: Callable[[slice], Tensor], n: int, chunk: int) -> str:
    """CRC-32 of the first n stored images."""
    total = 0
    for start in range(0, n, chunk):
        part = stored(slice(start, min(n, start + chunk)))
        total = zlib.crc32(part.cpu().contiguous().numpy().data, total)
    return f"{total:08x}"


def build(data: Dataset, options: PriorOptions) -> ExemplarPrior:
    """Builds the prior `exemplar`; by default min(500, N - 1) examples are sampled per step.

    Raises:
        InputError: If `exemplars` or `retrieve` is out of range for the data.
    """
    n_exemplars = min(500, len(data.train) - 1) if options.exemplars is None else options.exemplars
    try:
        return ExemplarPrior(data.train, n_exemplars, options.retrieve)
    except ValueError as e:
        raise InputError(f"prior exemplar: {e}") from None
