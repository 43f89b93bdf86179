"""Tests of step (ii): the gradient of Algorithm 2, its four properties, the projection, the strategies."""

import gc
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import bype
from bype.core.graphs import Capture
from bype.core.precision import cumsum_by_products
from bype.distributions.mixtures import IsotropicMixture
from bype.distributions.pixels import (
    DiscretizedLogistic,
    EqualMixture,
    PixelBernoulli,
    PixelNormal,
    SquaredError,
    linear_in_x,
)
from bype.priors.exemplar import ExemplarPrior
from bype.priors.pseudocoreset import PseudocoresetPrior
from bype.pseudocoreset import gradient as gradient_module
from bype.pseudocoreset.elbo import Elbo
from bype.pseudocoreset.fixed import Fixed
from bype.pseudocoreset.gradient import CoresetGradient, coreset_gradient, gradient_by_pairs
from bype.pseudocoreset.paper import Algorithm2
from bype.pseudocoreset.published import ReferenceCode
from bype.pseudocoreset.simplex import project_to_simplex
from bype.pseudocoreset.strategy import coreset_metrics
from bype.training.trainer import Trainer

SHAPE = (1, 2, 3)
KINDS = ["mse", "gaussian", "gaussian per pixel", "bernoulli", "logistic"]
# As for two levels with several samples of z1: the mean of p(x|z1,z2) over the samples.
DRAWN = [f"{kind}, 4 draws" for kind in KINDS]


def decoder(kind, n_samples, seed=0):
    """p(x|z_s) for S latents, as from a decoder, in float64."""
    g = torch.Generator().manual_seed(seed)
    if kind.endswith(", 4 draws"):
        return EqualMixture(one_draw(kind.removesuffix(", 4 draws"), g, 4, n_samples))
    return one_draw(kind, g, n_samples)


def one_draw(kind, g, *batch):
    image = torch.rand(*batch, *SHAPE, generator=g, dtype=torch.float64)
    if kind == "mse":
        return SquaredError(image)
    if kind == "gaussian":
        return PixelNormal(image, torch.tensor(0.7, dtype=torch.float64))
    if kind == "gaussian per pixel":
        return PixelNormal(image, 0.3 + torch.rand(SHAPE, generator=g, dtype=torch.float64))
    if kind == "bernoulli":
        return PixelBernoulli(4 * image - 2)
    return DiscretizedLogistic(image, torch.tensor(0.2, dtype=torch.float64))


def problem(n=12, m=4, seed=1):
    g = torch.Generator().manual_seed(seed)
    x = 0.1 + 0.8 * torch.rand(n, *SHAPE, generator=g, dtype=torch.float64)
    u = 0.1 + 0.8 * torch.rand(m, *SHAPE, generator=g, dtype=torch.float64)
    w = torch.rand(m, generator=g, dtype=torch.float64) * n / m
    return x, u, w


def log_probs(p, points):
    return torch.stack([p.log_prob(x) for x in points], 1)  # (S, points)


def divergence(p, x, u, w, u0, w0, n_data):
    """D(U, w) = sum_s pi_s log(pi_s / rho_s), the latents and (U_0, w_0) constants."""
    a, a0 = log_probs(p, u) @ w, log_probs(p, u0) @ w0
    b = n_data / len(x) * log_probs(p, x).sum(1)
    log_pi, log_rho = (a - a0).log_softmax(0), (b - a0).log_softmax(0)
    return (log_pi.exp() * (log_pi - log_rho)).sum()


@pytest.mark.parametrize("kind", KINDS + DRAWN)
def test_the_gradient_is_that_of_the_divergence(kind):
    p, (x, u0, w0) = decoder(kind, 7), problem()
    gradient = coreset_gradient(p, x[:5], u0, w0, len(x))
    u, w = u0.clone().requires_grad_(), w0.clone().requires_grad_()
    divergence(p, x[:5], u, w, u0, w0, len(x)).backward()
    torch.testing.assert_close(gradient.pseudo_inputs, u.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient.weights, w.grad, rtol=1e-9, atol=1e-12)

    def moved(du, dw):
        return divergence(p, x[:5], u0 + du, w0 + dw, u0, w0, len(x))

    h = 1e-6
    for i in range(w0.numel()):
        d = torch.zeros_like(w0)
        d[i] = h
        numeric = (moved(0, d) - moved(0, -d)) / (2 * h)
        torch.testing.assert_close(gradient.weights[i], numeric, rtol=1e-5, atol=1e-7)
    for i in range(u0.numel()):
        d = torch.zeros_like(u0)
        d.view(-1)[i] = h
        numeric = (moved(d, 0) - moved(-d, 0)) / (2 * h)
        torch.testing.assert_close(gradient.pseudo_inputs.view(-1)[i], numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS[:4] + DRAWN[:4])
