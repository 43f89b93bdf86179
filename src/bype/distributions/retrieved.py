"""A mixture over many components with cached means, of which the most probable ones are computed again."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from bype.core.precision import product_precision
from bype.distributions.affine import LOG2_E
from bype.distributions.base import LOG_2PI, Event
from bype.distributions.mixtures import IsotropicMixture

#: Log-densities in one tile, (B, components); on a CPU it stays in the cache.
TILE_TERMS = {"cpu": 2**18, "cuda": 2**24}
#: Components per block: the K largest of all are among the elements of the K blocks with the largest maxima.
BLOCK = 16
#: The number of blocks in a tile is a multiple of this: a CPU's vectors.
BLOCKS = 32
#: By how many bits a row's largest term may exceed the shift: float32 ends at 2^127.
MAX_BITS = 80.0
#: From this many components on, on a CPU, the gradient of those that are not retrieved is estimated from one tile in
#: `SAMPLED` of them.
ESTIMATED_FROM, SAMPLED = 2**14, 8
#: Units of rounding of a sum of terms.
ROUNDING = 8


class CachedMeans(NamedTuple):
    """Means of components that carry no gradient, centred so that their squares keep their digits."""

    centre: Tensor  # (D,)
    loc: Tensor  # minus the centre, (n, D)
    squares: Tensor  # |loc|^2, (n,)

    @classmethod
    def of(cls, means: Tensor) -> Self:
        """Centres means (n, D) on their average."""
        centre = means.mean(0)
        loc = means - centre
        return cls(centre, loc, loc.square().sum(1))

    def __len__(self) -> int:
        return len(self.loc)

    def at(self, index: Tensor) -> "CachedMeans":
        """The means at `index`, with the same centre."""
        return CachedMeans(self.centre, self.loc[index], self.squares[index])


class RetrievedMixture(Event):
    r"""Mixture of n normals with one shared variance, for the latents of one training step.

    .. math:: p(z_b) = \frac{1}{n_b} \Big( \sum_{m \in R} \mathcal{N}(z_b \mid \mu(x_m), \sigma^2 I) +
        \sum_{j \notin R} \mathcal{N}(z_b \mid \bar\mu_j, \sigma^2 I) \Big)

    :math:`\bar\mu` are cached means. R is the union over the batch of each row's K components with the largest density
    at its z by cached means; their means are computed again, with a gradient. A row's own component is in neither sum,
    and :math:`n_b` counts the others.

    Approximated are the means outside R, which are those of the last cache and carry no gradient. The value is exact
    for these means. So is the gradient with respect to z and sigma, but on a CPU from 16,384 components on: the part of
    the components outside R in it is then estimated without bias, from an eighth of them chosen at random.

    Args:
        cached: The n cached means.
        scale: The standard deviation sigma, a scalar tensor.
        encode: Returns the means of the components at given positions, (m,), with their gradient, (m, D).
        k: The number K of components retrieved per row.
        own: The position of each row's own component, (B,); -1 where it is not among the n.
        generator: The generator of the choice of that eighth.
    """

    has_rsample = False

    def __init__(
        self,
        cached: CachedMeans,
        scale: Tensor,
        encode: Callable[[Tensor], Tensor],
        k: int,
        own: Tensor,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(own.shape, cached.centre.shape)
        self.cached, self.scale, self.encode = cached, scale, encode
        self.k, self.own, self.generator = k, own, generator

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, (\\*samples, B), for latents of each row, (\\*samples, B, D).

        Each sample retrieves its own components.
        """
        if value.dim() > 2:
            return torch.stack([self.log_prob(latents) for latents in value])
        n, own, part = len(self.cached), self.own, self._part()
        with torch.no_grad(), torch.autocast(value.device.type, enabled=False), product_precision(tf32=False):
            scan = _Scan(value - self.cached.centre, self.cached, self.scale, own, part)
            retrieved = scan.largest(self.k)
        log_count = (n - (own >= 0).to(value.dtype)).log()
        weights = (-log_count).unsqueeze(1).expand(-1, len(retrieved))
        weights = weights.masked_fill(own.unsqueeze(1) == retrieved, -torch.inf)
        fresh = IsotropicMixture(self.encode(retrieved), self.scale, weights).log_prob(value)
        if len(retrieved) == n:
            return fresh
        with torch.no_grad(), torch.autocast(value.device.type, enabled=False), product_precision(tf32=False):
            others = scan.without(retrieved)
        return torch.logaddexp(fresh, _Others.apply(value - self.cached.centre, self.scale, *others) - log_count)

    def _part(self) -> int | None:
        """Which of `SAMPLED` interleaved parts of the tiles the gradient is estimated from; None for all."""
        if self.cached.loc.is_cuda or len(self.cached) < ESTIMATED_FROM:
            return None
        return int(torch.randint(SAMPLED, (), generator=self.generator))


