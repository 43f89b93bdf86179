"""Two levels of latents, tested on a linear model whose evidence is known."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from bype.core.errors import InputError
from bype.distributions.normal import DiagonalNormal
from bype.distributions.pixels import PixelNormal
from bype.models.generation import decode_line
from bype.models.objectives import elbo, iwae
from bype.models.two_level import TwoLevelVAE
from bype.models.vae import VAE
from bype.priors.standard import StandardPrior

TOP, LOWER, PIXELS = 2, 3, 6
STEP, NOISE = 0.7, 0.6  # the standard deviations of z1|z2 and of x|z1,z2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(loc, scale):
    return DiagonalNormal(loc, torch.as_tensor(scale, dtype=loc.dtype).expand_as(loc))


class Map(torch.nn.Module):
    """A function as a network, with the width of z1 if it returns a distribution over it."""

    def __init__(self, function, latent_dim=LOWER):
        super().__init__()
        self.function, self.latent_dim = function, latent_dim

    def forward(self, *args):
        return self.function(*args)


class Linear:
    """z2 ~ N(0, I), z1|z2 ~ N(A z2, 0.49 I), x|z1,z2 ~ N(V z1 + W z2 + b, 0.36 I), V's columns orthogonal.

    With orthogonal columns the exact q(z1|x,z2) is diagonal.
    """

    def __init__(self, n=100):
        rng = np.random.default_rng(0)
        columns, _ = np.linalg.qr(rng.standard_normal((PIXELS, LOWER)))
        lengths = np.array([1.5, 1.0, 0.5])
        self.v, self.lengths = torch.tensor(columns * lengths), torch.tensor(lengths)
        self.a, self.w = (
            torch.tensor(rng.standard_normal((LOWER, TOP))),
            torch.tensor(rng.standard_normal((PIXELS, TOP))),
        )
        self.b = torch.tensor(rng.standard_normal(PIXELS))
        # x given z2 is N(G z2 + b, C).
        self.g = self.v @ self.a + self.w
        self.c = STEP**2 * self.v @ self.v.T + NOISE**2 * torch.eye(PIXELS, dtype=torch.float64)
        law = scipy.stats.multivariate_normal(self.b, (self.g @ self.g.T + self.c).numpy())
        self.x = torch.tensor(law.rvs(n, random_state=rng))
        self.evidence = torch.tensor(law.logpdf(self.x.numpy()))
        precision = torch.linalg.solve(self.c, self.g)
        self.covariance = torch.linalg.inv(torch.eye(TOP, dtype=torch.float64) + self.g.T @ precision)
        self.gain = precision @ self.covariance  # of z2's posterior mean

    def lower_posterior(self, x, z):
        """The mean and standard deviation of the exact q(z1|x,z2)."""
        variance = 1 / (1 / STEP**2 + self.lengths**2 / NOISE**2)
        residual = x - z @ self.w.T - self.b
        return variance * (z @ self.a.T / STEP**2 + residual @ self.v / NOISE**2), variance.sqrt()

    def model(self, widen=1.0, shift=0.0):
        """Both encoders with the scale multiplied by `widen` and the mean off by `shift` exact scales.

        The encoder of z2 is diagonal, although the exact posterior is not.
        """
        scale = self.covariance.diagonal().sqrt()

        def lower(x, z):
            loc, sd = self.lower_posterior(x, z)
            return normal(loc + shift * sd, widen * sd)

        def decoder(z):
            z1, z2 = z.split((LOWER, TOP), -1)
            return normal(z1 @ self.v.T + z2 @ self.w.T + self.b, NOISE)

        return TwoLevelVAE(
            Map(lambda x: normal((x - self.b) @ self.gain + shift * scale, widen * scale)),
            Map(decoder),
            StandardPrior(TOP).double(),
            Map(lower),
            Map(lambda z: normal(z @ self.a.T, STEP)),
        )


WRONG = {"widen": 1.3, "shift": 0.4}


@pytest.fixture(scope="module")
def linear():
    return Linear()


def test_iwae_equals_the_evidence_although_both_encoders_are_wrong(linear):
    bound = iwae(linear.model(**WRONG), linear.x, 5000, generator=seeded())
    assert (bound - linear.evidence).mean().abs() <= 0.02
    assert ((bound - linear.evidence).abs() < 0.25).all()


def test_the_elbo_is_below_by_the_divergence_of_both_levels(linear):
    model = linear.model(**WRONG)
    gaps = torch.stack([linear.evidence - elbo(model, linear.x, generator=seeded(s)).bound() for s in range(60)])
    # KL(q(z2|x) || p(z2|x)) + KL(q(z1|x,z2) || p(z1|x,z2)), the same for every x and z2.
    lower = LOWER * 0.5 * (1.3**2 + 0.4**2 - 1 - 2 * math.log(1.3))
    scale = linear.covariance.diagonal().sqrt()
    exact = torch.distributions.MultivariateNormal(torch.zeros(TOP, dtype=torch.float64), linear.covariance)
    wrong = torch.distributions.MultivariateNormal(0.4 * scale, torch.diag((1.3 * scale) ** 2))
    top = torch.distributions.kl_divergence(wrong, exact).item()
    assert abs(gaps.mean() - lower - top) <= 4 * gaps.std() / gaps.numel() ** 0.5
    assert top > 0.3 < lower


def test_the_terms_of_the_bound_equal_their_formulas(linear):
    model = linear.model(**WRONG)
    terms = elbo(model, linear.x, generator=seeded(4))
    g = seeded(4)
    q2 = model.encoder(linear.x)
    z2 = q2.sample(generator=g)
    loc, sd = linear.lower_posterior(linear.x, z2)
    loc, sd = loc + 0.4 * sd, 1.3 * sd
    z1 = loc + sd * torch.randn(loc.shape, generator=g, dtype=torch.float64)
    norm = scipy.stats.norm.logpdf
    kl_z1 = norm(z1, loc, sd).sum(1) - norm(z1, z2 @ linear.a.T, STEP).sum(1)
    kl_z2 = norm(z2, q2.loc, q2.scale).sum(1) - norm(z2, 0, 1).sum(1)
    log_likelihood = norm(linear.x, z1 @ linear.v.T + z2 @ linear.w.T + linear.b, NOISE).sum(1)
    np.testing.assert_allclose(terms.kl_z1, kl_z1, rtol=1e-10)
    np.testing.assert_allclose(terms.kl, kl_z1 + kl_z2, rtol=1e-10)
    np.testing.assert_allclose(terms.bound(0.3), log_likelihood - 0.3 * (kl_z1 + kl_z2), rtol=1e-10)


@pytest.mark.parametrize("samples", [1, 9])
def test_an_idle_lower_level_leaves_the_one_level_bound(linear, samples):
    two = linear.model(**WRONG)
    two.lower_encoder = Map(lambda x, z: two.lower_prior(z))
    two.decoder = Map(lambda z: normal(z[..., LOWER:] @ linear.w.T + linear.b, NOISE))
    one = VAE(two.encoder, Map(lambda z: normal(z @ linear.w.T + linear.b, NOISE)), two.prior)
    for i, x in enumerate(linear.x[:20, None]):
        torch.testing.assert_close(
            iwae(two, x, samples, generator=seeded(i)), iwae(one, x, samples, generator=seeded(i))
        )
    got, expected = (elbo(m, linear.x, generator=seeded()) for m in (two, one))
    torch.testing.assert_close(got[:2], expected[:2])
    assert got.kl_z1.abs().max() < 1e-14


@pytest.mark.parametrize("rows", [1, 7, 64, 10**6])
def test_chunks_change_nothing(linear, rows):
    model, x = linear.model(**WRONG), linear.x[:12]
    whole = iwae(model, x, 20, generator=seeded(1))
    torch.testing.assert_close(iwae(model, x, 20, generator=seeded(1), rows=rows), whole, rtol=1e-12, atol=1e-12)
    one = torch.cat([iwae(model, item[None], 1, generator=seeded(3)) for item in x])
    bound = torch.cat([elbo(model, item[None], generator=seeded(3)).bound() for item in x])
    torch.testing.assert_close(one, bound)


def test_generation_has_the_model_s_mean_and_covariance(linear):
    x = linear.model().sample(100_000, generator=seeded()).images
    torch.testing.assert_close(x.mean(0), linear.b, atol=0.05, rtol=0)
    clean = linear.g @ linear.g.T + STEP**2 * linear.v @ linear.v.T  # the mean of p(x|z1,z2), without its noise
    torch.testing.assert_close(x.T.cov(), clean, atol=0.15, rtol=0)
    assert (clean - linear.g @ linear.g.T).abs().max() > 0.5, "z1 is sampled"


def test_interpolation_is_linear_in_z2_with_z1_at_its_mean(linear):
    model = linear.model()
    images = decode_line(model, *(model.encoder(linear.x[i : i + 3]).loc for i in (0, 3)), 5)
    ends = [model.encoder(linear.x[i : i + 3]).loc @ linear.g.T + linear.b for i in (0, 3)]
    for step in range(5):
        torch.testing.assert_close(images[:, step], torch.lerp(*ends, step / 4))
    with pytest.raises(InputError, match="steps: expected a whole number from 2"):
        decode_line(model, linear.x[:1], linear.x[:1], 1)


def test_reconstruction_is_at_the_means_of_both_posteriors(linear):
    z = (linear.x - linear.b) @ linear.gain
    loc, _ = linear.lower_posterior(linear.x, z)
    expected = loc @ linear.v.T + z @ linear.w.T + linear.b
    torch.testing.assert_close(linear.model()._reconstruct(linear.x), expected)


# Step (ii): p(x|z2) by samples of z1


def images_of(linear):
    """The linear model with its pixels as an image of 1x2x3."""
    model = linear.model()
    flat = model.decoder
    model.decoder = Map(
        lambda z: PixelNormal(flat(z).loc.unflatten(-1, (1, 2, 3)), torch.tensor(NOISE, dtype=torch.float64))
    )
    return model


def test_the_likelihood_given_z2_approaches_its_closed_form_from_below(linear):
    model = images_of(linear)
    z = torch.randn(40, TOP, generator=seeded(), dtype=torch.float64)
    means = z @ linear.g.T + linear.b
    x = means + torch.randn(means.shape, generator=seeded(1), dtype=torch.float64) @ torch.linalg.cholesky(linear.c).T
    exact = torch.tensor(
        [scipy.stats.multivariate_normal(m, linear.c).logpdf(v) for m, v in zip(means, x, strict=True)]
    )
    gaps = {}
    for draws in (1, 10, 20_000):
        p = model.likelihood(z, draws, generator=seeded(2))
        assert p.batch_shape == (40,)
        gaps[draws] = (exact - p.log_prob(x.view(40, 1, 2, 3))).mean().item()
    assert gaps[1] > gaps[10] > 0.05, "Jensen: few samples give too low a value"
    assert abs(gaps[20_000]) < 0.02


def test_the_same_samples_of_z1_are_used_for_every_image(linear):
    model = images_of(linear)
    z = torch.randn(5, TOP, generator=seeded(), dtype=torch.float64)
    lower = z @ linear.a.T + STEP * torch.randn(3, 5, LOWER, generator=seeded(7), dtype=torch.float64)
    p = model.likelihood(z, 3, generator=seeded(7))
    for x in torch.rand(4, 1, 2, 3, dtype=torch.float64):
        means = lower @ linear.v.T + z @ linear.w.T + linear.b
        log_p = scipy.stats.norm.logpdf(x.flatten().numpy(), means, NOISE).sum(-1)
        np.testing.assert_allclose(p.log_prob(x), scipy.special.logsumexp(log_p, 0) - math.log(3), rtol=1e-10)
