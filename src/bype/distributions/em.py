"""Maximum-likelihood fitting of an isotropic mixture: EM, and a search for its scale. Tensors in, tensors out."""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from bype.core.sampling import random_subset
from bype.distributions.affine import LOG2_E, tiles
from bype.distributions.base import LOG_2PI

MAX_CANDIDATES = 40  # values of sigma after which a search that has not enclosed the maximum stops

Report = Callable[[str], None]


def fit_em(
    samples: Iterable[Tensor],
    n_components: int,
    generator: torch.Generator,
    *,
    steps: int = 100,
    tolerance: float = 1e-4,
    report: Report,
) -> tuple[Tensor, Tensor, float]:
    r"""Fits a mixture of normals with one sigma to samples by EM, from sums over tiles of the samples.

    The samples are read once to count and average them, once for their variance and the first means, and once per EM
    step. No more than about one tile of them is held at a time.

    Args:
        samples: The samples in tiles (n_i, D), at least `n_components` in all. It is iterated several times and must
            give the same tiles each time.
        n_components: The number of components K.
        generator: Chooses the samples at which the means start, after the first pass over the samples.
        steps: The maximum number of EM steps.
        tolerance: EM stops when the mean log-likelihood rises by less than this, in nats.
        report: Called with a line of text, the log-likelihood and sigma, every tenth step.

    Returns:
        The means (K, D), the log mixing weights (K,) and sigma.
    """
    n, total = 0, torch.zeros((), dtype=torch.float64)
    for tile in samples:
        n, total = n + len(tile), total.to(tile.device) + tile.double().sum(0)
    centre = total / n
    loc, variance = _start(samples, centre, random_subset(n, n_components, generator, centre.device))
    centre = centre.to(loc.dtype)
    log_weights = loc.new_full((n_components,), 1 / n_components).log()
    previous = -math.inf
    for step in range(1, steps + 1):
        loc, log_weights, variance, log_likelihood = em_step(samples, loc, log_weights, variance, centre)
        if step % 10 == 0:
            report(f"EM step {step}: {log_likelihood:.4f} nats per sample, sigma {variance**0.5:.4f}")
        if log_likelihood - previous < tolerance:
            break
        previous = log_likelihood
    return loc + centre, log_weights, variance**0.5


def _start(samples: Iterable[Tensor], centre: Tensor, rows: Tensor) -> tuple[Tensor, float]:
    """The samples in these rows, centred, (K, D), and the mean variance of all samples about their centre."""
    ascending, places = rows.sort()
    squares, n, found = torch.zeros_like(centre), 0, []
    for tile in samples:
        centred = tile - centre.to(tile.dtype)
        squares += centred.double().square().sum(0)
        first, last = torch.searchsorted(ascending, torch.tensor([n, n + len(tile)], device=rows.device)).tolist()
        found.append(centred[ascending[first:last] - n])
        n += len(tile)
    return torch.cat(found)[places.argsort()], (squares / (n - 1)).mean().item()


def em_step(
    samples: Iterable[Tensor], loc: Tensor, log_weights: Tensor, variance: float, centre: Tensor | float = 0.0
) -> tuple[Tensor, Tensor, float, float]:
    r"""One EM step, from sums over the samples: of :math:`r_{nk}`, :math:`r_{nk} z_n` and :math:`|z_n|^2`, in float64.

    Args:
        samples: The samples in tiles (n_i, D).
        loc: The means minus `centre`, (K, D).
        log_weights: The log mixing weights, (K,).
        variance: sigma^2.
        centre: Subtracted from the samples, (D,).

    Returns:
        The new means minus `centre`, log mixing weights and sigma^2, and the mean log-likelihood of the old ones, in
        nats.
    """
    n, dim = 0, loc.shape[1]
    counts = torch.zeros(len(loc), dtype=torch.float64, device=loc.device)
    sums = torch.zeros(loc.shape, dtype=torch.float64, device=loc.device)
    squares = torch.zeros((), dtype=torch.float64, device=loc.device)
    total = torch.zeros_like(squares)
    constants = log_weights - 0.5 * loc.square().sum(1) / variance
    rows, components = tiles(loc.device)
    for tile in _regrouped(samples, max(64, rows * components // len(loc))):
        block = tile - centre
        n += len(block)
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
    log_likelihood = (total / n).item() - 0.5 * dim * (LOG_2PI + math.log(variance))
    # An empty component keeps its mean, with a mixing weight of zero.
    occupied = counts > 1e-10
    new_loc = torch.where(occupied[:, None], sums / counts.clamp(min=1e-10)[:, None], loc.double())
    spread = squares - 2 * (new_loc * sums).sum() + (counts * new_loc.square().sum(1)).sum()
    variance = max(spread.item() / (n * dim), 1e-8)
    return new_loc.to(loc.dtype), (counts / n).log().to(loc.dtype), variance, log_likelihood


def _regrouped(samples: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in tiles of `size`, the last of which may be shorter."""
    held: list[Tensor] = []
    count = 0
    for tile in samples:
        held.append(tile)
        count += len(tile)
        if count >= size:
            joined, whole = torch.cat(held), count // size * size
            yield from joined[:whole].split(size)
            held, count = [joined[whole:]], count - whole
    if count:
        yield torch.cat(held)


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
