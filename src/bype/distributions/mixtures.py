"""Mixtures of normals over latents z (D,).

Evaluating a mixture at many points never allocates a tensor of shape (B, M, D): a density is one matrix product and one
logsumexp, in tiles if memory requires it.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, overload

import torch
from torch import Tensor

from bype.core.precision import deterministic_cumsum, product_precision
from bype.distributions.affine import LOG2_E, logsumexp_affine, logsumexp_affine_gradients, tiles
from bype.distributions.base import LOG_2PI, Event
from bype.distributions.normal import DiagonalNormal

#: Up to this many log-densities of components, (B, M), are held from the forward to the backward pass; beyond it they
#: are computed in tiles, and again in the backward pass.
HELD_TERMS = 2**22


class NormalMixture(Event):
    """Mixture of M normals over R^D; each component's log-density is an affine function of features of z.

    A subclass implements `_affine`, the features (B, F), their coefficients (M, F), constants (M,) and the term common
    to all components; `_adjoint`, the backward pass of `_affine`; and `component`.
    """

    has_rsample = False

    def __init__(self, loc: Tensor, scale: Tensor, log_weights: Tensor) -> None:
        # log_weights is (M,), or (B, M) if each row of a batch has its own mixing weights (leave-one-out).
        self.loc, self.scale, self.log_weights = loc, scale, log_weights
        super().__init__(log_weights.shape[:-1], loc.shape[-1:])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_components} components, event shape {tuple(self.event_shape)})"

    @property
    def n_components(self) -> int:
        """The number of components M."""
        return len(self.loc)

    @property
    def mean(self) -> Tensor:
        """The mean, shape (\\*batch, D)."""
        return self.log_weights.exp() @ self.loc

    @property
    def variance(self) -> Tensor:
        """The variances: those of the components plus those of the component means, shape (\\*batch, D)."""
        centre = self.loc.mean(0)
        weights, loc = self.log_weights.exp(), self.loc - centre
        within = self.component(torch.arange(self.n_components, device=loc.device)).variance
        return weights @ (within + loc.square()) - (weights @ loc).square()

    def component(self, index: Tensor | int) -> DiagonalNormal:
        """The component (or components) at `index`."""
        raise NotImplementedError

    def _to(self, dtype: torch.dtype) -> "NormalMixture":
        """This mixture in another dtype."""
        return type(self)(self.loc.to(dtype), self.scale.to(dtype), self.log_weights.to(dtype))

    @staticmethod
    def _affine(z: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
        """Features (B, F), coefficients (M, F), constants (M,), and the term common to all components, (B,) or ()."""
        raise NotImplementedError

    @staticmethod
    def _adjoint(
        features: Tensor, coefficients: Tensor, grad: "_Gradients", loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients with respect to z, loc and scale, from those with respect to the outputs of `_affine`."""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, with the shape of `value` without its last axis.

        It is computed in at least float32, without TF32. If a gradient is needed, the value has the rounding error of
        the affine form; otherwise `_exact` removes it.
        """
        if torch.promote_types(value.dtype, self.loc.dtype) != self.loc.dtype:
            return self._to(value.dtype).log_prob(value)
        # Half precision would lose the digits of |z|^2 - 2 z mu + |mu|^2, so autocast is disabled.
        with torch.autocast(value.device.type, enabled=False), product_precision(tf32=False):
            rows = value.reshape(-1, value.shape[-1])
            needs_grad = any(t.requires_grad for t in (rows, self.loc, self.scale, self.log_weights))
            if torch.is_grad_enabled() and needs_grad:
                log_prob = _LogProb.apply(type(self), rows, self.loc, self.scale, self._row_weights(rows))
            else:
                # At infinity the affine form is a difference of infinities.
                log_prob = self._exact(rows).masked_fill(rows.isinf().any(-1), -torch.inf)
            return log_prob.view(value.shape[:-1])

    def _row_weights(self, rows: Tensor) -> Tensor:
        """The log mixing weights: (M,), or (B, M) if each row of a batch has its own, repeated for its samples."""
        if self.log_weights.dim() == 1:
            return self.log_weights
        return self.log_weights.expand(len(rows) // len(self.log_weights), -1, -1).flatten(0, 1)

    def _exact(self, rows: Tensor) -> Tensor:
        """log p of rows (B, D), with the largest term evaluated directly.

        The affine form is a small difference of large numbers such as |z|^2/sigma^2. The other terms are only needed
        relative to the largest, which is computed from the component's own density, without that difference.
        """
        features, coefficients, constants, _ = self._affine(rows, self.loc, self.scale)
        if self.log_weights.dim() == 1:
            log_total, best = _logsumexp_affine(features, coefficients, constants + self.log_weights)
            log_weight = self.log_weights[best]
        else:
            logits = torch.addmm(constants, features, coefficients.T).view(-1, *self.log_weights.shape)
            logits = (logits + self.log_weights).flatten(0, 1)
            largest, best = logits.max(-1, keepdim=True)
            shift = largest.clamp(min=torch.finfo(logits.dtype).min)
            log_total = logits.sub_(shift).mul_(LOG2_E).exp2_().sum(-1).log_()
            log_weight, best = self._row_weights(rows).gather(-1, best).squeeze(-1), best.squeeze(-1)
        return log_total + self.component(best).log_prob(rows) + log_weight

    @overload
    def sample(
        self,
        sample_shape: Sequence[int] = (),
        *,
        generator: torch.Generator | None = None,
        return_components: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def sample(
        self,
        sample_shape: Sequence[int] = (),
        *,
        generator: torch.Generator | None = None,
        return_components: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    def sample(
        self,
        sample_shape: Sequence[int] = (),
        *,
        generator: torch.Generator | None = None,
        return_components: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Ancestral samples: a component by its mixing weight, then z from that component.

        Returns:
            z, shape (\\*sample_shape, D); with `return_components` also the index of each sample's component, an int64
            tensor of shape `sample_shape`.

        Raises:
            ValueError: If each row of a batch has its own mixing weights, so that there is no single mixture.
        """
        if self.log_weights.dim() != 1:
            got = tuple(self.log_weights.shape)
            raise ValueError(f"log_weights: expected shape (M,), one mixture to sample from, got {got}")
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            weights = (self.log_weights - self.log_weights.max()).exp()
            if shape.numel():
                index = categorical_sample(weights, shape.numel(), generator)
            else:  # torch.multinomial rejects 0 samples
                index = torch.zeros(0, dtype=torch.long, device=weights.device)
            z = self.component(index).sample(generator=generator).view(*shape, self.event_shape[0])
        return (z, index.view(shape)) if return_components else z