def _padded(count: int) -> int:
    """The columns of a tile for that many components."""
    return -(-count // (BLOCK * BLOCKS)) * BLOCK * BLOCKS


class _Sums(NamedTuple):
    """Sums over components j of 2^(l_j - shift), with l_j the log-density in bits without its common terms."""

    shift: Tensor  # (B,)
    total: Tensor  # of 1, (B,)
    means: Tensor  # of mu_j, (B, D)
    squares: Tensor  # of |mu_j|^2, (B,)


class _Scan:
    """One pass over the components in tiles: their sums, and the maxima of their blocks.

    Args:
        z: Latents, (B, D), centred as the means are.
        cached: The cached means.
        scale: sigma.
        own: The position of the component that each row leaves out, (B,); -1 for none.
        part: As `RetrievedMixture._part` returns it.
    """

    def __init__(self, z: Tensor, cached: CachedMeans, scale: Tensor, own: Tensor, part: int | None) -> None:
        self.loc, self.squares, self.own, self.part = cached.loc, cached.squares, own, part
        self.slopes = z * (LOG2_E / scale.square())  # in bits: exp2 is the faster on a CPU
        self.constants = self.squares * (-0.5 * LOG2_E / scale.square())
        # The largest terms are differences of numbers as large as |z|^2/sigma^2.
        self.rounding = torch.finfo(z.dtype).eps * (ROUNDING + (self.slopes * z).sum(1))
        unit = BLOCK * BLOCKS
        self.width = max(1, TILE_TERMS.get(z.device.type, TILE_TERMS["cpu"]) // len(z) // unit) * unit
        tiles = -(-len(self.loc) // self.width)
        places = torch.where(own < 0, tiles, own // self.width)  # rows without one come after those of the last tile
        self.own_rows = places.argsort().split(places.bincount(minlength=tiles + 1).tolist())
        self.maxima, self.sums = self._run(None)
        largest = self.maxima.amax(1)
        if (largest - self.sums.shift > MAX_BITS).any():  # the sums may have overflowed
            self.maxima, self.sums = self._run(largest)

    def _run(self, shift: Tensor | None) -> tuple[Tensor, "_Sums"]:
        """The maxima of the blocks, (B, blocks), and the sums; the default shift is the first tile's maximum."""
        n, rows = len(self.loc), len(self.slopes)
        buffer = self.slopes.new_empty(rows, min(self.width, _padded(n)))
        total, means, squares = (self.slopes.new_zeros(rows, *w) for w in ((), self.loc.shape[1:], ()))
        maxima = []
        for tile, start in enumerate(range(0, n, self.width)):
            columns = slice(start, min(start + self.width, n))
            terms = self._terms(tile, columns, buffer)
            maxima.append(terms.unflatten(1, (BLOCK, -1)).amax(1))
            if shift is None:
                shift = maxima[0].amax(1).clamp(min=torch.finfo(terms.dtype).min)
            weights = terms.sub_(shift.unsqueeze(1)).exp2_()
            total += weights.sum(1)
            if self.part is None or tile % SAMPLED == self.part:
                weights = weights[:, : columns.stop - start]
                means.addmm_(weights, self.loc[columns])
                squares.addmv_(weights, self.squares[columns])
        factor = 1 if self.part is None else SAMPLED
        assert shift is not None  # there is at least one tile
        return torch.cat(maxima, 1), _Sums(shift, total, means * factor, squares * factor)

    def _terms(self, tile: int, columns: slice, buffer: Tensor) -> Tensor:
        """l of the components of a tile in a buffer; -inf for a row's own one, and beyond the last one."""
        count = columns.stop - columns.start
        terms = buffer[:, : _padded(count)]
        torch.addmm(self.constants[columns], self.slopes, self.loc[columns].T, out=terms[:, :count])
        if count < terms.shape[1]:
            terms[:, count:] = -torch.inf
        if len(rows := self.own_rows[tile]):
            terms[rows, self.own[rows] - columns.start] = -torch.inf
        return terms

    def largest(self, k: int) -> Tensor:
        """The positions of each row's k largest components, but its own, as a sorted union."""
        n = len(self.loc)
        blocks = self.maxima.topk(min(k, self.maxima.shape[1])).indices
        per_tile = self.width // BLOCK  # blocks of a whole tile; a block's elements lie that far apart
        start = blocks // per_tile * self.width
        apart = (n - start).clamp(max=self.width).add_(BLOCK * BLOCKS - 1).floor_divide_(BLOCK * BLOCKS) * BLOCKS
        found = []
        for rows in range(0, len(blocks), step := max(1, 2**22 // (blocks.shape[1] * BLOCK * self.loc.shape[1]))):
            part = slice(rows, rows + step)
            inner = torch.arange(BLOCK, device=blocks.device) * apart[part].unsqueeze(-1)
            candidates = (start[part] + blocks[part] % per_tile).unsqueeze(-1) + inner
            candidates = candidates.flatten(1)
            safe = candidates.clamp(max=n - 1)
            loc = self.loc.index_select(0, safe.flatten()).view(*safe.shape, -1)
            terms = (loc * self.slopes[part].unsqueeze(1)).sum(-1) + self.constants[safe]
            terms = terms.masked_fill((candidates >= n) | (candidates == self.own[part].unsqueeze(1)), -torch.inf)
            best = terms.topk(min(k, terms.shape[1]))
            found.append(safe.gather(1, best.indices)[best.values > -torch.inf])
        return torch.cat(found).unique()

    def without(self, retrieved: Tensor) -> _Sums:
        """The sums without the retrieved components."""
        loc, sums = self.loc[retrieved], self.sums
        terms = torch.addmm(self.constants[retrieved], self.slopes, loc.T)
        terms = terms.masked_fill(self.own.unsqueeze(1) == retrieved, -torch.inf)
        weights = terms.sub_(sums.shift.unsqueeze(1)).exp2_()
        total = sums.total - weights.sum(1)
        if self.part is not None:
            weights = weights * (retrieved // self.width % SAMPLED == self.part) * SAMPLED
        means, squares = sums.means - weights @ loc, sums.squares - weights @ self.squares[retrieved]
        # Where the retrieved ones are all but everything, only rounding is left, which has no direction.
        left = total > self.rounding * sums.total
        return _Sums(
            sums.shift,
            total.where(left, torch.finfo(total.dtype).tiny),
            means.where(left.unsqueeze(1), 0),
            squares.where(left, 0),
        )


class _Context(Protocol):
    """The part of autograd's context that `_Others` uses."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _Others(torch.autograd.Function):
    """The log of the sum of N(z; mu_j, sigma^2 I) over the components of given sums, (B,), and its gradient."""

    @staticmethod
    def forward(
        ctx: _Context, z: Tensor, scale: Tensor, shift: Tensor, total: Tensor, means: Tensor, squares: Tensor
    ) -> Tensor:
        variance, norm = scale.square(), z.square().sum(1)
        mean = means / total.unsqueeze(1)  # under the responsibilities
        grad_z = (mean - z) / variance
        distance = norm - 2 * (z * mean).sum(1) + squares / total
        grad_scale = (distance / variance - z.shape[1]) / scale
        ctx.save_for_backward(grad_z, grad_scale)
        return (total.log2() + shift) / LOG2_E - 0.5 * norm / variance - z.shape[1] * (scale.log() + 0.5 * LOG_2PI)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_z, grad_scale = ctx.saved_tensors
        return grad.unsqueeze(1) * grad_z, (grad * grad_scale).sum(), None, None, None, None
