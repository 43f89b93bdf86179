"""Maximum likelihood of an isotropic mixture: EM, and the choice of one scale. Tensors in, tensors out."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bype.distributions.base import LOG_2PI
from bype.distributions.mixtures import LOG2_E, tiles

MAX_CANDIDATES = 40  # of sigma, before a search that finds no top gives up


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
    r"""Maximum likelihood of a mixture of normals with one sigma, by EM, in tiles of z.

    Args:
        z: The draws, (n, D).
        n_components: K.
        generator: Which draws the means start at.
        steps: EM steps at most.
        tolerance: Stop when the mean log-likelihood rises by less, nats.
        report: Told the log-likelihood now and then.

    Returns:
        Means (K, D), log-shares (K,), sigma.
    """
    centre = z.mean(0)
    z = z - centre
    start = torch.randperm(len(z), generator=generator, device=z.device)[:n_components]
    loc, log_weights = z[start].clone(), z.new_full((n_components,), 1 / n_components).log()
    variance = z.var(0).mean().item()
    before = -math.inf
    for step in range(1, steps + 1):
        loc, log_weights, variance, log_likelihood = em_step(z, loc, log_weights, variance)
        if step % 10 == 0:
            report(f"EM step {step}: {log_likelihood:.4f} nats a draw, sigma {variance**0.5:.4f}")
        if log_likelihood - before < tolerance:
            break
        before = log_likelihood
    return loc + centre, log_weights, variance**0.5


def em_step(z: Tensor, loc: Tensor, log_weights: Tensor, variance: float) -> tuple[Tensor, Tensor, float, float]:
    """One full step of EM; the mean log-likelihood returned is that of the parameters it was given."""
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
        shares = logits.sub_(largest).mul_(LOG2_E).exp2_()
        totals = shares.sum(1, keepdim=True)
        shares.div_(totals)
        counts += shares.sum(0)
        sums += shares.T @ block
        squared = block.square().sum(1, keepdim=True)
        squares += squared.double().sum()
        total += (totals.log() + largest - 0.5 * squared / variance).double().sum()
    log_likelihood = (total / len(z)).item() - 0.5 * dim * (LOG_2PI + math.log(variance))
    # A component that owns nothing keeps its mean and a share of zero.
    owned = counts > 1e-10
    new = torch.where(owned[:, None], sums / counts.clamp(min=1e-10)[:, None], loc.double())
    spread = squares - 2 * (new * sums).sum() + (counts * new.square().sum(1)).sum()
    variance = max(spread.item() / (len(z) * dim), 1e-8)
    return new.to(z.dtype), (counts / len(z)).log().to(z.dtype), variance, log_likelihood


def best_scale(bounds: Callable[[Tensor], Tensor], start: float, like: Tensor, report: Report) -> float:
    """The sigma where `bounds` is highest, to about one percent, from about a dozen evaluations of it.

    Args:
        bounds: Maps sigmas (C,) to values (C,), with one top.
        start: Where to look; the search goes on beyond its first range if it must.
        like: A tensor of the dtype and device that `bounds` takes.
        report: Told of progress.
    """
    values: dict[float, float] = {}  # by log sigma

    def best_of(candidates: list[float]) -> float:
        scales = torch.tensor(candidates, dtype=torch.float64).exp().to(like)
        values.update(zip(candidates, bounds(scales).tolist(), strict=True))
        best = max(values, key=lambda c: values[c])
        report(f"sigma {math.exp(best):.4f}: bound {values[best]:.4f} on validation items")
        return best

    step, centre = math.log(8) / 6, math.log(start) - 0.5 * math.log(2)
    best = best_of([centre + i * step for i in range(-3, 4)])
    while best in (min(values), max(values)):
        if len(values) > MAX_CANDIDATES:
            return math.exp(best)
        side = step if best == max(values) else -step
        best = best_of([best + i * side for i in (1, 2, 3)])
    for _ in range(2):
        step /= 2
        best = best_of([best - step, best + step])
    # The top of the parabola through the best and its neighbours.
    left, right = max(c for c in values if c < best), min(c for c in values if c > best)
    rise, fall = (values[best] - values[left]) / (best - left), (values[right] - values[best]) / (right - best)
    bend = 2 * (rise - fall) / (right - left)
    return math.exp(0.5 * (left + best) + rise / bend if bend > 0 else best)


def log_prob_at_scales(z: Tensor, loc: Tensor, log_weights: Tensor, scales: Tensor) -> Tensor:
    """log p(z) of one isotropic mixture under several sigmas at once, (C, n), from one set of distances.

    A sigma smaller by sqrt(2) than the one before squares every term, which is cheaper than an exponential.
    """
    centre = loc.mean(0)
    used = log_weights > log_weights.max() - 60  # what is left out is less than 1e-26 of the density
    z, loc, weights = z - centre, (loc - centre)[used], log_weights[used].exp()
    norms = loc.square().sum(1)
    order = sorted(range(len(scales)), key=lambda c: -scales[c])
    halves = [0.5 / s**2 for s in scales.tolist()]
    rows, components = tiles(z.device)
    out = []
    for block in z.split(rows):
        own = block.square().sum(1, keepdim=True)
        sums = []  # of each tile of components, (C, rows)
        for m in range(0, len(loc), components):
            part = slice(m, m + components)
            squared = torch.addmm(norms[part] + own, block, loc[part].T, alpha=-2).clamp_(min=0)
            nearest = squared.amin(1, keepdim=True)
            below = squared.sub_(nearest).neg_()
            tile, terms, before = z.new_empty(len(scales), len(block)), below, 0.0
            for c in order:
                doubled = abs(halves[c] - 2 * before) < 1e-6 * halves[c]
                terms = terms.square_() if doubled else torch.mul(below, halves[c] * LOG2_E).exp2_()
                before = halves[c]
                tile[c] = (terms @ weights[part]).log_() - nearest.squeeze(1) * halves[c]
            sums.append(tile)
        out.append(torch.stack(sums).logsumexp(0))
    constant = z.shape[1] * (scales.log() + 0.5 * LOG_2PI)
    return torch.cat(out, 1) - constant[:, None]
