import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import nn

import bype
from bype.data.images import Images
from bype.data.splits import from_arrays
from bype.distributions.mixtures import DiagonalMixture, IsotropicMixture
from bype.distributions.normal import DiagonalNormal
from bype.models.build import build_model
from bype.models.objectives import elbo, iwae
from bype.models.vae import VAE
from bype.networks.base import Decoder, Encoder
from bype.networks.layers import init_dense
from bype.networks.likelihoods import MeanSquaredError
from bype.networks.mlp import MLPDecoder, MLPEncoder
from bype.priors.exemplar import ExemplarPrior
from bype.priors.pseudocoreset import PseudocoresetPrior
from bype.priors.standard import StandardPrior
from bype.priors.vamp import VampPrior
from bype.training.trainer import train as train_model

SHAPE, D, N = (1, 3, 4), 3, 40


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def train():
    pixels = np.random.default_rng(0).integers(0, 256, (50, *SHAPE), dtype=np.uint8)
    images = from_arrays(pixels, levels=256).train
    assert len(images) == N
    return images


@pytest.fixture
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MLPEncoder(SHAPE, 8, D)
        init_dense(net)
    with torch.no_grad():
        net.loc_head.weight.mul_(3)  # well-separated means
    return net.double()


def with_sigma(prior, log_sigma=-0.3):
    with torch.no_grad():
        prior.double().log_scale.fill_(log_sigma)
    return prior


def exemplar(train, n=20, retrieve=None):
    return with_sigma(ExemplarPrior(train, n, retrieve))


def pseudocoreset(train, m=6, weights=None):
    prior = with_sigma(PseudocoresetPrior(train.scaled(slice(m), dtype=torch.float64), N))
    if weights is not None:
        prior.weights.copy_(torch.tensor(weights))
    return prior


def vamp(train, m=6):
    points = train.scaled(slice(m), dtype=torch.float64)
    return VampPrior(points + 0.3 * torch.randn(points.shape, generator=seeded(1), dtype=torch.float64))


MAKE = {
    "standard": lambda train: StandardPrior(D).double(),
    "vamp": vamp,
    "exemplar": exemplar,
    "exemplar, retrieved": lambda train: exemplar(train, retrieve=3),
    "bype": lambda train: pseudocoreset(train, weights=[20.0, 10.0, 5.0, 3.0, 2.0, 0.0]),
}


def latents(n=8, seed=3):
    return 2 * torch.randn(n, D, generator=seeded(seed), dtype=torch.float64)


def log_mixture(z, loc, scale, weights=None):
    """log sum_m weights_m N(z; loc_m, scale_m^2) of one z, in numpy; equal weights by default."""
    loc = loc.detach().numpy()
    weights = np.full(len(loc), 1 / len(loc)) if weights is None else weights
    terms = scipy.stats.norm.logpdf(z.numpy(), loc, np.broadcast_to(scale, loc.shape)).sum(1)
    return scipy.special.logsumexp(terms, b=weights)


def rows_of(images, train):
    """The rows of images in the training set."""
    same = (images[:, None] == train.scaled(dtype=images.dtype)).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1)


def density(prior, encoder, points, z):
    return prior.mixture(encoder, encoder.features(points.images), points.log_weights).log_prob(z).detach()


# Exemplar: leave one out

INDEX = torch.tensor([0, 3, 5, 8, 13, 21, 21, 34])


@pytest.mark.parametrize("n", [2, 20, N])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_row_leaves_its_own_point_out(train, encoder, n, seed):
    prior, z = exemplar(train, n), latents()
    points = prior.step_points(INDEX, seeded(seed))
    drawn = rows_of(points.images, train)
    assert len(drawn.unique()) == n
    loc, sigma = encoder(points.images).loc, math.exp(-0.3)
    others = [drawn != own for own in INDEX]
    expected = [log_mixture(row, loc[other], sigma) for row, other in zip(z, others, strict=True)]
    np.testing.assert_allclose(density(prior, encoder, points, z), expected, rtol=1e-11)
    if n == 20:  # some rows are in the sample and some are not
        assert {other.sum().item() for other in others} == {19, 20}


