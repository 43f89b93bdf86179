"""Maximum-likelihood fitting of an isotropic mixture: EM, and a search for its scale. Tensors in, tensors out."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bype.distributions.base import LOG_2PI
from bype.distributions.mixtures import LOG2_E, tiles

MAX_CANDIDATES = 40  # values of sigma after which a search that has not enclosed the maximum stops

Report = Callable[[str], None]


def fit_em(
    z: Tensor,
    n_components: int,
    generator: torch.Generator,
    *,
    steps: int = 100,
    tolerance: float = 1e-4,
    report: Report,
) -> tuple[Tensor, Tensor, float]:
    r"""Fits a mixture of normals with one sigma to samples by EM, in tiles of z.

    Args:
        z: The samples, (n, D).
        n_components: The number of components K.
        generator: Chooses the samples at which the means start.
        steps: The maximum number of EM steps.
        tolerance: EM stops when the mean log-likelihood rises by less than this, in nats.
        report: Called with a line of text, the log-likelihood and sigma, every tenth step.

    Returns:
        The means (K, D), the log mixing weights (K,) and sigma.
    """
    centre = z.mean(0)
    z = z - centre
    start = torch.randperm(len(z), generator=generator, device=z.device)[:n_components]
    loc, log_weights = z[start].clone(), z.new_full((n_components,), 1 / n_components).log()
    variance = z.var(0).mean().item()
    previous = -math.inf
    for step in range(1, steps + 1):
        loc, log_weights, variance, log_likelihood = em_step(z, loc, log_weights, variance)
        if step % 10 == 0:
            report(f"EM step {step}: {log_likelihood:.4f} nats per sample, sigma {variance**0.5:.4f}")
        if log_likelihood - previous < tolerance:
            break
        previous = log_likelihood
    return loc + centre, log_weights, variance**0.5


def em_step(z: Tensor, loc: Tensor, log_weights: Tensor, variance: float) -> tuple[Tensor, Tensor, float, float]:
    """One EM step; returns the new parameters and the mean log-likelihood of the old ones, in nats."""
    dim = z.shape[1]
    counts = torch.zeros(len(loc), dtype=torch.float64, device=z.device)
    sums = torch.zeros(loc.shape, dtype=torch.float64, device=z.device)
    squares = torch.zeros((), dtype=torch.float64, device=z.device)
    total = torch.zeros_like(squares)
    constants = log_weights - 0.5 * loc.square().sum(1) / variance
    rows, components = tiles(z.device)
    for block in z.split(max(64, rows * components // len(loc))):
        logits = torch.addmm(constants, block, loc.T / variance)
        largest = logits.amax(1, keepdim=True)
        responsibilities = logits.sub_(largest).mul_(LOG2_E).exp2_()
        totals = responsibilities.sum(1, keepdim=True)
        responsibilities.div_(totals)
        counts += responsibilities.sum(0)
        sums += responsibilities.T @ block
        squared = block.square().sum(1, keepdim=True)
        squares += squared.double().sum()
        total += (totals.log() + largest - 0.5 * squared / variance).double().sum()
    log_likelihood = (total / len(z)).item() - 0.5 * dim * (LOG_2PI + math.log(variance))
    # An empty component keeps its mean, with a mixing weight of zero.
    occupied = counts > 1e-10
    new_loc = torch.where(occupied[:, None], sums / counts.clamp(min=1e-10)[:, None], loc.double())
    spread = squares - 2 * (new_loc * sums).sum() + (counts * new_loc.square().sum(1)).sum()
    variance = max(spread.item() / (len(z) * dim), 1e-8)
    return new_loc.to(z.dtype), (counts / len(z)).log().to(z.dtype), variance, log_likelihood


def best_scale(bounds: Callable[[Tensor], Tensor], start: float, like: Tensor, report: Report) -> float:
    """The sigma that maximises `bounds`, to about one percent, from about a dozen values of it.

    Args:
        bounds: Maps sigmas (C,) to values (C,), with a single maximum.
        start: The sigma to search around; the range is extended until it encloses the maximum.
        like: A tensor of the dtype and device that `bounds` takes.
        report: Called with a line of text, the best sigma and its bound, after each evaluation.
    """
    values: dict[float, float] = {}  # by log sigma

    def best_of(candidates: list[float]) -> float:
        scales = torch.tensor(candidates, dtype=torch.float64).exp().to(like)
        values.update(zip(candidates, bounds(scales).tolist(), strict=True))
        best = max(values, key=lambda c: values[c])
        report(f"sigma {math.exp(best):.4f}: bound {values[best]:.4f} on validation examples")
        return best

    step, centre = math.log(8) / 6, math.log(start) - 0.5 * math.log(2)
    best = best_of([centre + i * step for i in range(-3, 4)])
    while best in (min(values), max(values)):
        if len(values) > MAX_CANDIDATES:
            return math.exp(best)
        outward = step if best == max(values) else -step
        best = best_of([best + i * outward for i in (1, 2, 3)])
    for _ in range(2):
        step /= 2
        best = best_of([best - step, best + step])
    # The maximum of the parabola through the best value and its neighbours.
    left, right = max(c for c in values if c < best), min(c for c in values if c > best)
    rise, fall = (values[best] - values[left]) / (best - left), (values[right] - values[best]) / (right - best)
    curvature = 2 * (rise - fall) / (right - left)
    return math.exp(0.5 * (left + best) + rise / curvature if curvature > 0 else best)


def log_prob_at_scales(z: Tensor, loc: Tensor, log_weights: Tensor, scales: Tensor) -> Tensor:
    """log p(z) of an isotropic mixture for several sigmas, (C, n) in nats, from one set of distances.

    Dividing sigma by sqrt(2) squares every term, which is cheaper than an exponential.
    """
    centre = loc.mean(0)
    used = log_weights > log_weights.max() - 60  # the others have less than 1e-26 of the largest weight
    z, loc, weights = z - centre, (loc - centre)[used], log_weights[used].exp()
    norms = loc.square().sum(1)
    order = sorted(range(len(scales)), key=lambda c: -scales[c])
    half_precisions = [0.5 / s**2 for s in scales.tolist()]
    rows, components = tiles(z.device)
    out = []
    for block in z.split(rows):
        block_norms = block.square().sum(1, keepdim=True)
        tile_log_sums = []  # (C, rows) for each tile of components
        for m in range(0, len(loc), components):
            part = slice(m, m + components)
            squared = torch.addmm(norms[part] + block_norms, block, loc[part].T, alpha=-2).clamp_(min=0)
            nearest = squared.amin(1, keepdim=True)
            shifted = squared.sub_(nearest).neg_()
            tile, terms, previous = z.new_empty(len(scales), len(block)), shifted, 0.0
            for c in order:
                doubled = abs(half_precisions[c] - 2 * previous) < 1e-6 * half_precisions[c]
                terms = terms.square_() if doubled else torch.mul(shifted, half_precisions[c] * LOG2_E).exp2_()
                previous = half_precisions[c]
                tile[c] = (terms @ weights[part]).log_() - nearest.squeeze(1) * half_precisions[c]
            tile_log_sums.append(tile)
        out.append(torch.stack(tile_log_sums).logsumexp(0))
    constant = z.shape[1] * (scales.log() + 0.5 * LOG_2PI)
    return torch.cat(out, 1) - constant[:, None]
