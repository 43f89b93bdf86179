"""Random subsets by repeated draws are uniform, ordered and free of repeats, as those by a permutation are."""

import itertools

import pytest
import scipy.stats
import torch

from bype.core import sampling
from bype.core.sampling import random_subset


@pytest.fixture
def by_draws(monkeypatch):
    monkeypatch.setattr(sampling, "PERMUTED", 3)


def test_every_ordered_subset_is_as_probable(by_draws):
    generator = torch.Generator().manual_seed(0)
    counts = dict.fromkeys(itertools.permutations(range(6), 3), 0)
    for _ in range(12_000):
        counts[tuple(random_subset(6, 3, generator).tolist())] += 1
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize(("n", "k"), [(10_000, 1), (10_000, 500), (10_000, 5000), (4, 2)])
def test_no_number_twice_and_none_out_of_range(by_draws, n, k):
    for seed in range(20):
        chosen = random_subset(n, k, torch.Generator().manual_seed(seed))
        assert len(chosen) == len(chosen.unique()) == k
        assert 0 <= chosen.min() <= chosen.max() < n


def test_small_sets_keep_their_permutation():
    """Checkpoints of earlier versions resume to the same bits."""
    expected = torch.randperm(50_000, generator=torch.Generator().manual_seed(3))[:500]
    assert torch.equal(random_subset(50_000, 500, torch.Generator().manual_seed(3)), expected)
