"""EM over tiles of samples: the same result as over all samples at once, without holding them."""

import math
import weakref

import pytest
import torch

import bype
from bype.core.seeds import Stream
from bype.distributions import em
from bype.distributions.em import fit_em
from bype.models.observing import model_inputs
from bype.training import refitting
from bype.training.refitting import AggregatePosterior, refit


def em_of_all_samples(z, n_components, generator, steps=100, tolerance=1e-4):
    """EM with the (n, K) matrix of responsibilities, as in Bishop, Pattern Recognition and Machine Learning, 9.2."""
    n, d = z.shape
    loc = z[torch.randperm(n, generator=generator)[:n_components]]
    weights, variance = torch.full((n_components,), 1 / n_components, dtype=z.dtype), z.var(0).mean()
    previous = -math.inf
    for _ in range(steps):
        squared = (z[:, None] - loc).square().sum(-1)
        log_terms = weights.log() - 0.5 * squared / variance - 0.5 * d * (2 * math.pi * variance).log()
        value = log_terms.logsumexp(1).mean().item()
        r = log_terms.softmax(1)
        counts = r.sum(0)
        loc, weights = r.T @ z / counts[:, None], counts / n
        variance = (r * (z[:, None] - loc).square().sum(-1)).sum() / (n * d)
        if value - previous < tolerance:
            break
        previous = value
    return loc, weights.log(), variance.sqrt().item()


@pytest.mark.parametrize("sizes", [[900], [1, 399, 500], [300] * 3])
def test_em_over_tiles_is_em_over_all_samples(sizes):
    z = torch.randn(900, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3 + 20
    expected = em_of_all_samples(z, 12, torch.Generator().manual_seed(1))
    loc, log_weights, scale = fit_em(z.split(sizes), 12, torch.Generator().manual_seed(1), report=lambda line: None)
    torch.testing.assert_close(loc, expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_weights, expected[1], rtol=1e-8, atol=1e-8)
    assert scale == pytest.approx(expected[2], rel=1e-9)


class Tiles:
    """Samples made anew in each iteration; counts how many are alive at once."""

    def __init__(self):
        self.alive, self.most, self.passes = 0, 0, 0

    def __iter__(self):
        self.passes += 1
        generator = torch.Generator().manual_seed(0)
        for _ in range(400):
            tile = torch.randn(1000, 4, generator=generator)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(tile.untyped_storage(), self.dropped)
            yield tile
            del tile

    def dropped(self):
        self.alive -= 1


def test_em_holds_only_the_tiles_of_a_block():
    tiles = Tiles()
    fit_em(tiles, 200, torch.Generator().manual_seed(0), steps=3, report=lambda line: None)
    assert tiles.passes == 5, "one to count and average, one for the start, one per step"
    assert tiles.most <= 6, "a block of 2,621 rows takes three tiles"


def test_a_full_tile_is_handed_on_before_the_next_samples_are_read():
    read = []

    def samples():
        for i in range(3):
            read.append(i)
            yield torch.full((4, 2), float(i))

    regrouped = em._regrouped(samples(), 4)
    assert next(regrouped).eq(0).all()
    assert read == [0]
    assert [len(tile) for tile in regrouped] == [4, 4]


@pytest.fixture(scope="module")
def model_and_data():
    data = bype.from_arrays(torch.randint(0, 256, (2000, 5, 4), generator=torch.Generator().manual_seed(0)).byte())
    return bype.build_model(data, n_components=6, latent_dim=3, hidden_dim=8, likelihood="bernoulli").eval(), data


def samples(model, data, **options):
    tiles = AggregatePosterior(model, data.train, torch.Generator().manual_seed(5), **options)
    with torch.no_grad():
        first, second = torch.cat(list(tiles)), torch.cat(list(tiles))
    assert torch.equal(first, second), "each iteration gives the same samples"
    return tiles, first


def test_posterior_samples_are_the_same_held_or_not(model_and_data):
    model, data = model_and_data
    held, first = samples(model, data)
    encoded, second = samples(model, data, held=0)
    assert held.posteriors is not None
    assert encoded.posteriors is None
    assert torch.equal(first, second)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        inputs = model_inputs(model, data.train, Stream.BINARISATION)
        expected = [model.encoder(x).sample((5,), generator=generator).flatten(0, 1) for x in inputs]
    assert torch.equal(first, torch.cat(expected))


def test_a_refit_is_the_same_whether_the_posteriors_are_held(model_and_data, monkeypatch):
    model, data = model_and_data
    held = refit(model, data, em=7)
    monkeypatch.setattr(refitting, "HELD_BYTES", 0)
    again = refit(model, data, em=7)
    for name, value in held.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_subset_of_the_examples_is_encoded_alone(model_and_data, monkeypatch):
    model, data = model_and_data
    seen = []
    means = model.encoder.means
    monkeypatch.setattr(model.encoder, "means", lambda batches: seen.extend(b := list(batches)) or means(b))
    fitted = refit(model, data, points=30)
    assert sum(map(len, seen)) == 30 == len(fitted.loc)
