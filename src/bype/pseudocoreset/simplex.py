"""Euclidean projection onto a simplex."""

import torch
from torch import Tensor

from bype.core.precision import deterministic_cumsum


def project_to_simplex(v: Tensor, total: float) -> Tensor:
    """The Euclidean projection of v, (M,), onto {w >= 0, sum w = total}, exact, by sorting.

    Source: efficient projections onto the l1-ball (Duchi et al., 2008), Figure 1.

    >>> project_to_simplex(torch.tensor([3.0, 1.0, -5.0]), 2.0)
    tensor([2., 0., 0.])
    """
    # In float64, and less the largest, which changes nothing: a sum of large numbers would lose the total's digits.
    v, dtype = v.double(), v.dtype
    v = v - v.max()
    ordered = v.sort(descending=True).values
    counts = torch.arange(1, len(v) + 1, device=v.device)
    thresholds = (deterministic_cumsum(ordered) - total) / counts
    # Read on the device, for a recorded step may not wait for it. There is always one, unless v has a NaN.
    last = (ordered > thresholds).sum(0, keepdim=True).clamp(min=1) - 1
    return (v - thresholds.gather(0, last)).clamp(min=0).to(dtype)
