"""Priors fitted to posteriors, and the parts of the pseudocoreset prior at their limits."""

import math

import pytest
import torch

import bype
from bype.distributions import IsotropicMixture
from bype.priors.fitted import FittedMixture


def test_a_fitted_prior_is_the_mixture_of_its_tensors():
    loc, weights = torch.tensor([[0.0, 1.0], [2.0, -1.0]]), torch.tensor([0.25, 0.75])
    prior = FittedMixture(loc, weights.log(), torch.tensor(0.5).log())
    z = torch.tensor([[0.3, 0.4], [5.0, 5.0]])
    squares = (z[:, None] - loc).square().sum(-1)
    terms = weights.log() - squares / (2 * 0.25) - math.log(2 * math.pi * 0.25)
    torch.testing.assert_close(prior(None).log_prob(z), terms.logsumexp(1))
    assert set(prior.state_dict()) == {"loc", "log_weights", "log_scale"}
    assert isinstance(prior.mixture(None, z, z), IsotropicMixture)
    assert prior.step_points() is None
    moved = FittedMixture(*(torch.zeros_like(t) for t in (loc, weights, prior.log_scale)))
    moved.load_state_dict(prior.state_dict())
    torch.testing.assert_close(moved(None).log_prob(z), terms.logsumexp(1))


def test_components_at_training_items_show_them_once_these_are_given(tiny):
    items = torch.tensor([5, 0, len(tiny.train) - 1])
    prior = FittedMixture(torch.zeros(3, 2), torch.full((3,), 1 / 3).log(), torch.zeros(()), items=items)
    assert prior.lacks_items
    assert prior.points_at(torch.tensor([0])) is None
    prior.attach_items(tiny.train)
    assert not prior.lacks_items
    assert torch.equal(prior.points_at(torch.tensor([2, 0])), tiny.train.scaled(items[[2, 0]]))
    prior.items = items + 1
    with pytest.raises(ValueError, match=f"rows of the {len(tiny.train)} training examples"):
        prior.attach_items(tiny.train)
    by_em = FittedMixture(torch.zeros(3, 2), torch.zeros(3), torch.zeros(()))
    by_em.attach_items(tiny.train)
    assert not by_em.lacks_items
    assert by_em.points_at(torch.tensor([0])) is None


def test_as_many_items_as_the_weights_sum_to_and_no_more(tiny):
    prior = bype.build_model(tiny, n_components=6, latent_dim=2, hidden_dim=4).prior
    prior.check_items(tiny.train)
    prior.n_data -= 1
    with pytest.raises(ValueError, match=f"expected the {len(tiny.train) - 1} training items"):
        prior.check_items(tiny.train)


def test_after_a_step_learned_points_are_images_and_weights_sum_to_n(tiny):
    prior = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=4, coreset="elbo").prior
    with torch.no_grad():
        prior.log_weights.copy_(torch.tensor([0.0, 1.0, 2.0, 0.0]) * math.log(2))
        prior.pseudo_inputs.view(-1)[:2] = torch.tensor([-0.5, 1.5])
    prior.after_step()
    torch.testing.assert_close(prior.weights, prior.n_data * torch.tensor([1, 2, 4, 1]) / 8)
    assert prior.pseudo_inputs.detach().view(-1)[:2].tolist() == [0, 1]
    fixed = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=4, coreset="paper").prior
    before = fixed.weights.clone()
    fixed.after_step()
    assert torch.equal(fixed.weights, before)
