"""Mixtures under autocast, and categorical samples at the edge of a cumulative sum."""

import pytest
import torch

from bype.distributions import DiagonalMixture, IsotropicMixture, mixtures


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
