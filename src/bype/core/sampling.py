"""Random subsets."""

import torch
from torch import Tensor

#: Up to this many, a whole permutation is drawn: its first entries are the same as ever, and it takes milliseconds.
PERMUTED = 2**20


def random_subset(
    n: int, k: int, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """k of the numbers 0, ..., n - 1 without replacement, in random order, (k,).

    A permutation of all n takes a second at n = 5,000,000. Where n is large and k small against it, numbers are drawn
    with replacement and repeats dropped until there are k, which gives every ordered subset the same probability.

    Args:
        n: The number to choose from.
        k: How many are chosen, at most n.
        generator: The generator of the choice.
        device: The device of the result.
    """
    if n <= PERMUTED or 2 * k > n:
        return torch.randperm(n, generator=generator, device=device)[:k]
    chosen = torch.empty(0, dtype=torch.long, device=device)
    while len(chosen) < k:
        more = torch.randint(n, (2 * (k - len(chosen)) + 8,), generator=generator, device=device)
        both = torch.cat([chosen, more])
        values, places = both.unique(return_inverse=True)
        first = torch.full_like(values, len(both)).scatter_reduce_(
            0, places, torch.arange(len(both), device=device), "amin"
        )
        chosen = both[first.sort().values]
    return chosen[:k]
