import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import nn

from bype.distributions.pixels import DiscretizedLogistic, PixelBernoulli, PixelNormal, SquaredError
from bype.networks.likelihoods import Bernoulli, Gaussian, Logistic, MeanSquaredError

SHAPE = (2, 3, 4)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def positive(*shape, seed=0):
    return 0.3 + uniform(*shape, seed=seed)


def one_pixel(values):
    """Values of one pixel as a batch of images."""
    return torch.as_tensor(values)[:, None, None, None]


def bins(levels, dtype=torch.float32):
    """The pixel values of data with that many levels: (v + 1/2)/L."""
    return (torch.arange(levels).to(dtype) + 0.5) / levels


# Densities and probabilities are normalised


@pytest.mark.parametrize("spread", [0.1, 2.0, 50.0])
def test_bernoulli_sums_to_one_over_all_patterns(spread):
    patterns = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8)), dtype=torch.float64).view(-1, 1, 2, 4)
    p = PixelBernoulli(spread * randn(1, 2, 4))
    assert p.log_prob(patterns).exp().sum().item() == pytest.approx(1, abs=1e-6)


LOCATIONS = [-5.0, -0.1, 0.0, 0.3, 0.4999, 0.5, 1.0, 1.1, 7.0]
SCALES = [1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0]


@pytest.mark.parametrize("levels", [256, 17, 2])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loc", LOCATIONS)
def test_logistic_sums_to_one_over_its_bins(loc, scale, levels):
    p = DiscretizedLogistic(torch.full((1, 1, 1), loc), torch.tensor(scale), levels)
    log_prob = p.log_prob(one_pixel(bins(levels)))
    assert log_prob.double().exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_normal_pixels_integrate_to_one(scale):
    grid = torch.linspace(-12 * scale, 12 * scale, 4001) + 0.3
    p = PixelNormal(torch.full((1, 1, 1), 0.3), torch.tensor(scale))
    assert torch.trapezoid(p.log_prob(one_pixel(grid)).exp(), grid).item() == pytest.approx(1, abs=1e-4)


def test_squared_error_with_its_constant_integrates_to_one():
    # Two pixels, so that the constant's d/2 is not 1/2.
    grid = torch.linspace(-6, 6, 401, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid).view(-1, 1, 1, 2)
    density = (SquaredError(torch.tensor([[[0.2, 0.7]]], dtype=torch.float64)).log_prob(x) - math.log(math.pi)).exp()
    inner = torch.trapezoid(density.view(401, 401), grid)
    assert torch.trapezoid(inner, grid).item() == pytest.approx(1, abs=1e-4)


# Against references


def test_squared_error_is_a_normal_of_variance_one_half_without_its_constant():
    loc, x = randn(5, *SHAPE), randn(5, *SHAPE, seed=1)
    expected = scipy.stats.norm.logpdf(x, loc, math.sqrt(0.5)).sum((1, 2, 3)) + 24 / 2 * math.log(math.pi)
    p = SquaredError(loc)
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-12)
    assert torch.equal(p.variance, torch.full_like(loc, 0.5))


