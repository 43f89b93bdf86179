"""logsumexp over many affine functions and its gradient, in tiles: memory by the tile, not by rows times functions."""

import math

import torch
from torch import Tensor

LOG2_E = math.log2(math.e)
# Tile size, (rows, components), of the matrix of log-densities when no gradient is needed. On a CPU a tile is 2 MiB in
# float32 and stays in a core's cache: 1.6 times as fast as 8 MiB. On a GPU large tiles mean few launches.
TILES = {"cpu": (512, 1024), "cuda": (16384, 4096)}


def tiles(device: torch.device) -> tuple[int, int]:
    """The tile size, (rows, components), for log-densities on a device."""
    return TILES.get(device.type, TILES["cpu"])


def logsumexp_affine(features: Tensor, coefficients: Tensor, constants: Tensor) -> Tensor:
    r"""The logsumexp over m of :math:`a_m \cdot f_b + c_m`, (B,).

    Args:
        features: f, (B, F).
        coefficients: a, (M, F).
        constants: c, (M,); -inf leaves a function out.
    """
    slopes, offsets = (coefficients * LOG2_E).T.contiguous(), constants * LOG2_E  # exp2 is the faster on a CPU
    tile_rows, tile_functions = tiles(features.device)
    out = []
    for rows in features.split(tile_rows):
        parts = []
        for m in range(0, len(offsets), tile_functions):
            part = slice(m, m + tile_functions)
            tile = torch.addmm(offsets[part], rows, slopes[:, part])
            shift = tile.amax(1, keepdim=True).clamp_(min=torch.finfo(tile.dtype).min)
            parts.append(tile.sub_(shift).exp2_().sum(1).log2_().add_(shift.squeeze(1)))
        out.append(torch.stack(parts).div_(LOG2_E).logsumexp(0))
    return torch.cat(out)


def logsumexp_affine_gradients(
    features: Tensor, coefficients: Tensor, constants: Tensor, log_total: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `logsumexp_affine` with respect to its arguments; the terms are computed again.

    Args:
        features: f, (B, F).
        coefficients: a, (M, F).
        constants: c, (M,).
        log_total: The value of `logsumexp_affine`, (B,).
        grad: The gradient with respect to that value, (B,).
    """
    slopes, offsets = (coefficients * LOG2_E).T.contiguous(), constants * LOG2_E
    across = coefficients.T.contiguous()
    # A row that all functions are left out of has the gradient 0.
    norm = log_total.clamp(min=torch.finfo(log_total.dtype).min / 2).mul_(LOG2_E).unsqueeze(1)
    weighted = torch.cat([features.T, features.new_ones(1, len(features))]) * grad  # (F + 1, B)
    sums = features.new_zeros(len(across) + 1, len(offsets))
    tile_rows, tile_functions = tiles(features.device)
    grad_features = []
    for b in range(0, len(features), tile_rows):
        rows = slice(b, b + tile_rows)
        total = torch.zeros_like(weighted[:-1, rows])
        for m in range(0, len(offsets), tile_functions):
            part = slice(m, m + tile_functions)
            tile = torch.addmm(offsets[part], features[rows], slopes[:, part]).sub_(norm[rows]).exp2_()
            # As (few, many) products, which are several times as fast as (many, few) ones on a CPU.
            total += across[:, part] @ tile.T
            sums[:, part] += weighted[:, rows] @ tile
        grad_features.append(total.T * grad[rows].unsqueeze(1))
    return torch.cat(grad_features), sums[:-1].T.contiguous(), sums[-1].clone()