def test_exemplars_are_resampled_uniformly(train):
    prior, counts, generator = exemplar(train), torch.zeros(N), seeded()
    for _ in range(500):
        counts[rows_of(prior.step_points(INDEX, generator).images, train)] += 1
    # Each of the 40 is in a sample with probability 1/2: 4.5 standard errors.
    assert (counts - 250).abs().max() <= 4.5 * math.sqrt(500 / 4)
    first, second = (rows_of(prior.step_points(INDEX, seeded(2)).images, train) for _ in range(2))
    assert torch.equal(first, second)


def test_without_an_index_no_point_is_left_out(train, encoder):
    prior, z = exemplar(train), latents()
    points = prior.step_points(None, seeded())
    loc = encoder(points.images).loc
    expected = [log_mixture(row, loc, math.exp(-0.3)) for row in z]
    np.testing.assert_allclose(density(prior, encoder, points, z), expected, rtol=1e-11)


# Exemplar: retrieval


def k_nearest(means, z, own, drawn, k):
    """The k of `drawn`, without `own`, whose means are nearest to z."""
    others = [j for j in drawn.tolist() if j != own]
    return set(sorted(others, key=lambda j: (means[j] - z).norm().item())[:k])


def encoded_rows(prior, encoder, train, z, seed=0, index=None):
    """The rows that a step encodes, and its density at z."""
    index = INDEX[: len(z)] if index is None else index
    seen = []
    handle = encoder.hidden.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    density = prior.step_prior(encoder, index, seeded(seed)).log_prob(z)
    handle.remove()
    return rows_of(seen[0].view(-1, *SHAPE), train).tolist(), density


def step_density(z, index, drawn, means, cached, retrieved, sigma):
    """The density of a step: retrieved rows with `means`, the others of `drawn` with `cached`, without each own row."""
    expected = []
    for row, own in zip(z, index.tolist(), strict=True):
        others = [j for j in drawn.tolist() if j != own]
        loc = torch.stack([means[j] if j in retrieved else cached[j] for j in others])
        expected.append(log_mixture(row, loc, sigma))
    return expected


@pytest.mark.parametrize("k", [1, 2, 5, 12, 18])
@pytest.mark.parametrize("n", [20, N])
def test_retrieval_encodes_each_rows_most_probable_components(train, encoder, k, n):
    index, z = INDEX[:4], latents(4)
    prior = exemplar(train, n, k)
    prior.begin_epoch(encoder)
    cached = encoder(train.scaled(dtype=torch.float64)).loc.detach()
    with torch.no_grad():
        encoder.loc_head.weight.mul_(1.3)
    means = encoder(train.scaled(dtype=torch.float64)).loc.detach()
    drawn = torch.arange(N) if n == N else rows_of(exemplar(train, n).step_points(index, seeded(0)).images, train)
    retrieved, density = encoded_rows(prior, encoder, train, z)
    wanted = set().union(*(k_nearest(cached, row, own, drawn, k) for row, own in zip(z, index.tolist(), strict=True)))
    assert len(retrieved) == len(set(retrieved))
    assert set(retrieved) == wanted
    expected = step_density(z, index, drawn, means, cached, wanted, math.exp(-0.3))
    np.testing.assert_allclose(density.detach(), expected, rtol=1e-11)


@pytest.mark.parametrize("k", [1, 5, 19])
def test_with_means_that_are_not_stale_retrieval_changes_no_density(train, encoder, k):
    z, full, prior = latents(), exemplar(train, 20), exemplar(train, 20, k)
    prior.begin_epoch(encoder)
    every = density(full, encoder, full.step_points(INDEX, seeded(4)), z)
    some = prior.step_prior(encoder, INDEX, seeded(4)).log_prob(z)
    torch.testing.assert_close(some.detach(), every, rtol=1e-12, atol=0)


