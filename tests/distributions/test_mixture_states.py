"""Mixtures under autocast, and categorical samples at the edge of a cumulative sum."""

import pytest
import torch

from bype.distributions import DiagonalMixture, IsotropicMixture, mixtures
from bype.distributions.em import em_step, fit_em
from bype.distributions.mixtures import inverse_cdf_sample


def leaves(kind, generator):
    loc = torch.randn(30, 5, generator=generator).mul_(4).requires_grad_()
    scale = torch.rand(30, 5, generator=generator).add_(0.2) if kind is DiagonalMixture else torch.tensor(0.3)
    z = torch.randn(40, 5, generator=generator).mul_(4).requires_grad_()
    log_weights = torch.randn(30, generator=generator).requires_grad_()
    return z, loc, scale.requires_grad_(), log_weights


@pytest.mark.parametrize("kind", [IsotropicMixture, DiagonalMixture])
def test_the_gradient_is_the_same_inside_and_outside_autocast(kind):
    """Backward too: products in bfloat16 would lose all but three digits."""

    def gradients(inside):
        z, loc, scale, log_weights = own = leaves(kind, torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            kind(loc, scale, log_weights.log_softmax(0)).log_prob(z).sum().backward()
        return [t.grad for t in own]

    for inside, outside in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(inside, outside)


def test_inversion_never_draws_a_component_without_weight(monkeypatch):
    """A uniform number of exactly 0 lies at the end of the first component's empty interval, not inside it."""
    monkeypatch.setattr(
        torch, "rand", lambda n, **options: torch.tensor([0.0, 0.25, 0.999999, 0.0][:n], dtype=options["dtype"])
    )
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0])
    assert mixtures.inverse_cdf_sample(weights, 4).tolist() == [1, 3, 3, 1]


def test_draws_by_inversion_have_the_shares_of_the_weights():
    weights = torch.tensor([1.0, 0.0, 2.0, 5.0])
    drawn = inverse_cdf_sample(weights, 20_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / 20_000
    torch.testing.assert_close(shares, weights / 8, rtol=0, atol=0.02)  # six standard errors
    assert shares[1] == 0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_em_takes_the_steps_asked_for_and_the_likelihood_rises(steps):
    samples = [torch.randn(40, 2, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3)]

    def start(n):
        return fit_em(samples, 4, torch.Generator().manual_seed(7), steps=n, tolerance=-1, report=lambda text: None)

    loc, log_weights, sigma = start(steps - 1)
    centre = torch.cat(samples).mean(0)
    if steps == 1:  # no step: equal weights, means at samples
        assert torch.equal(log_weights, torch.full_like(log_weights, 0.25).log())
        assert torch.cdist(loc, torch.cat(samples)).amin(1).max() < 1e-6
    loc, log_weights, variance, before = em_step(samples, loc - centre, log_weights, sigma**2, centre)
    found = start(steps)
    torch.testing.assert_close(found[0], loc + centre, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found[1], log_weights, rtol=1e-8, atol=1e-8)
    assert found[2] == pytest.approx(variance**0.5, rel=1e-8)
    assert em_step(samples, loc, log_weights, variance, centre)[3] >= before
