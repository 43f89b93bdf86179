import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from bype.core.names import LIKELIHOODS, PRIORS
from bype.data.splits import from_arrays
from bype.distributions.normal import DiagonalNormal
from bype.models.build import build_model
from bype.models.objectives import ElboTerms, elbo, iwae
from bype.models.vae import VAE

D, PIXELS, NOISE = 5, 8, 0.6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(loc, scale):
    return DiagonalNormal(*(torch.full((D,), value, dtype=torch.float64) for value in (loc, scale)))


# A model whose evidence is known: z ~ N(0, I), x|z ~ N(W z + b, s^2 I), W's columns orthogonal.


class Linear:
    def __init__(self, n=200):
        rng = np.random.default_rng(0)
        columns, _ = np.linalg.qr(rng.standard_normal((PIXELS, D)))
        lengths = np.array([2.0, 1.3, 0.8, 0.5, 0.1])
        self.w, self.b = torch.tensor(columns * lengths), torch.tensor(rng.standard_normal(PIXELS))
        covariance = (self.w @ self.w.T).numpy() + NOISE**2 * np.eye(PIXELS)
        law = scipy.stats.multivariate_normal(self.b, covariance)
        self.x = torch.tensor(law.rvs(n, random_state=rng))
        self.evidence = torch.tensor(law.logpdf(self.x.numpy()))
        self.variance = 1 / (1 + torch.tensor(lengths) ** 2 / NOISE**2)

    def model(self, widen=1.0, shift=0.0):
        """With an encoder of `widen` times the posterior variance and a mean off by `shift` posterior scales."""

        def encoder(x):
            mean = self.variance * ((x - self.b) @ self.w) / NOISE**2
            return DiagonalNormal(mean + shift * self.variance.sqrt(), (widen * self.variance).sqrt().expand_as(mean))

        def decoder(z):
            return DiagonalNormal(z @ self.w.T + self.b, torch.full((PIXELS,), NOISE, dtype=z.dtype))

        prior = normal(0.0, 1.0)
        return VAE(encoder, decoder, lambda encoder: prior)


WRONG = {"widen": 1.5, "shift": 0.5}
# KL(q || posterior) of that encoder.
GAP = D * 0.5 * (1.5 + 0.25 - 1 - math.log(1.5))


@pytest.fixture(scope="module")
def linear():
    return Linear()


def test_iwae_equals_the_evidence(linear):
    bound = iwae(linear.model(**WRONG), linear.x, 5000, generator=seeded())
    assert (bound - linear.evidence).mean().abs().item() <= 0.005  # 4 standard errors; 0.02 is required
    assert ((bound - linear.evidence).abs() < 0.1).all()  # per example


def test_iwae_at_one_sample_is_below_by_the_divergence(linear):
    model = linear.model(**WRONG)
    gaps = torch.stack([linear.evidence - iwae(model, linear.x, 1, generator=seeded(s)) for s in range(30)]).flatten()
    assert abs(gaps.mean().item() - GAP) <= 4 * gaps.std().item() / len(gaps) ** 0.5
    assert gaps.mean() > 10 * gaps.std() / len(gaps) ** 0.5


def test_iwae_grows_with_the_samples(linear):
    model = linear.model(**WRONG)
    bounds = [iwae(model, linear.x, s, generator=seeded(s)) for s in (1, 2, 5, 20, 100, 1000)]
    for fewer, more in itertools.pairwise(bounds):
        difference = more - fewer
        assert difference.mean() >= -3 * difference.std() / len(difference) ** 0.5
    assert (bounds[-1] - bounds[0]).mean() > 0.8 * GAP


@pytest.mark.parametrize("samples", [1, 3, 50])
def test_exact_encoder_gives_the_evidence_without_noise(linear, samples):
    for seed in range(2):
        bound = iwae(linear.model(), linear.x, samples, generator=seeded(seed))
        torch.testing.assert_close(bound, linear.evidence, rtol=1e-12, atol=1e-12)
    terms = elbo(linear.model(), linear.x, prior=linear.model().prior(None), generator=seeded())
    torch.testing.assert_close(terms.bound(), linear.evidence, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 7, 64, 1000, 10**6])
@pytest.mark.parametrize("samples", [1, 3, 50])
def test_chunks_change_nothing(linear, rows, samples):
    model, x = linear.model(**WRONG), linear.x[:30]
    whole = iwae(model, x, samples, generator=seeded(1))
    torch.testing.assert_close(iwae(model, x, samples, generator=seeded(1), rows=rows), whole, rtol=1e-12, atol=1e-12)
    assert not torch.equal(iwae(model, x, samples, generator=seeded(2), rows=rows), whole)


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_no_more_rows_are_decoded_at_once(linear, rows):
    model, decode, seen = linear.model(**WRONG), linear.model().decoder, []
    model.decoder = lambda z: seen.append(z.shape[:-1].numel()) or decode(z)
    iwae(model, linear.x[:20], 100, rows=rows)
    assert max(seen) <= rows
    assert sum(seen) == 20 * 100


