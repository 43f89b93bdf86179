"""Settings that are valid and hardly meant are reported in one line with a remedy."""

import logging

import numpy as np
import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.training.diagnosis import first_not_finite, small_data


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(scope="module")
def grey():
    """600 images that differ by less than the noise that `mse` implies."""
    return bype.from_arrays(np.random.default_rng(0).integers(120, 136, (600, 4, 4)).astype(np.uint8), name="grey")


def train(data, likelihood="mse", hidden_dim=8, **options):
    model = bype.build_model(data, prior="standard", likelihood=likelihood, hidden_dim=hidden_dim, latent_dim=2)
    return bype.train(model, data, **({"epochs": 3, "warmup": 0} | options))


def test_mse_that_encodes_nothing_is_reported_once_at_the_end(grey, caplog):
    kl = train(grey)[-1].kl
    assert kl < 1
    (line,) = lines(caplog)
    assert line.startswith("likelihood mse: the latents encode almost nothing of these images, KL 0.")
    assert line.endswith("choose --likelihood gaussian")


def test_other_likelihoods_and_a_larger_kl_are_not_reported(grey, caplog):
    train(grey, "gaussian")
    digits = bype.load("digits")
    bright = bype.from_arrays(np.repeat(np.repeat(digits.train.stored().numpy() * 15, 4, 2), 4, 3), name="bright")
    assert train(bright, hidden_dim=32, epochs=6)[-1].kl > 1
    assert lines(caplog) == []


def test_a_small_set_under_a_large_network_is_reported(caplog):
    few = bype.from_arrays(np.random.default_rng(0).random((100, 8, 8)), name="few")
    train(few, "gaussian", hidden_dim=300, epochs=1)
    (line,) = lines(caplog)
    assert line.startswith("few: 80 training examples for networks of ")
    assert "which will overfit; use more data, or choose a lower --hidden-dim and --latent-dim" in line


def test_neither_a_small_network_nor_a_larger_set_is(grey, caplog):
    train(bype.from_arrays(np.random.default_rng(0).random((100, 8, 8)), name="few"), "gaussian", epochs=1)
    train(grey, "gaussian", hidden_dim=300, epochs=1)
    assert lines(caplog) == []


def test_networks_as_large_as_the_limit_are_warned_of(tiny, monkeypatch):
    model = bype.build_model(tiny, prior="standard", latent_dim=2, hidden_dim=4)
    size = sum(p.numel() for p in model.parameters())
    for factor, warned in ((1, True), (2, False)):
        monkeypatch.setattr("bype.training.diagnosis.PARAMETERS_PER_EXAMPLE", size * factor / len(tiny.train))
        assert (small_data(model, tiny) is not None) is warned
    monkeypatch.setattr("bype.training.diagnosis.PARAMETERS_PER_EXAMPLE", 0)
    for examples, warned in ((60, False), (61, True)):
        monkeypatch.setattr("bype.training.diagnosis.FEW_EXAMPLES", examples)
        assert (small_data(model, tiny) is not None) is warned


def test_the_smallest_options_are_allowed(tiny):
    model = bype.build_model(tiny, n_components=2, latent_dim=2, hidden_dim=4)
    least = {"epochs": 1, "warmup": 0, "patience": 1, "batch_size": 1, "coreset_interval": 1, "seed": 0}
    assert len(bype.train(model, tiny, **least)) == 1
    for name in least.keys() - {"warmup", "seed"}:
        with pytest.raises(InputError, match=f"{name}.* got 0"):
            bype.train(model, tiny, **least | {name: 0})


def test_the_first_gradient_that_is_not_finite_is_named(tiny):
    model = bype.build_model(tiny, prior="standard", latent_dim=2, hidden_dim=4)
    named = dict(model.named_parameters())
    first, second, third, *_ = named
    assert first_not_finite(model, bf16=False).startswith("the loss;"), "no gradients"
    named[first].grad = torch.zeros_like(named[first])
    named[third].grad = torch.full_like(named[third], torch.inf)
    assert first_not_finite(model, bf16=False).startswith(f"gradient of {third};")
    named[second].grad = torch.full_like(named[second], torch.nan)
    assert first_not_finite(model, bf16=True).startswith(f"gradient of {second}; bfloat16")
    named[second].data[0] = torch.nan
    assert first_not_finite(model, bf16=False).startswith(f"parameter {second};")