def test_the_closed_form_is_the_sum_over_pairs(kind, monkeypatch):
    monkeypatch.setattr(gradient_module, "PAIR_ELEMENTS", 4 * 9 * 3)  # several chunks
    p, (x, u, w) = decoder(kind, 9), problem()
    assert linear_in_x(getattr(p, "components", p)) is not None
    for a, b in zip(coreset_gradient(p, x, u, w, 40), gradient_by_pairs(p, x, u, w, 40 / len(x)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_linear_in_x_leaves_only_a_term_of_x(kind):
    p, (x, _, _) = decoder(kind, 6), problem()
    eta, log_normaliser = linear_in_x(p)
    rest = log_probs(p, x) - (x.flatten(1) @ eta.flatten(1).T).T + log_normaliser[:, None]
    torch.testing.assert_close(rest, rest[:1].expand_as(rest))


@pytest.mark.parametrize("kind", KINDS[:4])
def test_truth_1_nothing_is_left_to_learn_once_the_sums_match(kind):
    p, (x, u, w) = decoder(kind, 8), problem()
    w = w * len(x) / w.sum()
    u = u + (x.sum(0) - torch.einsum("m,m...->...", w, u)) / len(x)  # now sum w u = sum x
    gradient = coreset_gradient(p, x, u, w, len(x))
    assert max(g.abs().max() for g in gradient) < 1e-10
    off = coreset_gradient(p, x, u + 0.01, w, len(x))
    assert off.pseudo_inputs.abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS + DRAWN)
def test_truth_2_all_points_shift_alike(kind):
    p, (x, u, w) = decoder(kind, 8), problem()
    per_weight = coreset_gradient(p, x, u, w, len(x)).pseudo_inputs / w[:, None, None, None]
    spread = (per_weight - per_weight[0]).abs().max() / per_weight.abs().max()
    assert (spread < 1e-12) if kind in KINDS[:4] else (spread > 1e-3), (
        "except for logistic, and for several samples of z1"
    )


def test_truth_3_mixture_draws_give_a_biased_gradient_of_eq_17():
    # One dimension, decoder N(x; z, 1), p_0 = N(0, 1): Eq. 15-16 are normal densities over z, and the gradient of
    # KL(p(z|U, w) || p(z|X)) is known by quadrature. Samples of the mixture of Eq. 12 give another gradient.
    z = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    x = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    u, w = torch.tensor([-1.5, 1.0], dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64)

    def potential(points, weights):
        return -0.5 * (weights * (points - z[:, None]) ** 2).sum(1)

    def kl(w):
        log_u = potential(u, w) - 0.5 * z**2
        log_x = potential(x, torch.ones_like(x)) - 0.5 * z**2
        log_u = log_u - torch.trapezoid(log_u.exp(), z).log()
        log_x = log_x - torch.trapezoid(log_x.exp(), z).log()
        return torch.trapezoid(log_u.exp() * (log_u - log_x), z)

    exact = torch.autograd.functional.jacobian(kl, w)

    def gradient(draws):
        p = SquaredError((draws / 2**0.5)[:, None, None, None])  # so that -||x/sqrt 2 - xhat||^2 is the potential
        pixels = [t[:, None, None, None] / 2**0.5 for t in (x, u)]
        return coreset_gradient(p, *pixels, w, 3).weights

    g = torch.Generator().manual_seed(0)
    precision = 1 + w.sum()
    posterior = (w * u).sum() / precision + torch.randn(400_000, generator=g, dtype=torch.float64) / precision.sqrt()
    torch.testing.assert_close(gradient(posterior), exact, rtol=0.02, atol=0.02)
    mixture = IsotropicMixture(u[:, None], torch.tensor(1.0, dtype=torch.float64), (w / 3).log())
    biased = gradient(mixture.sample((400_000,), generator=g)[:, 0])
    assert (biased - exact).abs().max() > 0.3


def test_truth_4_the_data_themselves_are_a_fixed_point(tiny):
    model = small(tiny, n_components=48).double()
    x = tiny.train.scaled(dtype=torch.float64)
    prior = PseudocoresetPrior(x, len(x)).double()
    torch.testing.assert_close(prior.weights, torch.ones(48, dtype=torch.float64))
    p = model.decoder(torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    gradient = coreset_gradient(p, x, prior.pseudo_inputs, prior.weights, len(x))
    elsewhere = coreset_gradient(p, x, 0.9 * prior.pseudo_inputs, prior.weights, len(x))
    for here, there in zip(gradient, elsewhere, strict=True):
        assert here.abs().max() < 1e-9 * there.abs().max()
    z = torch.randn(30, 3, dtype=torch.float64)
    exemplar = ExemplarPrior(tiny.train, 10).double()
    torch.testing.assert_close(prior(model.encoder).log_prob(z), exemplar(model.encoder).log_prob(z))


@pytest.mark.parametrize("kind", KINDS + DRAWN)
def test_two_equal_points_of_half_the_weight_move_as_one(kind):
    p, (x, u, w) = decoder(kind, 8), problem()
    whole = coreset_gradient(p, x, u, w, len(x))
    split = coreset_gradient(p, x, torch.cat([u, u[:1]]), torch.cat([w[:1] / 2, w[1:], w[:1] / 2]), len(x))
    torch.testing.assert_close(split.weights[:4], whole.weights)
    torch.testing.assert_close(split.weights[4], whole.weights[0])
    torch.testing.assert_close(split.pseudo_inputs[0] + split.pseudo_inputs[4], whole.pseudo_inputs[0])


# The projection


@settings(max_examples=200)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.floats(1e-2, 1e4), st.integers(0, 2**31))
def test_projection_is_the_nearest_point_of_the_simplex(values, total, seed):
    v = torch.tensor(values, dtype=torch.float64)
    w = project_to_simplex(v, total)
    assert w.min() >= 0
    assert w.sum().item() == pytest.approx(total, rel=1e-9)
    # The optimality condition of the quadratic programme: <v - w, y - w> <= 0 for every corner y, hence every point.
    corners = total * torch.eye(len(v), dtype=torch.float64)
    slack = ((v - w) * (corners - w)).sum(1)
    assert slack.max() <= 1e-8 * (1 + total) * (1 + v.abs().max())


def test_projection_agrees_with_a_quadratic_programme():
    rng = np.random.default_rng(0)
    for _ in range(10):
        v = rng.normal(size=6) * 3
        solved = minimize(
            lambda w, v=v: ((w - v) ** 2).sum(), np.full(6, 0.5), bounds=[(0, None)] * 6,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 3}, options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        np.testing.assert_allclose(project_to_simplex(torch.tensor(v), 3.0), solved.x, atol=1e-5)


def test_projection_in_float32_keeps_the_sum():
    w = project_to_simplex(torch.full((500,), 100.0) + torch.randn(500), 50_000)
    assert w.double().sum().item() == pytest.approx(50_000, rel=1e-6)


def test_projection_is_the_same_by_the_sums_that_a_gpu_takes(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    for m in (1, 5, 500):
        v = 100 + 30 * torch.randn(m, generator=generator, dtype=torch.float64)
        expected = project_to_simplex(v, 100.0 * m)
        with monkeypatch.context() as patched:
            patched.setattr(bype.pseudocoreset.simplex, "deterministic_cumsum", cumsum_by_products)
            torch.testing.assert_close(project_to_simplex(v, 100.0 * m), expected, rtol=1e-12, atol=1e-9)


# The strategies


def small(data, **options):
    return bype.build_model(data, **({"n_components": 8, "latent_dim": 3, "hidden_dim": 16} | options))


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("likelihood", ["mse", "gaussian", "bernoulli", "logistic"])
def test_paper_keeps_the_constraints_and_nears_the_data_s_mean(tiny, likelihood):
    model = small(tiny, likelihood=likelihood)
    before = coreset_metrics(model.prior, tiny.train)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    Algorithm2(steps=150, lr=3e-3, batch_size=48).update(model, tiny.train, generator())
    after = coreset_metrics(model.prior, tiny.train)
    assert model.prior.weights.min() >= 0
    assert model.prior.weights.sum().item() == pytest.approx(48, rel=1e-6)
    assert after["coreset_outside"] == 0
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, start[k])}
    assert moved == {"prior.pseudo_inputs", "prior.weights"}, "the networks do not change"
    if likelihood == "mse":
        assert after["coreset_mean_distance"] < 0.7 * before["coreset_mean_distance"]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 4), st.floats(1e-4, 1.0), st.integers(0, 99)), min_size=1, max_size=4))