@pytest.mark.parametrize("samples", [1, 40])
def test_examples_evaluated_together_or_one_by_one_agree(linear, samples):
    model, x = linear.model(**WRONG), linear.x[:25]
    generator = seeded(3)
    alone = torch.cat([iwae(model, item[None], samples, generator=generator) for item in x])
    torch.testing.assert_close(iwae(model, x, samples, generator=seeded(3)), alone, rtol=1e-12, atol=1e-12)


def test_iwae_of_one_sample_is_the_elbo(linear):
    model = linear.model(**WRONG)
    for i, item in enumerate(linear.x[:20]):
        expected = elbo(model, item[None], prior=model.prior(None), generator=seeded(i)).bound()
        torch.testing.assert_close(iwae(model, item[None], 1, generator=seeded(i)), expected, rtol=1e-12, atol=1e-12)


def test_iwae_uses_the_prior_argument(linear):
    model = linear.model()
    wider = normal(0.0, 3.0)
    given = iwae(model, linear.x, 10, prior=wider, generator=seeded())
    model.prior = lambda encoder: wider
    torch.testing.assert_close(iwae(model, linear.x, 10, generator=seeded()), given)
    assert not torch.allclose(given, linear.evidence)


@pytest.mark.parametrize(("samples", "rows"), [(0, 10), (-1, 10), (5, 0)])
def test_iwae_rejects_samples_and_rows_below_one(linear, samples, rows):
    with pytest.raises(ValueError, match=f"n_samples and rows: expected at least 1 each, got {samples} and {rows}"):
        iwae(linear.model(), linear.x, samples, rows=rows)


def test_elbo_is_its_two_terms(linear):
    model = linear.model(**WRONG)
    prior = normal(0.3, 1.2)
    terms = elbo(model, linear.x, prior=prior, generator=seeded(4))
    q = model.encoder(linear.x)
    z = q.loc + q.scale * torch.randn(q.loc.shape, generator=seeded(4), dtype=torch.float64)
    kl = scipy.stats.norm.logpdf(z, q.loc, q.scale).sum(1) - scipy.stats.norm.logpdf(z, 0.3, 1.2).sum(1)
    log_likelihood = scipy.stats.norm.logpdf(linear.x, z @ linear.w.T + linear.b, NOISE).sum(1)
    np.testing.assert_allclose(terms.kl, kl, rtol=1e-10)
    np.testing.assert_allclose(terms.log_likelihood, log_likelihood, rtol=1e-10)
    np.testing.assert_allclose(terms.bound(0.3), log_likelihood - 0.3 * kl, rtol=1e-10)
    np.testing.assert_allclose(ElboTerms(terms.log_likelihood, terms.kl).bound(), log_likelihood - kl, rtol=1e-10)


# The models that `build_model` makes, in training

SETTINGS = {
    "standard": {},
    "vamp": {"n_components": 7},
    "exemplar": {"exemplars": 20},
    "exemplar, retrieved": {"exemplars": 20, "retrieve": 3},
    "bype": {"n_components": 7},
}


@pytest.fixture(scope="module")
def data():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 3, 4), dtype=np.uint8)
    return from_arrays(pixels, levels=256)


def small_model(data, prior, likelihood="gaussian"):
    """In float64, with weights and sigma away from their initial values."""
    name = prior.split(",")[0]
    model = build_model(
        data, prior=name, likelihood=likelihood, latent_dim=3, hidden_dim=6, seed=1, **SETTINGS[prior]
    ).double()
    with torch.no_grad():
        if hasattr(model.prior, "log_scale"):
            model.prior.log_scale.fill_(-0.3)
        if hasattr(model.prior, "weights"):
            model.prior.weights.mul_(torch.linspace(0.5, 1.5, 7))
    model.prior.begin_epoch(model.encoder)
    return model


def training_batch(model, data, index):
    x = data.train.scaled(index, dtype=torch.float64)
    return (x > 0.5).double() if model.binary else x


def test_every_prior_is_tested():
    assert {name.split(",")[0] for name in SETTINGS} == set(PRIORS)


