"""The training example nearest to each of many points, exactly, mostly by a bound in a few dimensions."""

import torch
from torch import Tensor

from bype.core.torch_state import fixed_torch_state
from bype.data.images import Images

DIRECTIONS, FEWEST_DIRECTIONS = 128, 16  # in which distances are bounded from below
POINTS_AT_ONCE, EXAMPLES_AT_ONCE = 250, 5000  # a matrix of 5 MB stays in a cache of a CPU
PAIRS_AT_ONCE = 10_000  # whose distance is computed in full
ROUNDING = 1e-5  # of the squares of both norms; more than the error of a bound in float32
FULL_COST = 160  # time of a pixel of a pair in full, in that of a direction of a bound


@fixed_torch_state(grad=False)
def nearest_items(points: Tensor, images: Images) -> tuple[Tensor, Tensor]:
    r"""The training example nearest to each point, by Euclidean distance over the pixels; of equal ones the first.

    With Q orthonormal (d, r) and :math:`\rho(x) = \|x - Q Q^T x\|`, the triangle inequality gives

    .. math:: \|u - x\|^2 \ge \|Q^T u - Q^T x\|^2 + (\rho(u) - \rho(x))^2,

    a product of r + 1 numbers in place of d. Only pairs whose bound is below the nearest distance so far are computed
    in full, in float64. r follows what both took in the last block of examples: the result is the same for any r.

    Args:
        points: The points, (M, c, h, w).
        images: The training set.

    Returns:
        The rows of these examples in the training set and their distances, (M,) each.
    """
    u = points.flatten(1)  # converted to float64 a part at a time
    centre = torch.stack([part.double().sum(0) for part in u.split(EXAMPLES_AT_ONCE)]).sum(0) / len(u)
    most = _directions(u, centre)
    basis = most
    nearest = torch.full((len(u),), torch.inf, dtype=torch.float64, device=u.device)  # squared distances
    rows = torch.zeros(len(u), dtype=torch.long, device=u.device)
    r, fewest, short, squares = 0, FEWEST_DIRECTIONS, nearest, nearest
    for first, batch in zip(range(0, len(images), EXAMPLES_AT_ONCE), images.batches(EXAMPLES_AT_ONCE), strict=True):
        if r != basis.shape[1]:
            r = basis.shape[1]
            parts = [_shortened(part.double() - centre, basis) for part in u.split(EXAMPLES_AT_ONCE)]
            short, squares = (torch.cat(values) for values in zip(*parts, strict=True))
        x = batch.flatten(1).double()
        short_x, squares_x = _shortened(x - centre, basis)
        columns, offsets, pairs = short_x.T.contiguous(), squares_x * (1 - ROUNDING), 0
        for m in range(0, len(u), POINTS_AT_ONCE):  # bounds the matrix of distances
            part = slice(m, m + POINTS_AT_ONCE)
            bounds = torch.addmm(offsets, short[part], columns, alpha=-2)  # minus the points' own squares
            own = u[part], x, first, nearest[part], rows[part]
            pairs += _update_below(bounds, squares[part] * (1 - ROUNDING), *own)
        full = pairs * x.shape[1] * FULL_COST / (len(u) * len(x))
        if full > r and 2 * r <= most.shape[1]:
            basis = most[:, : 2 * r]
            fewest = 2 * r
        elif 8 * full < r and r >= 2 * fewest:
            basis = most[:, : r // 2]
    return rows, nearest.sqrt()


def _update_below(
    bounds: Tensor, squares: Tensor, u: Tensor, x: Tensor, first: int, nearest: Tensor, rows: Tensor
) -> int:
    """Computes the pairs whose bound, (m, n), is below the nearest distance so far; returns their number."""
    limits = nearest.float() - squares
    near = (bounds.amin(1) < limits).nonzero().squeeze(1)
    if not len(near):
        return 0
    # The pair of the lowest bound first: it leaves few others.
    bounds = bounds[near]
    _update(u, x, first, nearest, rows, near, bounds.argmin(1))
    limits = nearest.float() - squares
    pairs = (bounds < limits[near, None]).nonzero()
    for chunk in pairs.split(PAIRS_AT_ONCE):
        _update(u, x, first, nearest, rows, near[chunk[:, 0]], chunk[:, 1])
    return len(near) + len(pairs)


def _directions(u: Tensor, centre: Tensor) -> Tensor:
    """Orthonormal directions (d, r) in which points, (M, d), vary most, in this order: from some of the points."""
    d = u.shape[1]
    some = u[:: max(1, len(u) // 2000)].double() - centre
    start = torch.randn(d, min(DIRECTIONS, d), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = start.to(u.device)
    for _ in range(3):
        basis = torch.linalg.qr(some.T @ (some @ basis) + 1e-9 * basis).Q
    return basis


def _shortened(centred: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """The coordinates in the basis and the norm of the rest, (n, r + 1), and their squared norms, (n,), in float32."""
    coordinates = centred @ basis
    rest = (centred.square().sum(1) - coordinates.square().sum(1)).clamp(min=0).sqrt()
    short = torch.cat([coordinates, rest[:, None]], 1).float()
    return short, short.square().sum(1)


def _update(u: Tensor, x: Tensor, first: int, nearest: Tensor, rows: Tensor, points: Tensor, columns: Tensor) -> None:
    """Computes the distances of pairs (row of u, row of x) and keeps, in place, those that are smaller.

    In float64, since cancellation would hide that a point equals the example it was initialised with.
    """
    squared = (u[points].double() - x[columns]).square().sum(1)
    best = torch.full_like(nearest, torch.inf).scatter_reduce_(0, points, squared, "amin")
    hit = (squared == best[points]) & (squared < nearest[points])
    points, columns = points[hit], columns[hit]
    at = torch.full_like(rows, len(x)).scatter_reduce_(0, points, columns, "amin")
    rows[points] = at[points] + first
    nearest[points] = best[points]
