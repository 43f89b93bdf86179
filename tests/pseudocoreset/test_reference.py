"""Algorithm 2 against an independent float64 reference that consumes the same random numbers."""

import pytest
import torch

import bype
from bype.distributions import EqualMixture, PixelBernoulli, PixelNormal, SquaredError
from bype.pseudocoreset import Algorithm2, ReferenceCode, coreset_metrics


def simplex(v, total):
    """The projection by bisection on the threshold, where the package sorts."""
    low, high = v.min() - total, v.max()
    for _ in range(200):
        middle = (low + high) / 2
        if (v - middle).clamp(min=0).sum() > total:
            low = middle
        else:
            high = middle
    return (v - high).clamp(min=0)


def log_likelihoods(model, z, points):
    """log p(point|z_s), (S, points), one pair at a time."""
    return torch.stack([torch.stack([model.decoder(s).log_prob(p) for p in points]) for s in z])


class ReferenceAdam:
    def __init__(self, like, rate):
        self.m, self.v, self.t, self.rate = torch.zeros_like(like), torch.zeros_like(like), 0, rate

    def step(self, value, gradient):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return value - self.rate * m / (v.sqrt() + 1e-8)


def reference(model, images, *, updates, steps, batch_size, generator):
    """Algorithm 2 as science states it: fresh moments at each update; z, the data batch and its binarisation drawn anew
    at each inner step, S = M."""
    u, w = model.prior.pseudo_inputs.clone(), model.prior.weights.clone()
    n, m, sigma = model.prior.n_data, len(w), model.prior.log_scale.exp()
    for _ in range(updates):
        adam_u, adam_w = ReferenceAdam(u, 1e-3), ReferenceAdam(w, 1e-3 * n / m)
        for _ in range(steps):
            loc = model.encoder(u).loc
            weights = w / n
            component = torch.multinomial(weights / weights.max(), m, replacement=True, generator=generator)
            noise = torch.randn(m, loc.shape[1], generator=generator, dtype=loc.dtype)
            z = loc[component] + sigma * noise
            index = torch.randperm(len(images), generator=generator)[:batch_size]
            x = images.scaled(index, dtype=torch.float64)
            if model.binary:
                x = torch.bernoulli(x, generator=generator)
            g = log_likelihoods(model, z, x)
            leaf = u.clone().requires_grad_()
            with torch.enable_grad():
                g_tilde = log_likelihoods(model, z, leaf)
            g, centred = g - g.mean(0), (g_tilde - g_tilde.mean(0)).detach()
            r = n / len(x) * g.sum(1) - centred @ w
            grad_w = -(r @ centred) / len(z)
            (grad_u,) = torch.autograd.grad(g_tilde, leaf, -(r[:, None] * w) / len(z))
            u, w = adam_u.step(u, grad_u).clamp(0, 1), simplex(adam_w.step(w, grad_w), n)
    return u, w


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_two_updates_of_three_inner_steps_are_those_of_the_reference(tiny, likelihood):
    model = bype.build_model(tiny, likelihood=likelihood, n_components=6, latent_dim=3, hidden_dim=8, seed=1).double()
    model.prior.pseudo_inputs.clamp_(0.02, 0.98)
    with torch.no_grad():
        expected = reference(
            model, tiny.train, updates=2, steps=3, batch_size=11, generator=torch.Generator().manual_seed(5)
        )
    strategy, generator = Algorithm2(steps=3, batch_size=11), torch.Generator().manual_seed(5)
    before = model.prior.pseudo_inputs.clone()
    for _ in range(2):
        strategy.update(model, tiny.train, generator)
    torch.testing.assert_close(model.prior.pseudo_inputs, expected[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(model.prior.weights, expected[1], rtol=1e-12, atol=1e-12)
    assert (model.prior.pseudo_inputs - before).abs().max() > 1e-3


def test_the_defaults_are_those_of_the_paper_and_ours():
    strategy = Algorithm2()
    assert (strategy.steps, strategy.lr, strategy.n_samples, strategy.batch_size) == (100, 1e-3, None, 100)


def test_points_outside_are_counted_on_both_sides(tiny):
    model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8)
    points = model.prior.pseudo_inputs
    points.clamp_(0.1, 0.9)
    assert coreset_metrics(model.prior, tiny.train)["coreset_outside"] == 0
    points.view(-1)[3], points.view(-1)[7] = 1.2, -0.1
    assert coreset_metrics(model.prior, tiny.train)["coreset_outside"] == pytest.approx(2 / points.numel())


def test_the_unit_variance_view_reaches_into_a_mixture_over_z1():
    from bype.pseudocoreset.published import _unit_variance as unit_variance

    loc = torch.rand(3, 2, 1, 4, 5)
    for p in (SquaredError(loc), PixelNormal(loc, torch.tensor(0.3))):
        view = unit_variance(EqualMixture(p))
        assert isinstance(view, EqualMixture)
        assert isinstance(view.components, PixelNormal)
        assert (view.components.scale == 1).all()
        x = torch.rand(1, 4, 5)
        expected = -0.5 * (x - loc).square().flatten(2).sum(-1) - 10 * torch.tensor(2 * torch.pi).log()
        torch.testing.assert_close(view.log_prob(x), expected.logsumexp(0) - torch.tensor(3.0).log())
    binary = PixelBernoulli(loc)
    assert unit_variance(binary) is binary


def published_reference(model, images, stored, *, passes, batch_size, generator):
    """The published code's step (ii): unit variance, zero-mean gradients of U, clipped w, shifted in the mixture."""
    u, used = model.prior.pseudo_inputs.clone(), model.prior.weights.clone()
    n, sigma, negative = model.prior.n_data, model.prior.log_scale.exp(), []
    adam_u, adam_w = ReferenceAdam(u, 0), ReferenceAdam(stored, 0)

    def log_likelihood(z, points):
        loc = torch.stack([model.decoder(s).loc for s in z])
        return -0.5 * (points - loc[:, None]).square().flatten(2).sum(-1)

    for _ in range(passes):
        adam_u.t = adam_w.t = 0
        order = torch.randperm(len(images), generator=generator)
        for j, index in enumerate(order.split(batch_size)):
            loc, weights = model.encoder(u).loc, used / n
            component = torch.multinomial(weights / weights.max(), len(u), replacement=True, generator=generator)
            z = loc[component] + sigma * torch.randn(len(u), loc.shape[1], generator=generator, dtype=loc.dtype)
            x = images.scaled(index, dtype=torch.float64)
            leaf = u.clone().requires_grad_()
            with torch.enable_grad():
                g_tilde = log_likelihood(z, leaf)
            g = log_likelihood(z, x)
            g, centred = g - g.mean(0), (g_tilde - g_tilde.mean(0)).detach()
            r = n / len(x) * g.sum(1) - centred @ stored
            grad_w = -(r @ centred) / len(z)
            (grad_u,) = torch.autograd.grad(g_tilde, leaf, -(r[:, None] * stored) / len(z))
            adam_u.rate = adam_w.rate = 0.5 / (j + 1)
            u = adam_u.step(u, grad_u - grad_u.flatten(1).mean(1)[:, None, None, None])
            stored = adam_w.step(stored, grad_w).clamp(min=0)
            shifted = stored + n / len(stored) - stored.mean()
            negative.append(int((shifted < 0).sum()))
            used = shifted.clamp(min=0) * n / shifted.clamp(min=0).sum()
    return u, used, stored, negative


def test_two_passes_of_the_published_code_are_those_of_the_reference(tiny):
    model = bype.build_model(tiny, likelihood="gaussian", n_components=6, latent_dim=3, hidden_dim=8, seed=1).double()
    model.prior.weights.copy_(torch.tensor([0.2, 40, 1, 0.5, 0, 6.3]) * model.prior.n_data / 48)
    started = 2 * model.prior.weights  # of a larger mean than N/M, so that the shift makes some negative
    with torch.no_grad():
        u, used, stored, negative = published_reference(
            model, tiny.train, started.clone(), passes=2, batch_size=11, generator=torch.Generator().manual_seed(5)
        )
    strategy, generator = ReferenceCode(batch_size=11), torch.Generator().manual_seed(5)
    strategy.load_state({"weights": started})
    counts = [strategy.update(model, tiny.train, generator)["coreset_negative_weights"] for _ in range(2)]
    torch.testing.assert_close(model.prior.pseudo_inputs, u, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.prior.weights, used, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(strategy.stored, stored, rtol=1e-9, atol=1e-9)
    assert (stored == 0).any(), "clipping is exercised"
    half = len(negative) // 2
    assert counts == [max(negative[:half]), max(negative[half:])]
    assert max(counts) > 0, "so is the shift"
