"""The initial points of a prior: training examples."""

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.data.images import Dataset


def initial_points(data: Dataset, m: int | None) -> Tensor:
    """Samples M training examples without replacement, (M, c, h, w), on the CPU, from torch's global random state.

    Args:
        data: The data set.
        m: The number of points M; by default min(500, N // 2).

    Raises:
        InputError: If M is not between 1 and N.
    """
    n = len(data.train)
    m = min(500, n // 2) if m is None else m
    if not 1 <= m <= n:
        raise InputError(f"components: expected between 1 and the {n} training examples of {data.name}, got {m}")
    index = torch.randperm(n)[:m]
    return data.train.scaled(index.to(data.train.pixels.device)).cpu()