class IsotropicMixture(NormalMixture):
    r"""Mixture of M normals with one shared variance.

    .. math:: p(z) = \sum_{m=1}^M \pi_m \, \mathcal{N}(z \mid \mu_m, \sigma^2 I)

    z and the means are centred on the average of the means before the squares are expanded, so that a common offset
    costs no digits. Worst errors against float64 sums, relative to max(1, \|log p\|), over random cases with
    M = 1..2000, D = 1..128 and spreads of the means 1e-3..1e3: 4e-13 in float64 with sigma at 1/100 of the spread; in
    float32 1e-5 at 1/10, 4e-5 at 1/30 and 4e-4 at 1/100 (`DiagonalMixture`: 6e-13; 5e-6, 4e-5 and 8e-4). In a model of
    MNIST after 30 epochs, sigma is half the spread of the widest latent.

    Source: Eq. 12 of ByPE-VAE (Ai et al., 2021), https://arxiv.org/abs/2107.09286

    Args:
        loc: The means, shape (M, D).
        scale: The standard deviation, a scalar tensor.
        log_weights: The log mixing weights, shape (M,), or (B, M) if each row has its own; normalised by the caller.

    >>> import torch
    >>> p = IsotropicMixture(torch.tensor([[-1.0], [1.0]]), torch.tensor(1.0), torch.tensor([0.5, 0.5]).log())
    >>> p.log_prob(torch.zeros(1, 1)).round(decimals=4)
    tensor([-1.4189])
    """

    def component(self, index: Tensor | int) -> DiagonalNormal:
        """The component (or components) at `index`: mean mu_m, standard deviation sigma in every dimension."""
        return DiagonalNormal(self.loc[index], self.scale)

    @staticmethod
    def _affine(z: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
        centre = loc.mean(0)
        z, loc = (z - centre).div_(scale), (loc - centre).div_(scale)
        common = z.square().sum(-1).mul_(-0.5).sub_(scale.log() + 0.5 * LOG_2PI, alpha=z.shape[-1])
        return z, loc, loc.square().sum(-1).mul_(-0.5), common

    @staticmethod
    def _adjoint(
        features: Tensor, coefficients: Tensor, grad: "_Gradients", loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        z, mu = features, coefficients  # centred, in units of sigma
        grad_z = torch.addcmul(grad.features, z, grad.common.unsqueeze(-1), value=-1)
        grad_mu = torch.addcmul(grad.coefficients, mu, grad.constants.unsqueeze(-1), value=-1)
        spread = (z * grad_z).sum() + (mu * grad_mu).sum()  # minus the mean squared distance, in units of sigma
        grad_scale = (spread + grad.common.sum() * z.shape[-1]).neg() / scale
        return grad_z.div_(scale), grad_mu.div_(scale), grad_scale


class DiagonalMixture(NormalMixture):
    r"""Mixture of M normals, each with its own diagonal covariance.

    .. math:: p(z) = \sum_{m=1}^M \pi_m \, \mathcal{N}(z \mid \mu_m, \mathrm{diag}(\sigma_m^2))

    Source: VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120

    Args:
        loc: The means, shape (M, D).
        scale: The standard deviations, shape (M, D).
        log_weights: The log mixing weights, shape (M,), or (B, M) if each row has its own; normalised by the caller.
    """

    def component(self, index: Tensor | int) -> DiagonalNormal:
        """The component (or components) at `index`."""
        return DiagonalNormal(self.loc[index], self.scale[index])

    @staticmethod
    def _affine(z: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
        # Centred, and in units of the smallest scale of each dimension, so that float32 does not overflow.
        centre, unit = loc.mean(0), scale.amin(0)
        z, mu = (z - centre).div_(unit), (loc - centre).div_(unit)
        precision = (scale / unit).square_().reciprocal_()
        features = torch.cat([z.square(), z], -1)
        coefficients = torch.cat([-0.5 * precision, mu * precision], -1)
        constants = (mu.square_().mul_(precision).sum(-1) * -0.5).sub_(scale.log().sum(-1))
        return features, coefficients, constants, -0.5 * z.shape[-1] * LOG_2PI

    @staticmethod
    def _adjoint(
        features: Tensor, coefficients: Tensor, grad: "_Gradients", loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        unit = scale.amin(0)
        mu, precision = (loc - loc.mean(0)).div_(unit), coefficients.chunk(2, -1)[0] * -2
        z = features.chunk(2, -1)[1]
        (grad_squares, grad_linear), counts = grad.features.chunk(2, -1), grad.constants.unsqueeze(-1)
        second, first = grad.coefficients.chunk(2, -1)  # sums of z^2 and z, weighted by the responsibilities
        grad_z = torch.addcmul(grad_linear, z, grad_squares, value=2).div_(unit)
        deviation = torch.addcmul(first, mu, counts, value=-1)  # the sum of z - mu
        # The sum of (z - mu)^2 = z^2 - mu z - mu (z - mu).
        spread = torch.addcmul(second, mu, first + deviation, value=-1)
        return grad_z, deviation.mul_(precision).div_(unit), spread.mul_(precision).sub_(counts).div_(scale)


class _Gradients(NamedTuple):
    """The gradients with respect to the four outputs of `NormalMixture._affine`."""

    features: Tensor
    coefficients: Tensor
    constants: Tensor
    common: Tensor


class _Context(Protocol):
    """The part of autograd's context that `_LogProb` uses."""

    kind: type[NormalMixture]
    per_row: bool
    tiled: bool
    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _LogProb(torch.autograd.Function):
    r"""log p(z) of rows z (B, D), (B,): the logsumexp over m of a_m . f_b + c_m + log pi_bm, plus the common term.

    The gradients follow from the responsibilities r_bm = exp(a_m . f_b + c_m + log pi_bm - log p): r a for the features
    f, r^T f for the coefficients a, the sum of r over b for the constants c, and r for log pi, which is (M,) or (B, M).
    The mixture's `_adjoint` maps them to the gradients of z, means and scale, in fewer steps than autograd. A log pi of
    -inf leaves a component out; a row in which all are left out has log p = -inf. exp2 replaces exp, which on a CPU is
    ten to thirty times slower when it underflows, as it does for all distant components.
    """

    @staticmethod
    def forward(
        ctx: _Context, kind: type[NormalMixture], z: Tensor, loc: Tensor, scale: Tensor, log_weights: Tensor
    ) -> Tensor:
        features, coefficients, constants, common = kind._affine(z, loc, scale)
        ctx.kind, ctx.per_row = kind, (per_row := log_weights.dim() > 1)
        ctx.tiled = not per_row and len(features) * len(coefficients) > HELD_TERMS
        if ctx.tiled:
            constants = constants + log_weights
            log_total = logsumexp_affine(features, coefficients, constants)
            ctx.save_for_backward(features, coefficients, constants, log_total, loc, scale)
            return log_total + common
        logits = torch.addmm(constants if per_row else constants + log_weights, features, coefficients.T)
        if per_row:
            logits += log_weights
        shift = logits.amax(-1, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min)
        terms = logits.sub_(shift).mul_(LOG2_E).exp2_()
        total = terms.sum(-1, keepdim=True)
        ctx.save_for_backward(features, coefficients, terms, total, loc, scale)
        return total.log().add_(shift).squeeze(-1).add_(common)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, coefficients, terms, total, loc, scale = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False), product_precision(tf32=False):
            if ctx.tiled:  # in place of the terms and their totals: constants and log totals
                grads = _Gradients(*logsumexp_affine_gradients(features, coefficients, terms, total, grad), grad)
                return None, *ctx.kind._adjoint(features, coefficients, grads, loc, scale), grads.constants
            weighted = terms * (grad.unsqueeze(-1) / total)  # the responsibilities times the incoming gradient
            grads = _Gradients(weighted @ coefficients, weighted.T @ features, weighted.sum(0), grad)
            grad_inputs = ctx.kind._adjoint(features, coefficients, grads, loc, scale)
        return None, *grad_inputs, weighted if ctx.per_row else grads.constants


def _logsumexp_affine(features: Tensor, coefficients: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
    """logsumexp over m of features @ coefficients_m + constants_m: its excess over the largest term, and that term's m.

    Both have shape (B,).
    """
    if torch.compiler.is_exporting():  # a program for any number of rows has no tiles
        logits = torch.addmm(constants, features, coefficients.T)
        largest, best = logits.max(-1, keepdim=True)
        return (logits - largest).logsumexp(-1), best.squeeze(-1)
    # In tiles that stay in the cache, each processed in place, in bits.
    most_rows, most = tiles(features.device)
    width = min(most, len(constants))
    slopes, offsets = coefficients * LOG2_E, constants * LOG2_E
    position = torch.arange(width, dtype=features.dtype, device=features.device)
    out = []
    for rows in features.split(most_rows * most // width):
        parts = []
        for m in range(0, len(offsets), width):
            tile = torch.addmm(offsets[m : m + width], rows, slopes[m : m + width].T)
            shift = tile.amax(-1, keepdim=True).clamp_(min=torch.finfo(tile.dtype).min)
            log_total = tile.sub_(shift).exp2_().sum(-1).log_()
            # floor keeps only exp2(0) = 1, the largest term; argmax would take as long as the product on a CPU.
            # A NaN cannot be an index and becomes 0.
            best = tile.floor_().mul_(position[: tile.shape[1]]).amax(-1).nan_to_num_().long()
            parts.append((log_total, shift.squeeze(-1), best + m))
        log_totals, shifts, bests = (torch.stack(t, -1) for t in zip(*parts, strict=True))
        shift, largest = shifts.max(-1, keepdim=True)
        log_total = log_totals.mul_(LOG2_E).add_(shifts - shift).exp2_().sum(-1).log_()
        out.append((log_total, bests.gather(-1, largest).squeeze(-1)))
    log_total, best = (torch.cat(t) for t in zip(*out, strict=True))
    return log_total, best


MULTINOMIAL_CATEGORIES = 2**24  # the most that torch.multinomial takes


def categorical_sample(weights: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """Samples n indices with replacement, with probabilities proportional to `weights`, (n,)."""
    if not weights.is_cuda and len(weights) <= MULTINOMIAL_CATEGORIES:
        return torch.multinomial(weights, n, replacement=True, generator=generator)
    return inverse_cdf_sample(weights, n, generator)


def inverse_cdf_sample(weights: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """`categorical_sample` by inversion of the cumulative weights; deterministic given the seed, also on a GPU."""
    cumulative = deterministic_cumsum(weights)
    at = torch.rand(n, dtype=cumulative.dtype, device=weights.device, generator=generator) * cumulative[-1]
    return torch.searchsorted(cumulative, at, right=True).clamp_(max=len(weights) - 1)
