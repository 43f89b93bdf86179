"""The training example nearest to each of many points, exactly, mostly by a bound in a few dimensions."""

import torch
from torch import Tensor

from bype.core.torch_state import fixed_torch_state
from bype.data.images import Images

DIRECTIONS = 128  # in which distances are bounded from below
POINTS_AT_ONCE, EXAMPLES_AT_ONCE = 250, 5000  # a matrix of 5 MB stays in a cache of a CPU
PAIRS_AT_ONCE = 10_000  # whose distance is computed in full
ROUNDING = 1e-5  # of the squares of both norms; more than the error of a bound in float32


@fixed_torch_state(grad=False)
def nearest_items(points: Tensor, images: Images) -> tuple[Tensor, Tensor]:
    r"""The training example nearest to each point, by Euclidean distance over the pixels; of equal ones the first.

    With Q orthonormal (d, r) and :math:`\rho(x) = \|x - Q Q^T x\|`, the triangle inequality gives

    .. math:: \|u - x\|^2 \ge \|Q^T u - Q^T x\|^2 + (\rho(u) - \rho(x))^2,

    a product of r + 1 numbers in place of d. Only pairs whose bound is below the nearest distance so far are computed
    in full, in float64.

    Args:
        points: The points, (M, c, h, w).
        images: The training set.

    Returns:
        The rows of these examples in the training set and their distances, (M,) each.
    """
    u = points.flatten(1)  # converted to float64 a part at a time
    centre = torch.stack([part.double().sum(0) for part in u.split(EXAMPLES_AT_ONCE)]).sum(0) / len(u)
    basis = _directions(u, centre)
    parts = [_shortened(part.double() - centre, basis) for part in u.split(EXAMPLES_AT_ONCE)]
    short, squares = (torch.cat(values) for values in zip(*parts, strict=True))
    nearest = torch.full((len(u),), torch.inf, dtype=torch.float64, device=u.device)  # squared distances
    rows = torch.zeros(len(u), dtype=torch.long, device=u.device)
    for first, batch in zip(range(0, len(images), EXAMPLES_AT_ONCE), images.batches(EXAMPLES_AT_ONCE), strict=True):
        x = batch.flatten(1).double()
        short_x, squares_x = _shortened(x - centre, basis)
        columns, offsets = short_x.T.contiguous(), squares_x * (1 - ROUNDING)
        for m in range(0, len(u), POINTS_AT_ONCE):  # bounds the matrix of distances
            part = slice(m, m + POINTS_AT_ONCE)
            bounds = torch.addmm(offsets, short[part], columns, alpha=-2)  # minus the points' own squares
            limits = nearest[part].float() - squares[part] * (1 - ROUNDING)
            near = (bounds.amin(1) < limits).nonzero().squeeze(1)
            if not len(near):
                continue
            own = u[part], x, first, nearest[part], rows[part]
            # The pair of the lowest bound first: it leaves few others.
            bounds = bounds[near]
            _update(*own, near, bounds.argmin(1))
            limits = nearest[part].float() - squares[part] * (1 - ROUNDING)
            pairs = (bounds < limits[near, None]).nonzero()
            for chunk in pairs.split(PAIRS_AT_ONCE):
                _update(*own, near[chunk[:, 0]], chunk[:, 1])
    return rows, nearest.sqrt()


def _directions(u: Tensor, centre: Tensor) -> Tensor:
    """Orthonormal directions (d, r) in which points, (M, d), vary much: a subspace iteration over some of them."""
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
