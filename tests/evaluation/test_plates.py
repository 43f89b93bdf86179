"""Samples of single components: their agreement with the point, and the share of their variance."""

import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.evaluation.plates import plate_agreement, plate_variance


@pytest.fixture(scope="module")
def digits():
    return bype.load("digits")


def model_of(data, prior="bype", **options):
    given = {"n_components": 30, "latent_dim": 3, "hidden_dim": 16, "likelihood": "gaussian"} | options
    return bype.build_model(data, prior=prior, **given).eval()


def test_plates_agree_where_samples_are_their_points(digits):
    """With a prior of sigma near zero, all samples of a component are the same image."""
    model = model_of(digits)
    with torch.no_grad():
        model.prior.log_scale.fill_(-20)
        decoded = model.generate(model.encoder(model.prior.pseudo_inputs).loc)
        model.prior.pseudo_inputs.copy_(decoded.clamp(0, 1))  # then the point and its samples differ by the encoder

    class Constant(torch.nn.Module):
        def predict(self, x):
            return torch.zeros(len(x), dtype=torch.long)

    class Mean(torch.nn.Module):
        def predict(self, x):
            return (x.flatten(1).mean(1) > 0.5).long()

    assert plate_agreement(model, Constant()) == 100
    with torch.no_grad():
        points = model.prior.pseudo_inputs
        samples = model.generate(model.encoder(points).loc)
        expected = 100 * (Mean().predict(points) == Mean().predict(samples)).double().mean().item()
    assert plate_agreement(model, Mean()) == pytest.approx(expected)


@pytest.mark.parametrize("sigma", [0.03, 0.3, 3.0])
def test_the_variance_within_plates_is_that_of_the_components(digits, monkeypatch, sigma):
    """With x = z, a plate's variance is D sigma^2, and that between plates is that of the means."""
    model = model_of(digits, latent_dim=64)
    with torch.no_grad():
        model.prior.log_scale.fill_(torch.tensor(sigma).log())
        means = model.encoder(model.prior.pseudo_inputs).loc.double()
    monkeypatch.setattr(model, "generate", lambda z, generator: z.unflatten(-1, (1, 8, 8)))
    within = len(means) * 64 * sigma**2
    expected = 100 * within / (within + (means - means.mean(0)).square().sum().item())
    assert plate_variance(model, 400) == pytest.approx(expected, abs=0.5)
    # Few samples blur the means of the plates; without a correction the share would be up to 6 points lower.
    mean = sum(plate_variance(model, 4, seed=seed) for seed in range(30)) / 30
    assert mean == pytest.approx(expected, abs=1)


def test_plates_that_are_all_alike_have_all_of_the_variance(digits, monkeypatch):
    model = model_of(digits, latent_dim=64)
    first = model.prior.pseudo_inputs[:1].expand_as(model.prior.pseudo_inputs).clone()
    model.prior.pseudo_inputs.copy_(first)
    monkeypatch.setattr(model, "generate", lambda z, generator: z.unflatten(-1, (1, 8, 8)))
    assert plate_variance(model, 200) == pytest.approx(100, abs=1)
    monkeypatch.setattr(model, "generate", lambda z, generator: torch.zeros(*z.shape[:-1], 1, 8, 8))
    assert plate_variance(model) == 0


def test_components_of_weight_zero_have_no_plate(digits, monkeypatch):
    model = model_of(digits, n_components=3)
    model.prior.weights.copy_(torch.tensor([0.0, 0.5, 0.5]) * model.prior.n_data)
    counts = []

    class Counting(torch.nn.Module):
        def predict(self, x):
            counts.append(len(x))
            return torch.zeros(len(x), dtype=torch.long)

    plate_agreement(model, Counting(), n=5)
    assert counts == [2, 10]


@pytest.mark.parametrize("measure", [plate_variance, lambda model: plate_agreement(model, torch.nn.Identity())])
def test_a_prior_without_points_has_no_plates(digits, measure):
    with pytest.raises(InputError, match="expected a prior made of points, got StandardPrior"):
        measure(model_of(digits, "standard"))
