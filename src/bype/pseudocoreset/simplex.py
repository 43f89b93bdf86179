"""Euclidean projection onto a simplex."""

import torch
from torch import Tensor

from bype.core.precision import deterministic_cumsum


def project_to_simplex(v: Tensor, total: float) -> Tensor:
    """The exact Euclidean projection of v, (M,), onto {w >= 0, sum w = total}, by sorting.

    Source: efficient projections onto the l1-ball (Duchi et al., 2008), Figure 1.

    >>> project_to_simplex(torch.tensor([3.0, 1.0, -5.0]), 2.0)
    tensor([2., 0., 0.])
    """
    # In float64 and after subtracting the maximum (the projection is invariant to it), to avoid cancellation.
    v, dtype = v.double(), v.dtype
    v = v - v.max()
    ordered = v.sort(descending=True).values
    counts = torch.arange(1, len(v) + 1, device=v.device)
    thresholds = (deterministic_cumsum(ordered) - total) / counts
    # Stays on the device: a captured step must not synchronise. There is always an index, unless v contains a NaN.
    last = (ordered > thresholds).sum(0, keepdim=True).clamp(min=1) - 1
    return (v - thresholds.gather(0, last)).clamp(min=0).to(dtype)