def test_retrieval_of_all_is_a_step_without_retrieval(train, encoder):
    prior = exemplar(train, 20, 20)
    prior.begin_epoch(encoder)
    mine, all_ = prior.step_points(INDEX, seeded(4)), exemplar(train, 20).step_points(INDEX, seeded(4))
    assert torch.equal(mine.images, all_.images)
    assert torch.equal(mine.log_weights, all_.log_weights)


def test_retrieval_needs_cached_means(train, encoder):
    prior = exemplar(train, 20, 1)
    with pytest.raises(ValueError, match=r"the posterior means are not cached; call `begin_epoch\(encoder\)`"):
        prior.step_prior(encoder, INDEX, seeded())


# Exemplar: evaluation


def test_evaluation_is_over_all_points(train, encoder, monkeypatch):
    prior, z = exemplar(train, 5), latents()
    loc = encoder(train.scaled(dtype=torch.float64)).loc
    expected = [log_mixture(row, loc, math.exp(-0.3)) for row in z]
    for chunk in (2000, 7, 1):
        monkeypatch.setattr(ExemplarPrior, "chunk", chunk)
        np.testing.assert_allclose(prior(encoder).log_prob(z).detach(), expected, rtol=1e-11)


def test_exemplars_are_not_saved_with_the_model(train, encoder):
    prior = exemplar(train, 20, 1)
    prior.begin_epoch(encoder)
    assert list(prior.state_dict()) == ["log_scale"]


# Pseudocoreset and VampPrior


def test_the_whole_data_with_weight_one_is_the_exemplar_prior(train, encoder):
    z = latents()
    whole = pseudocoreset(train, N)
    assert torch.equal(whole.weights, torch.ones(N))
    torch.testing.assert_close(whole(encoder).log_prob(z), exemplar(train)(encoder).log_prob(z), rtol=1e-12, atol=1e-12)


def test_mixing_weights_are_the_weights_divided_by_n(train, encoder):
    z, weights = latents(), [20.0, 10.0, 5.0, 3.0, 2.0, 0.0]
    prior = pseudocoreset(train, weights=weights)
    loc = encoder(prior.pseudo_inputs).loc
    expected = [log_mixture(row, loc, math.exp(-0.3), np.array(weights) / N) for row in z]
    np.testing.assert_allclose(prior(encoder).log_prob(z).detach(), expected, rtol=1e-11)
    # The weights are not normalised, as in Eq. 12.
    prior.weights.mul_(2)
    np.testing.assert_allclose(prior(encoder).log_prob(z).detach(), np.add(expected, math.log(2)), rtol=1e-11)


def test_a_start_has_equal_weights_that_sum_to_the_data(train):
    prior = PseudocoresetPrior(train.scaled(slice(6)), N)
    torch.testing.assert_close(prior.weights, torch.full((6,), N / 6))
    assert prior.log_scale.item() == 0
    assert set(prior.state_dict()) == {"log_scale", "pseudo_inputs", "weights"}
    assert [name for name, _ in prior.named_parameters()] == ["log_scale"]


def test_two_points_of_half_the_weight_are_one(train, encoder):
    one = pseudocoreset(train, 3, [20.0, 15.0, 5.0])
    two = pseudocoreset(train, 4, [12.0, 15.0, 5.0, 8.0])
    two.pseudo_inputs[3] = two.pseudo_inputs[0]
    z = latents()
    torch.testing.assert_close(two(encoder).log_prob(z), one(encoder).log_prob(z), rtol=1e-12, atol=1e-12)


def test_order_of_points_does_not_matter(train, encoder):
    prior = MAKE["bype"](train)
    other = MAKE["bype"](train)
    order = torch.tensor([4, 2, 5, 0, 1, 3])
    other.pseudo_inputs.copy_(prior.pseudo_inputs[order])
    other.weights.copy_(prior.weights[order])
    z = latents()
    torch.testing.assert_close(other(encoder).log_prob(z), prior(encoder).log_prob(z), rtol=1e-12, atol=1e-12)


