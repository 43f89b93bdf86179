"""A mixture over cached means, of which some are computed again: values, gradients, selection."""

import pytest
import torch

from bype.distributions import retrieved
from bype.distributions.mixtures import IsotropicMixture
from bype.distributions.retrieved import CachedMeans, RetrievedMixture

CASES = [(500, 7, 5, 3), (5000, 10, 6, 5), (33, 4, 2, 1), (1024, 3, 4, 1024)]


def case(n, rows, dim, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    loc = torch.randn(n, dim, generator=g, dtype=dtype)
    z = torch.randn(rows, dim, generator=g, dtype=dtype, requires_grad=True)
    scale = torch.tensor(0.7, dtype=dtype, requires_grad=True)
    own = torch.randint(n, (rows,), generator=g)
    own[1] = -1  # not among the n
    return loc, z, scale, own


def leave_one_out(n, own, dtype=torch.float64):
    """Log mixing weights, (B, n)."""
    weights = -(n - (own >= 0).to(dtype)).log().unsqueeze(1).expand(-1, n)
    return weights.masked_fill(own.unsqueeze(1) == torch.arange(n), -torch.inf)


@pytest.fixture(params=[2**18, 2**12])
def tile(request, monkeypatch):
    monkeypatch.setitem(retrieved.TILE_TERMS, "cpu", request.param)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize(("n", "rows", "dim", "k"), CASES)
def test_with_fresh_means_equal_to_the_cached_it_is_the_full_mixture(n, rows, dim, k):
    loc, z, scale, own = case(n, rows, dim)
    seen = []

    def encode(index):
        seen.append(index)
        return loc[index]

    value = RetrievedMixture(CachedMeans.of(loc), scale, encode, k, own).log_prob(z)
    weights = leave_one_out(n, own)
    full = IsotropicMixture(loc, scale, weights).log_prob(z)
    torch.testing.assert_close(value, full, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(*(torch.autograd.grad(v.sum(), (z, scale)) for v in (value, full)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    distances = torch.cdist(z.detach(), loc).masked_fill(weights.isinf(), torch.inf)
    wanted = set() if k == n else set(distances.topk(k, largest=False).indices.flatten().tolist())
    assert len(seen[0]) == n if k == n else set(seen[0].tolist()) == wanted


@pytest.mark.usefixtures("tile")
def test_the_gradients_are_those_of_finite_differences():
    loc, z, scale, own = case(400, 5, 3)
    shift = torch.full((3,), 0.1, dtype=torch.float64, requires_grad=True)  # of the means that are computed again

    def value(z, scale, shift):
        fixed = RetrievedMixture(CachedMeans.of(loc), scale, lambda i: loc[i] + shift, 4, own)
        return fixed.log_prob(z)

    assert torch.autograd.gradcheck(value, (z, scale, shift), eps=1e-6, atol=1e-6)


def test_parts_of_the_gradient_average_to_all_of_it(monkeypatch):
    loc, z, scale, own = case(5000, 6, 4)
    monkeypatch.setitem(retrieved.TILE_TERMS, "cpu", 2**12)
    mixture = RetrievedMixture(CachedMeans.of(loc), scale, lambda i: loc[i], 3, own)
    exact = torch.autograd.grad((whole := mixture.log_prob(z)).sum(), (z, scale))
    monkeypatch.setattr(retrieved, "SAMPLED", 4)
    parts = []
    for part in range(4):
        monkeypatch.setattr(mixture, "_part", lambda part=part: part)
        value = mixture.log_prob(z)
        torch.testing.assert_close(value, whole, rtol=1e-12, atol=0)
        parts.append(torch.autograd.grad(value.sum(), (z, scale)))
    assert not torch.allclose(parts[0][0], exact[0])
    for i in range(2):
        torch.testing.assert_close(sum(p[i] for p in parts) / 4, exact[i], rtol=1e-9, atol=1e-9)


def test_far_latents_neither_overflow_nor_underflow(monkeypatch):
    # The first tile lies far away from z, the last one at it.
    monkeypatch.setitem(retrieved.TILE_TERMS, "cpu", 2**10)
    loc, z, _, own = case(3000, 2, 3, dtype=torch.float32)
    loc[:1500] += 30
    scale = torch.tensor(0.5)
    value = RetrievedMixture(CachedMeans.of(loc), scale, lambda i: loc[i], 2, own).log_prob(z)
    full = IsotropicMixture(loc, scale, leave_one_out(3000, own, torch.float32)).log_prob(z)
    torch.testing.assert_close(value, full, rtol=1e-4, atol=1e-4)
    value.sum().backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sigma", [0.5, 0.1])
def test_gradients_are_those_of_the_full_mixture_where_little_else_than_the_retrieved_is_left(sigma, seed, monkeypatch):
    monkeypatch.setitem(retrieved.TILE_TERMS, "cpu", 2**10)
    loc = 10 * case(3000, 4, 3, seed, torch.float32)[0]
    own, scale = torch.full((4,), -1), torch.tensor(sigma, requires_grad=True)
    z = (loc[1500:1504] + sigma * case(4, 4, 3, seed + 1, torch.float32)[0]).requires_grad_()
    few = RetrievedMixture(CachedMeans.of(loc), scale, lambda i: loc[i], 2, own)
    full = IsotropicMixture(loc, scale, leave_one_out(3000, own, torch.float32))
    mine, theirs = (torch.autograd.grad(p.log_prob(z).sum(), (z, scale)) for p in (few, full))
    torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-2 / sigma)