def test_weights_stay_on_the_simplex_through_any_sequence(tiny, sequence):
    model = small(tiny)
    for steps, lr, seed in sequence:
        Algorithm2(steps=steps, lr=lr).update(model, tiny.train, torch.Generator().manual_seed(seed))
        assert model.prior.weights.min() >= 0
        assert model.prior.weights.sum().item() == pytest.approx(48, rel=1e-5)
        assert model.prior.pseudo_inputs.min() >= 0
        assert model.prior.pseudo_inputs.max() <= 1


def test_published_moves_every_point_by_one_vector_of_zero_pixel_mean(tiny):
    model = small(tiny)
    seen = []

    class Spy(ReferenceCode):
        pass

    from bype.pseudocoreset.adam import Adam

    original = Adam.step

    def step(self, gradient, rates):
        seen.append((gradient, self.params[1].clone(), rates, int(self.count) + 1))
        original(self, gradient, rates)

    Adam.step = step
    try:
        strategy = Spy(batch_size=16)
        strategy.update(model, tiny.train, generator())
        strategy.update(model, tiny.train, generator())
    finally:
        Adam.step = original
    assert len(seen) == 6, "one pass of mini-batches at each update"
    assert [t for *_, t in seen] == [1, 2, 3, 1, 2, 3], "j restarts, while the moments persist"
    assert [r[0] for *_, r, _ in seen] == pytest.approx([0.5, 0.25, 0.5 / 3] * 2)
    for gradient, stored, _, _ in seen:
        assert isinstance(gradient, CoresetGradient)
        used = stored > 1e-3
        per_weight = gradient.pseudo_inputs[used] / stored[used][:, None, None, None]
        torch.testing.assert_close(per_weight, per_weight[:1].expand_as(per_weight), rtol=1e-3, atol=1e-4)
        assert gradient.pseudo_inputs.flatten(1).mean(1).abs().max() < 1e-3 * gradient.pseudo_inputs.abs().max() + 1e-6
    assert strategy.stored.min() >= 0
    assert model.prior.weights.min() >= 0
    assert model.prior.weights.sum().item() == pytest.approx(48, rel=1e-5)
    assert coreset_metrics(model.prior, tiny.train)["coreset_outside"] > 0, "U is unbounded"


