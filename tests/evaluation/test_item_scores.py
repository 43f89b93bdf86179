"""Scores of single items: against `iwae`, whatever else is scored, and ranks among reference items."""

import math

import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.core.seeds import Stream


@pytest.fixture(scope="module")
def data():
    return bype.load("digits")


def model_of(data, **options):
    given = {"prior": "bype", "likelihood": "gaussian", "n_components": 9, "latent_dim": 3, "hidden_dim": 16} | options
    return bype.build_model(data, **given).eval()


@pytest.mark.parametrize("arch", ["vae", "hvae"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "mse"])
def test_a_score_is_that_of_iwae_with_the_same_noise(data, arch, likelihood):
    model, x = model_of(data, arch=arch, likelihood=likelihood), data.test.scaled()[:1]
    scores = bype.score(model, x, 1500, seed=4)
    generator = torch.Generator().manual_seed(4 + Stream.ITEMS)
    binary = model.binarise(x, generator)
    with torch.no_grad():
        expected = bype.iwae(model, binary, 1500, generator=generator)[0].item()
    if likelihood == "mse":
        expected -= 32 * math.log(math.pi)
    tolerance = 1e-4 if arch == "vae" else 0.5  # with two levels iwae draws the noise in another order
    assert scores.log_likelihood.item() == pytest.approx(expected, abs=tolerance)
    assert scores.elbo.item() < scores.log_likelihood.item()


def test_a_score_does_not_depend_on_the_other_items(data):
    model = model_of(data)
    many = bype.score(model, data.test.first(12), 30)
    for i in (0, 7):
        one = bype.score(model, data.test.scaled()[i : i + 1], 30)
        assert one.log_likelihood.item() == many.log_likelihood[i].item()
        assert one.elbo.item() == many.elbo[i].item()
    back = bype.score(model, data.test.scaled()[:12].flip(0), 30)
    assert torch.equal(back.log_likelihood.flip(0), many.log_likelihood)


def test_with_one_sample_the_bound_is_the_likelihood(data):
    scores = bype.score(model_of(data), data.test.first(3), 1)
    torch.testing.assert_close(scores.log_likelihood, scores.elbo)


def test_bits_per_dimension_are_those_of_the_evaluation(data):
    model = model_of(data)
    scores = bype.score(model, data.test.first(5), 20)
    expected = -scores.log_likelihood / (64 * math.log(2)) + math.log2(17)
    torch.testing.assert_close(scores.bpd, expected)


def test_ranks_are_shares_of_the_reference(data):
    model = model_of(data)
    own = bype.score(model, data.test.first(4), 20).log_likelihood
    reference = torch.cat([own, own.max()[None] + 1])
    ranks = bype.score(model, data.test.first(4), 20, reference=reference).more_unusual_than
    expected = [100 * sum(r > v for r in reference.tolist()) / 5 for v in own.tolist()]
    assert ranks.tolist() == expected
    assert bype.score(model, data.test.first(1), 20).more_unusual_than is None


@pytest.mark.parametrize("wrong", [{"n_samples": 0}, {"reference": torch.zeros(0)}])
def test_bad_input_is_refused(data, wrong):
    with pytest.raises(InputError):
        bype.score(model_of(data), data.test.first(1), **wrong)