def test_a_point_of_no_weight_never_matters(train, encoder):
    prior = pseudocoreset(train, 3, [30.0, 0.0, 10.0])
    z = encoder(prior.pseudo_inputs).loc.detach()  # also at the component of weight 0
    before = prior(encoder).log_prob(z)
    prior.pseudo_inputs[1] = 0.123
    torch.testing.assert_close(prior(encoder).log_prob(z), before, rtol=1e-12, atol=1e-12)
    gone = pseudocoreset(train, 2, [30.0, 10.0])
    gone.pseudo_inputs[1] = prior.pseudo_inputs[2]
    torch.testing.assert_close(gone(encoder).log_prob(z), before, rtol=1e-12, atol=1e-12)
    # The gradients of a training step stay finite.
    points = prior.step_points()
    value = prior.mixture(encoder, encoder.features(points.images), points.log_weights).log_prob(z).sum()
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, [encoder.loc_head.weight, prior.log_scale]))


def test_vamp_is_the_mean_of_its_points_posteriors(train, encoder):
    prior, z = vamp(train), latents()
    with torch.no_grad():
        prior.pseudo_inputs.mul_(1.3).sub_(0.15)  # as in an older checkpoint, not clamped after its steps
    clamped = prior.pseudo_inputs.detach().clamp(0, 1)
    assert not torch.equal(clamped, prior.pseudo_inputs)
    q = encoder(clamped)
    assert q.scale.std(0).min() > 1e-3  # the variances differ
    expected = [log_mixture(row, q.loc, q.scale.detach().numpy()) for row in z]
    p = prior(encoder)
    np.testing.assert_allclose(p.log_prob(z).detach(), expected, rtol=1e-11)
    torch.testing.assert_close(prior.points_at(torch.tensor([2, 0])), clamped[[2, 0]])


def test_priors_copy_their_points(train, encoder):
    points = train.scaled(slice(6), dtype=torch.float64)
    first, second = PseudocoresetPrior(points, N), VampPrior(points)
    points.zero_()
    assert first.pseudo_inputs.abs().sum() > 0
    assert second.pseudo_inputs.abs().sum() > 0


def test_points_behind_components(train):
    index = torch.tensor([3, 0, 3])
    assert StandardPrior(D).points_at(index) is None
    for prior in (pseudocoreset(train), exemplar(train)):
        assert torch.equal(prior.points_at(index), train.scaled(index, dtype=torch.float64))


def test_standard_prior(train, encoder):
    z = latents()
    expected = scipy.stats.norm.logpdf(z).sum(1)
    prior = MAKE["standard"](train)
    np.testing.assert_allclose(prior(encoder).log_prob(z), expected)
    assert prior.step_points(INDEX, seeded()) is None
    assert prior.state_dict() == {}


# Errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: VampPrior(torch.zeros(0, *SHAPE)), "pseudo_inputs: expected at least 1, got 0"),
        (
            lambda t: PseudocoresetPrior(torch.zeros(0, *SHAPE), N),
            "pseudo_inputs: expected between 1 and n_data=40, got 0",
        ),
        (
            lambda t: PseudocoresetPrior(torch.zeros(41, *SHAPE), N),
            "pseudo_inputs: expected between 1 and n_data=40, got 41",
        ),
        (
            lambda t: PseudocoresetPrior(torch.zeros(2, *SHAPE), N, coreset="best"),
            "coreset: expected one of paper, none, published, elbo.*, got 'best'",
        ),
        (lambda t: ExemplarPrior(t, 1), "n_exemplars: expected between 2 and N=40, got 1"),
        (lambda t: ExemplarPrior(t, 41), "n_exemplars: expected between 2 and N=40, got 41"),
        (lambda t: ExemplarPrior(t, 20, 0), "retrieve: expected between 1 and n_exemplars=20, got 0"),
        (lambda t: ExemplarPrior(t, 20, 21), "retrieve: expected between 1 and n_exemplars=20, got 21"),
    ],
)
def test_arguments_out_of_range_are_rejected(train, make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make(train)


def test_sizes_at_the_limits(train):
    PseudocoresetPrior(torch.zeros(1, *SHAPE), N)
    PseudocoresetPrior(torch.zeros(N, *SHAPE), N)
    ExemplarPrior(train, 2, 1)
    ExemplarPrior(train, N, N)


# The model: one pass of the encoder


@pytest.fixture
def decoder():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return MLPDecoder(SHAPE, MeanSquaredError(), 8, D).double()


@pytest.mark.parametrize("name", MAKE)
def test_one_pass_equals_separate_passes(train, encoder, decoder, name):
    prior, z = MAKE[name](train), latents()
    prior.begin_epoch(encoder)
    model = VAE(encoder, decoder, prior)
    x = train.scaled(INDEX, dtype=torch.float64)
    passes = []
    handle = encoder.hidden[-1].register_forward_hook(lambda module, args, out: passes.append(len(out)))
    q, p = model.posterior_and_prior(x, index=INDEX, generator=seeded(5))
    handle.remove()
    separate = encoder(x)
    torch.testing.assert_close(q.loc, separate.loc, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(q.scale, separate.scale, rtol=1e-12, atol=1e-12)
    assert len(q.loc) == len(x)
    points = prior.step_points(INDEX, seeded(5))
    if points is None:
        expected = prior.step_prior(encoder, INDEX, seeded(5)).log_prob(z)
    else:
        expected = density(prior, encoder, points, z)
    torch.testing.assert_close(p.log_prob(z), expected, rtol=1e-12, atol=1e-12)
    assert passes == [len(x) + (0 if points is None else len(points.images))]
    if "exemplar" not in name:  # the exemplar prior is evaluated over other points than a step's
        torch.testing.assert_close(p.log_prob(z), prior(encoder).log_prob(z), rtol=1e-12, atol=1e-12)


# The model: samples


def test_samples_come_from_components_by_their_weights(train, encoder, decoder):
    weights = np.array([20.0, 10.0, 5.0, 3.0, 2.0, 0.0])
    model = VAE(encoder, decoder, pseudocoreset(train, weights=weights))
    images, z, component = model.sample(20_000, generator=seeded(6))
    counts = component.bincount(minlength=6).numpy()
    assert counts[5] == 0
    assert scipy.stats.chisquare(counts[:5], 20_000 * weights[:5] / N).pvalue > 1e-3
    # Each is distributed around the mean of its component's point.
    deviation = z - encoder(model.prior.points_at(component)).loc.detach()
    assert (deviation.mean(0).abs() <= 4 * math.exp(-0.3) / 20_000**0.5).all()
    assert ((deviation.std(0) / math.exp(-0.3) - 1).abs() <= 4 / (2 * 20_000) ** 0.5).all()
    assert images.shape == (20_000, *SHAPE)
    torch.testing.assert_close(images, decoder(z).mean)


@pytest.mark.parametrize("name", [n for n in MAKE if n != "standard"])
def test_samples_of_one_component(train, encoder, decoder, name):
    model = VAE(encoder, decoder, MAKE[name](train))
    images, z, component = model.sample(4000, component=4, generator=seeded(7))
    assert torch.equal(component, torch.full((4000,), 4))
    q = encoder(model.prior.points_at(torch.tensor([4])))
    scale = q.scale[0] if name == "vamp" else torch.full((D,), math.exp(-0.3))
    assert ((z.mean(0) - q.loc[0]).abs() <= 4 * scale / 4000**0.5).all()
    assert ((z.std(0) / scale - 1).abs() <= 4 / (2 * 4000) ** 0.5).all()
    torch.testing.assert_close(images, decoder(z).mean)


@pytest.mark.parametrize("name", MAKE)
def test_samples_like_an_image(train, encoder, decoder, name):
    model = VAE(encoder, decoder, MAKE[name](train))
    x = train.scaled(slice(30, 31), dtype=torch.float64)
    images, z, component = model.sample(4000, like=x[0], generator=seeded(8))
    assert component is None
    q = encoder(x)
    scale = q.scale[0] if name in ("vamp", "standard") else torch.full((D,), math.exp(-0.3))
    assert ((z.mean(0) - q.loc[0]).abs() <= 4 * scale / 4000**0.5).all()
    assert ((z.std(0) / scale - 1).abs() <= 4 / (2 * 4000) ** 0.5).all()
    torch.testing.assert_close(images, decoder(z).mean)


def test_samples_of_the_standard_prior(train, encoder, decoder):
    model = VAE(encoder, decoder, StandardPrior(D).double())
    _, z, component = model.sample(4000, generator=seeded(9))
    assert component is None
    assert (z.mean(0).abs() <= 4 / 4000**0.5).all()
    assert ((z.std(0) - 1).abs() <= 4 / (2 * 4000) ** 0.5).all()
    with pytest.raises(ValueError, match="StandardPrior has none"):
        model.sample(1, component=0)


@pytest.mark.parametrize("name", MAKE)
def test_samples_come_from_the_generator_alone(train, encoder, decoder, name):
    model, before = VAE(encoder, decoder, MAKE[name](train)), torch.get_rng_state()
    first, second, other = (model.sample(3, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, other.images)
    assert not first.images.requires_grad
    assert torch.equal(before, torch.get_rng_state())


def test_sample_refuses(train, encoder, decoder):
    model = VAE(encoder, decoder, pseudocoreset(train))
    with pytest.raises(ValueError, match="component and like: expected at most one of them, got both"):
        model.sample(1, component=0, like=torch.zeros(SHAPE))
    for component in (-1, 6):
        with pytest.raises(ValueError, match=f"from 0 to 5, but got {component}"):
            model.sample(1, component=component)


def test_reconstructions_are_decoded_means(train, encoder, decoder):
    model, x = VAE(encoder, decoder, StandardPrior(D)), train.scaled(slice(5), dtype=torch.float64)
    expected = decoder(encoder(x).loc).mean
    assert torch.equal(model.reconstruct(x), expected)


# A user's own networks


class ToyEncoder(Encoder):
    def __init__(self):
        super().__init__(4, D)

    def features(self, x):
        return x.mean(2).flatten(1)


class ToyDecoder(Decoder):
    def __init__(self):
        super().__init__(SHAPE, MeanSquaredError())
        self.map = nn.Linear(D, 12)

    def image(self, z):
        return 0.5 + 0.1 * self.map(z)


@pytest.mark.parametrize("name", MAKE)
def test_networks_in_ten_lines_work_with_each_prior(train, name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE(ToyEncoder(), ToyDecoder(), MAKE[name](train)).double()
    model.prior.begin_epoch(model.encoder)
    x = train.scaled(INDEX, dtype=torch.float64)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = -elbo(model, x, index=INDEX, generator=seeded(1)).bound().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    with torch.no_grad():
        assert iwae(model, x, 20, generator=seeded(2)).shape == (8,)
    assert model.sample(3).images.shape == (3, *SHAPE)


def test_posterior_variance_is_clamped():
    encoder = ToyEncoder().double()
    x = torch.zeros(1, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        encoder.log_variance_head.bias.copy_(torch.tensor([-50.0, 0.5, 50.0]))
    torch.testing.assert_close(encoder(x).variance[0].log().detach(), torch.tensor([-6.0, 0.5, 2.0]).double())


def test_float_images_are_exemplars_without_scaling():
    pixels = torch.rand(12, *SHAPE, generator=seeded())
    prior = with_sigma(ExemplarPrior(Images(pixels, levels=None), 5))
    torch.testing.assert_close(prior.points_at(torch.arange(12)), pixels.double())


def test_the_distribution_of_each_prior(train, encoder):
    kinds = {
        "standard": DiagonalNormal,
        "vamp": DiagonalMixture,
        "exemplar": IsotropicMixture,
        "bype": IsotropicMixture,
    }
    for name, kind in kinds.items():
        assert type(MAKE[name](train)(encoder)) is kind


def test_vamp_points_stay_in_range_and_all_their_values_keep_learning(tiny):
    model = build_model(tiny, prior="vamp", n_components=8, latent_dim=3, hidden_dim=16)
    points = model.prior.pseudo_inputs
    start = points.detach().clone()
    assert start.min() >= 0
    assert start.max() <= 1
    train_model(model, tiny, epochs=8, warmup=1, lr=0.05)
    assert points.min() >= 0
    assert points.max() <= 1
    assert (start == 0).any(), "black pixels minus noise"
    moved = points.detach() != start
    assert moved.float().mean() > 0.9, "no value is stuck beyond a clamp"
    x = tiny.train.scaled(slice(0, 6))
    loss = -elbo(model, x).bound().mean()
    (grad,) = torch.autograd.grad(loss, points)
    assert (grad != 0).float().mean() > 0.9


def test_the_samples_of_a_plate_resemble_its_point():
    data = from_arrays(torch.randint(0, 256, (40, 4, 5), generator=torch.Generator().manual_seed(0)).byte())
    model = build_model(data, n_components=8, latent_dim=3, hidden_dim=16)
    with torch.no_grad():
        model.prior.log_scale.fill_(-10.0)
        model.prior.weights.copy_(torch.tensor([0.0, 0.0, 1.0, 1.0, 10.0, 10.0, 6.0, 4.0]))
    plates = bype.plates(model, 2, 5, generator=torch.Generator().manual_seed(1))
    assert not {0, 1} & set(plates.components.tolist())
    torch.testing.assert_close(plates.points, model.prior.pseudo_inputs[plates.components])
    expected = model.reconstruct(plates.points)
    for samples in plates.images.unbind(1):
        torch.testing.assert_close(samples, expected, rtol=0, atol=1e-3)
    assert (expected[:, None] - expected).flatten(2).norm(dim=-1).fill_diagonal_(1).min() > 0.01, "points differ"


def test_the_clamp_of_a_vamp_prior_passes_the_gradient_of_every_point():
    prior = VampPrior(torch.rand(3, 1, 2, 2, dtype=torch.float64))
    with torch.no_grad():
        prior.pseudo_inputs.mul_(3).sub_(1)  # some values outside [0, 1]
    images = prior.step_points().images
    weights = torch.rand_like(images)
    (images * weights).sum().backward()
    assert torch.equal(images, prior.pseudo_inputs.detach().clamp(0, 1))
    assert torch.equal(prior.pseudo_inputs.grad, weights)


def test_training_items_are_the_same_rows_in_the_same_order_also_of_a_mapped_file(train):
    """A mapped file's splits share their pixels, and differ in their rows."""
    mapped = Images(train.pixels, rows=torch.arange(N))
    prior = ExemplarPrior(mapped, 5)
    prior.check_items(mapped)
    prior.check_items(Images(train.pixels.clone()))
    for rows in (torch.arange(N).flip(0), torch.arange(1, N), torch.arange(N).roll(1)):
        with pytest.raises(ValueError, match="expected the 40 training items of the prior"):
            prior.check_items(Images(train.pixels, rows=rows))
    flipped = Images(train.pixels.flip(0))
    with pytest.raises(ValueError, match="expected the 40 training items of the prior"):
        prior.check_items(flipped)


def test_an_exemplar_prior_samples_500_examples_or_all_but_one(tiny):
    def number(data, **options):
        return build_model(data, prior="exemplar", latent_dim=2, hidden_dim=4, **options).prior.n_exemplars

    large = from_arrays(np.random.default_rng(0).random((700, 2, 2)))
    assert number(large) == 500 < len(large.train)
    assert number(tiny) == len(tiny.train) - 1
    assert number(tiny, exemplars=7) == 7