@pytest.mark.parametrize("likelihood", sorted(set(LIKELIHOODS) - {"mixed"}))  # of tables
@pytest.mark.parametrize("prior", SETTINGS)
def test_gradients_reach_every_parameter_and_are_finite_differences(data, prior, likelihood):
    model = small_model(data, prior, likelihood)
    index = torch.arange(10)

    def loss():
        terms = elbo(model, training_batch(model, data, index), index=index, generator=seeded(5))
        return -terms.bound(0.7).mean()

    loss().backward()
    directions = seeded(6)
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name
        direction = torch.randn(p.shape, generator=directions, dtype=p.dtype)
        direction = (direction + 3 * p.grad / p.grad.norm()) / direction.norm()  # never orthogonal to the gradient
        start, step, ends = p.detach().clone(), 1e-6, []
        for sign in (1, -1):
            with torch.no_grad():
                p.copy_(start + sign * step * direction)
                ends.append(loss().item())
        with torch.no_grad():
            p.copy_(start)
        slope = (p.grad * direction).sum().item()
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-7), name


@pytest.fixture
def noise_from_x(monkeypatch):
    """Posterior samples whose noise is a function of the example, not of its position in a batch."""

    original = DiagonalNormal.rsample_and_log_prob

    def from_x(self, noise=None, *, generator=None, path=False):
        return original(self, torch.sin(1e3 * self.loc) if noise is None else noise)

    monkeypatch.setattr(DiagonalNormal, "rsample_and_log_prob", from_x)


@pytest.mark.usefixtures("noise_from_x")
@pytest.mark.parametrize("prior", [p for p in SETTINGS if p != "exemplar, retrieved"])
def test_elbo_of_an_example_does_not_depend_on_its_batch(data, prior):
    # Except with `retrieve`, where the points retrieved for one row are used by the others too.
    model = small_model(data, prior)

    def terms(index):
        got = elbo(model, training_batch(model, data, index), index=index, generator=seeded(7))
        return torch.stack(got[:2], 1).detach()

    index = torch.arange(24)
    together = terms(index)
    order = torch.randperm(24, generator=seeded(8))
    torch.testing.assert_close(terms(order), together[order], rtol=1e-11, atol=1e-11)
    for size in (1, 5):
        parts = torch.cat([terms(part) for part in index.split(size)])
        torch.testing.assert_close(parts, together, rtol=1e-11, atol=1e-11)
    assert together.std(0).min() > 1e-3


@pytest.mark.parametrize("prior", SETTINGS)
def test_elbo_in_training_uses_the_prior_of_the_training_step(data, prior):
    model, index = small_model(data, prior), torch.arange(24)
    x = training_batch(model, data, index)
    generator = seeded(10)
    q, p = model.posterior_and_prior(x, index=index, generator=generator)
    z = q.rsample(generator=generator)
    expected = q.log_prob(z) - p.log_prob(z)
    kl = elbo(model, x, index=index, generator=seeded(10)).kl
    torch.testing.assert_close(kl, expected, rtol=1e-12, atol=1e-12)
    if prior == "exemplar":  # without leave-one-out, each row's own point lowers its KL
        assert (elbo(model, x, generator=seeded(10)).kl < kl - 1e-3).any()


@pytest.mark.parametrize("prior", PRIORS)
def test_elbo_with_a_prior_argument_equals_iwae(data, prior):
    model = small_model(data, prior)
    p = model.prior(model.encoder)
    x = data.test.scaled(slice(0, 1), dtype=torch.float64)
    for seed in range(3):
        expected = elbo(model, x, prior=p, generator=seeded(seed)).bound()
        torch.testing.assert_close(iwae(model, x, 1, generator=seeded(seed)), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("prior", PRIORS)
def test_kl_of_many_samples_agrees_with_numpy(data, prior):
    model = small_model(data, prior)
    p = model.prior(model.encoder)
    x = data.test.scaled(slice(0, 1), dtype=torch.float64).expand(4000, -1, -1, -1)
    kl = elbo(model, x, prior=p, generator=seeded(9)).kl.detach()
    q = model.encoder(x[:1])
    if prior == "standard":
        expected, error = 0.5 * (q.variance + q.loc**2 - 1 - q.variance.log()).sum().item(), 0.0
    else:
        rng = np.random.default_rng(0)
        mu, sd = q.loc[0].detach().numpy(), q.scale[0].detach().numpy()
        z = mu + sd * rng.standard_normal((4000, 3))
        weights = p.log_weights.exp().detach().numpy()
        normals = [
            scipy.stats.multivariate_normal(m.detach().numpy(), np.diag(s.detach().numpy() ** 2))
            for m, s in zip(p.loc, p.scale.expand_as(p.loc), strict=True)
        ]
        density = sum(w * n.pdf(z) for w, n in zip(weights, normals, strict=True))
        other = scipy.stats.norm.logpdf(z, mu, sd).sum(1) - np.log(density)
        expected, error = other.mean(), other.std() / 4000**0.5
    assert abs(kl.mean().item() - expected) <= 4 * math.hypot(error, kl.std().item() / 4000**0.5)