def test_published_shifts_its_weights_keeps_its_moments_and_takes_variance_1(tiny, monkeypatch):
    scales = []

    def spy(likelihoods, *args):
        scales.append(likelihoods.scale)
        return coreset_gradient(likelihoods, *args)

    monkeypatch.setattr(bype.pseudocoreset.paper, "coreset_gradient", spy)
    kept, cleared = ((small(tiny, likelihood="gaussian"), ReferenceCode(batch_size=24)) for _ in range(2))
    for model, strategy in (kept, cleared):
        g = generator()
        strategy.update(model, tiny.train, g)
        shifted = strategy.stored + 48 / len(strategy.stored) - strategy.stored.mean()
        used = shifted.clamp(min=0)
        torch.testing.assert_close(model.prior.weights, used * (48 / used.sum()))
        if strategy is cleared[1]:
            strategy.moments = {}
        strategy.update(model, tiny.train, g)
    assert all(torch.equal(s, torch.ones_like(s)) for s in scales)
    assert not torch.equal(kept[0].prior.pseudo_inputs, cleared[0].prior.pseudo_inputs)


def test_paper_s_rate_on_the_weights_is_n_over_m_times_that_on_the_points(tiny):
    model = small(tiny)
    step, adam = Algorithm2(steps=1, lr=1e-3).prepare(model, tiny.train, generator())
    rates = []
    adam.step = lambda gradient, given: rates.append(given)
    step()
    assert rates == [pytest.approx([1e-3, 1e-3 * 48 / len(model.prior.weights)])]