@pytest.mark.parametrize("shape", [(), SHAPE])
def test_normal_pixels_are_scipys(shape):
    loc, x, scale = randn(5, *SHAPE), randn(5, *SHAPE, seed=1), positive(*shape)
    p = PixelNormal(loc, scale)
    np.testing.assert_allclose(p.log_prob(x), scipy.stats.norm.logpdf(x, loc, scale).sum((1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(p.variance, np.broadcast_to(scale.numpy() ** 2, loc.shape))


def test_bernoulli_is_scipys():
    logits, x = 3 * randn(5, *SHAPE), (uniform(5, *SHAPE) < 0.5).double()
    expected = scipy.stats.bernoulli.logpmf(x, scipy.special.expit(logits.numpy())).sum((1, 2, 3))
    np.testing.assert_allclose(PixelBernoulli(logits).log_prob(x), expected, rtol=1e-12)


def test_bernoulli_between_zero_and_one_is_the_mean_over_binarisations():
    patterns = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64).view(-1, 1, 2, 3)
    x, p = uniform(1, 2, 3), PixelBernoulli(2 * randn(1, 2, 3))
    chance = (patterns * x + (1 - patterns) * (1 - x)).flatten(1).prod(1)
    torch.testing.assert_close(p.log_prob(x), chance @ p.log_prob(patterns))


def logistic_reference(loc, scale, v, levels):
    """log of the difference of two float64 cdfs, taken in the tail where the difference is accurate."""
    lower, upper = (v / levels - loc) / scale, ((v + 1) / levels - loc) / scale
    lower, upper = np.where(v == 0, -np.inf, lower), np.where(v == levels - 1, np.inf, upper)
    flip = lower > 0  # 1 - cdf(t) = cdf(-t)
    lower, upper = np.where(flip, -upper, lower), np.where(flip, -lower, upper)
    return np.log(scipy.special.expit(upper) - scipy.special.expit(lower))


@pytest.mark.parametrize("levels", [256, 17])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loc", LOCATIONS)
def test_logistic_is_a_difference_of_cdfs(loc, scale, levels):
    loc, scale = torch.full((1, 1, 1), loc), torch.tensor(scale)
    with np.errstate(divide="ignore"):
        expected = logistic_reference(loc.double().item(), scale.double().item(), np.arange(levels), levels)
    seen = expected > -700  # float64's exponential ends there
    log_prob = DiscretizedLogistic(loc, scale, levels).log_prob(one_pixel(bins(levels)))
    assert seen.any()
    np.testing.assert_allclose(log_prob.double().numpy()[seen], expected[seen], rtol=5e-6, atol=5e-6)


def test_logistic_has_a_scale_per_pixel():
    loc, scale = uniform(5, *SHAPE), positive(*SHAPE)
    v = torch.randint(256, (5, *SHAPE), generator=torch.Generator().manual_seed(1))
    expected = logistic_reference(loc.numpy(), scale.numpy(), v.numpy(), 256).sum((1, 2, 3))
    np.testing.assert_allclose(DiscretizedLogistic(loc, scale).log_prob((v + 0.5) / 256), expected, rtol=1e-9)


PIXELS = {
    "squared error": lambda t, s: SquaredError(t),
    "normal": PixelNormal,
    "bernoulli": lambda t, s: PixelBernoulli(t),
    "logistic": DiscretizedLogistic,
}


@pytest.mark.parametrize("make", PIXELS.values(), ids=PIXELS)
def test_several_decoded_images_per_example(make):
    # (S, B) images from the decoder, B examples.
    loc, x = uniform(7, 5, *SHAPE), bins(256, torch.float64)[:120].view(5, *SHAPE)
    p = make(loc, positive(*SHAPE))
    assert p.batch_shape == (7, 5)
    assert p.event_shape == SHAPE
    each = torch.stack([make(loc[s, b], positive(*SHAPE)).log_prob(x[b]) for s in range(7) for b in range(5)])
    torch.testing.assert_close(p.log_prob(x), each.view(7, 5))


# Far out, in float32


@pytest.mark.parametrize("scale", [1e-4, 0.01, 10.0])
@pytest.mark.parametrize("loc", [-1e3, -3.0, 0.5, 4.0, 1e3])
def test_logistic_is_finite_far_in_its_tails(loc, scale):
    loc = torch.full((256, 1, 1, 1), loc, requires_grad=True)
    scale = torch.tensor(scale, requires_grad=True)
    log_prob = DiscretizedLogistic(loc, scale).log_prob(one_pixel(bins(256)))
    d_loc, d_scale = torch.autograd.grad(log_prob.sum(), [loc, scale])
    assert log_prob.isfinite().all()
    assert (log_prob <= 0).all()
    assert d_loc.isfinite().all()
    assert d_scale.isfinite()
    # The gradient always points towards the bin: to a smaller location if it is on the left, to a larger on the right.
    distance = one_pixel(bins(256)) - loc.detach()
    out = distance.abs() > 1 / 512 + 10 * scale.detach()
    out[[0, -1]] = False  # open bins
    torch.testing.assert_close(d_loc[out], (distance.sign() / scale.detach())[out], rtol=0.01, atol=0)


@pytest.mark.parametrize("logit", [-1e4, -100.0, 100.0, 1e4])
def test_bernoulli_is_finite_far_in_its_tails(logit):
    logits = torch.full((2, 1, 1, 1), logit, requires_grad=True)
    log_prob = PixelBernoulli(logits).log_prob(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    torch.testing.assert_close(log_prob, torch.tensor([-max(logit, 0.0), min(logit, 0.0)]))
    (slope,) = torch.autograd.grad(log_prob.sum(), logits)
    torch.testing.assert_close(slope.flatten(), torch.tensor([-1.0, 0.0] if logit > 0 else [0.0, 1.0]))


# The likelihood modules


def test_mean_squared_error_clamps_to_the_pixels_of_8_bits():
    image = torch.tensor([-3.0, 0.0, 1 / 512, 0.4, 511 / 512, 1.0, 2.0]).view(1, 1, 1, 7).requires_grad_()
    p = MeanSquaredError()(image)
    expected = torch.tensor([1 / 512, 1 / 512, 1 / 512, 0.4, 511 / 512, 511 / 512, 511 / 512])
    torch.testing.assert_close(p.mean.flatten(), expected)
    torch.testing.assert_close(p.log_prob(torch.zeros(1, 1, 1, 7)), -expected.square().sum()[None])
    assert MeanSquaredError.normalised is False


def test_gaussian_scales():
    learned, fixed = Gaussian(0.2), Gaussian(0.2, learned=False)
    per_pixel = Gaussian(0.2, shape=SHAPE)
    image, x = randn(3, *SHAPE, dtype=torch.float32), randn(3, *SHAPE, seed=1, dtype=torch.float32)
    expected = scipy.stats.norm.logpdf(x.double(), image.double(), 0.2).sum((1, 2, 3))
    for module in (learned, fixed, per_pixel):
        np.testing.assert_allclose(module(image).log_prob(x).detach(), expected, rtol=1e-5)
    assert [p.shape for p in learned.parameters()] == [()]
    assert list(fixed.parameters()) == []
    assert "raw_scale" in fixed.state_dict()
    assert [p.shape for p in per_pixel.parameters()] == [SHAPE]


def test_gaussian_scale_has_a_floor():
    module = Gaussian()
    with torch.no_grad():
        module.raw_scale.fill_(-1e4)
    assert module.scale.item() == pytest.approx(1 / 512)
    # Pixels that never change: the density stays finite.
    assert module(torch.zeros(1, *SHAPE)).log_prob(torch.zeros(1, *SHAPE)).item() == pytest.approx(
        24 * (math.log(512) - 0.5 * math.log(2 * math.pi)), rel=1e-5
    )


@pytest.mark.parametrize("scale", [1 / 512, 0.0, -1.0, math.nan])
def test_gaussian_refuses_a_scale_below_its_floor(scale):
    with pytest.raises(ValueError, match="scale: expected a value above 1/512, got"):
        Gaussian(scale)


def test_gaussian_scale_moves_towards_the_residuals():
    residuals = 0.1 * randn(2000, 1, 1, 1, dtype=torch.float32)
    best = residuals.square().mean().sqrt().item()
    gradients = []
    for scale in (0.5 * best, best, 2 * best):
        module = Gaussian(scale)
        module(torch.zeros_like(residuals)).log_prob(residuals).mean().backward()
        gradients.append(module.raw_scale.grad.item())
    assert gradients[0] > 1
    assert gradients[1] == pytest.approx(0, abs=1e-3)
    assert gradients[2] < -0.5


def test_bernoulli_module_reads_log_odds():
    image = randn(3, *SHAPE)
    x = (uniform(3, *SHAPE) < 0.5).double()
    expected = -nn.functional.binary_cross_entropy_with_logits(image, x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli()(image).log_prob(x), expected)
    torch.testing.assert_close(Bernoulli()(image).mean, image.sigmoid())
    assert Bernoulli.binary
    assert not any(c.binary for c in (MeanSquaredError, Gaussian, Logistic))
    assert all(c.normalised for c in (Bernoulli, Gaussian, Logistic))


def test_logistic_module():
    module = Logistic(SHAPE, scale=0.05, levels=17)
    assert isinstance(module.raw_scale, nn.Parameter)
    assert module.scale.shape == SHAPE
    torch.testing.assert_close(module.scale.detach(), torch.full(SHAPE, 0.05))
    image = uniform(3, *SHAPE, dtype=torch.float32)
    x = bins(17)[torch.randint(17, (3, *SHAPE), generator=torch.Generator().manual_seed(1))]
    expected = DiscretizedLogistic(image, torch.tensor(0.05), 17).log_prob(x)
    torch.testing.assert_close(module(image).log_prob(x).detach(), expected)
    with torch.no_grad():
        module.raw_scale.fill_(-1e4)
    torch.testing.assert_close(module.scale.detach(), torch.full(SHAPE, 1e-4))


# Samples

N = 40_000


def draws(p, seed=0):
    x = p.sample((N,), generator=torch.Generator().manual_seed(seed))
    assert x.shape == (N, *p.loc.shape)
    assert not x.requires_grad
    assert torch.equal(x, p.sample((N,), generator=torch.Generator().manual_seed(seed)))
    return x


@pytest.mark.parametrize(
    ("p", "variance"),
    [
        (SquaredError(uniform(2, *SHAPE)), torch.full((2, *SHAPE), 0.5)),
        (PixelNormal(uniform(2, *SHAPE), torch.tensor(0.3).double()), torch.full((2, *SHAPE), 0.09)),
        (PixelNormal(uniform(2, *SHAPE), positive(*SHAPE)), positive(*SHAPE).square().expand(2, *SHAPE)),
        (
            PixelBernoulli(2 * randn(2, *SHAPE)),
            (2 * randn(2, *SHAPE)).sigmoid() * (1 - (2 * randn(2, *SHAPE)).sigmoid()),
        ),
    ],
    ids=["squared error", "normal", "normal per pixel", "bernoulli"],
)
def test_draws_have_the_mean_and_variance(p, variance):
    x = draws(p)
    squares = (x - p.mean).square()
    # 48 pixels: 4.5 standard errors each.
    assert ((x.mean(0) - p.mean).abs() <= 4.5 * (variance / N).sqrt()).all()
    assert ((squares.mean(0) - variance).abs() <= 4.5 * squares.std(0) / N**0.5 + 1e-6).all()


def test_bernoulli_draws_are_binary():
    assert draws(PixelBernoulli(randn(*SHAPE))).unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("loc", [-0.3, 0.1, 0.5, 0.9, 1.5])
@pytest.mark.parametrize("scale", [0.02, 0.2])
def test_logistic_draws_fall_into_bins_by_their_probabilities(loc, scale):
    p = DiscretizedLogistic(torch.full((1, 1, 1), loc), torch.tensor(scale), 17)
    x = draws(p).flatten()
    probability = p.log_prob(one_pixel(bins(17))).exp().double().numpy()
    v = (17 * x - 0.5).round().long()
    torch.testing.assert_close(x, bins(17)[v])  # centres of bins, as data are
    counts = v.bincount(minlength=17).numpy()
    rare = N * probability < 5
    observed, expected = counts[~rare], N * probability[~rare]
    if rare.any():
        observed = np.append(observed, counts[rare].sum())
        expected = np.append(expected, N * probability[rare].sum())
    if expected[-1] < 5:  # too rare to be compared
        assert observed[-1] <= 20
        observed, expected = observed[:-1], expected[:-1]
    if len(observed) > 1:
        statistic = ((observed - expected) ** 2 / expected).sum()
        assert scipy.stats.chi2.sf(statistic, len(observed) - 1) > 1e-3
    else:
        assert observed[0] >= N - 20


def test_logistic_mean_is_a_pixel():
    loc = torch.tensor([-2.0, 0.3, 5.0]).view(1, 1, 3)
    p = DiscretizedLogistic(loc, torch.tensor(0.01))
    torch.testing.assert_close(p.mean.flatten(), torch.tensor([1 / 512, 0.3, 511 / 512]))
    x = draws(p).double()
    assert ((x.mean(0) - p.mean).abs() <= 4 * x.std(0) / N**0.5 + 1e-6).all()