def test_elbo_moves_points_and_weights_in_every_network_step(tiny):
    model = small(tiny, coreset="elbo")
    start = {k: v.clone() for k, v in model.prior.state_dict().items()}
    trainer = Trainer(model, tiny, lr=0.0)
    assert isinstance(trainer.strategy, Elbo)
    trainer.steps.network_step(torch.arange(20), 1.0)
    # Adam's first step has the size of the learning rate for any gradient: 1e-3, not the networks' 0.
    step = (model.prior.pseudo_inputs.detach() - start["pseudo_inputs"]).abs().max().item()
    assert step == pytest.approx(1e-3, rel=0.01)
    assert not torch.equal(model.prior.weights, start["weights"])
    for _ in range(30):
        trainer.steps.network_step(torch.arange(20), 1.0)
    assert model.prior.weights.sum().item() == pytest.approx(48, rel=1e-5)
    assert model.prior.pseudo_inputs.min() >= 0
    assert model.prior.pseudo_inputs.max() <= 1


def test_none_moves_nothing_and_the_default_is_paper(tiny):
    model = small(tiny)
    trainer = Trainer(model, tiny, epochs=2, coreset_interval=1, strategy=Fixed())
    before = model.prior.pseudo_inputs.clone()
    assert all(i.coreset == {} for i in trainer)
    assert torch.equal(model.prior.pseudo_inputs, before)
    assert isinstance(Trainer(model, tiny).strategy, Algorithm2)
    assert isinstance(Trainer(small(tiny, prior="vamp"), tiny).strategy, Fixed)


@pytest.mark.parametrize("strategy", [Algorithm2(steps=3), ReferenceCode(), Elbo()])
def test_updates_come_every_k_epochs_with_their_metrics(tiny, strategy):
    model = small(tiny, coreset="elbo" if strategy.learned else "paper")
    infos = list(Trainer(model, tiny, epochs=6, coreset_interval=3, strategy=strategy))
    assert [bool(i.coreset) for i in infos] == [False, False, True] * 2
    wanted = {"coreset_mean_distance", "coreset_outside"}
    if not strategy.learned:
        wanted |= {"val_loss_before_update", "seconds_coreset"}
    assert all(wanted <= i.coreset.keys() for i in infos if i.coreset)
    assert all(math.isfinite(v) for i in infos for v in i.coreset.values())


def test_a_strategy_needs_a_pseudocoreset(tiny):
    with pytest.raises(ValueError, match="pseudocoreset prior, but got VampPrior"):
        Algorithm2().update(small(tiny, prior="vamp"), tiny.train, generator())


def test_a_captured_inner_step_belongs_to_its_data_and_generator(tiny, monkeypatch):
    captured = []

    def capture(step, mutated, generator, what):  # as on CUDA, which keeps the graph but not the closure
        captured.append(generator.initial_seed())
        return Capture(lambda: None, failed=False)

    monkeypatch.setattr("bype.pseudocoreset.paper.capture", capture)
    model, strategy = small(tiny), Algorithm2(steps=1)
    for seed in range(4):
        strategy.update(model, tiny.train.first(20), torch.Generator().manual_seed(seed))
        gc.collect()
    assert captured == [0, 1, 2, 3]


DTYPES = (torch.float32, torch.float64)


class Offset:
    """Log-likelihoods of a pixel's value plus a large constant, one row per latent."""

    batch_shape = (3,)
    slopes = torch.tensor([1.0, 2.0, 5.0])

    def log_prob(self, x):
        return 65536 + self.slopes.to(x.dtype) * x.sum()


def test_a_constant_of_the_log_likelihood_is_not_seen_in_float32():
    x, u = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(4, 1, 1, 1), torch.tensor([2.0, 1.0, 1.0, 4.0]).view(4, 1, 1, 1)
    single, double = (gradient_by_pairs(Offset(), x.to(t), u.to(t), torch.ones(4, dtype=t), 1.0) for t in DTYPES)
    torch.testing.assert_close(single.weights, double.weights.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single.pseudo_inputs, double.pseudo_inputs.float(), rtol=1e-5, atol=1e-5)
