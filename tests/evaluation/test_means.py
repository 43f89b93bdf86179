"""Means over examples are in float64, and with two levels the parts of the KL term add up to it."""

import math

import pytest
import torch

import bype
from bype.evaluation.metrics import evaluate, likelihood_metrics


def test_the_kl_terms_of_two_levels_add_up(tiny):
    model = bype.build_model(tiny, arch="hvae", n_components=4, latent_dim=2, hidden_dim=8)
    history = bype.train(model, tiny, epochs=2, warmup=1)
    for info in history:
        assert info.levels["kl_z1"] + info.levels["kl_z2"] == pytest.approx(info.kl, rel=1e-6)
        assert info.loss == pytest.approx(info.reconstruction + info.beta * info.kl, rel=1e-6)
    metrics = evaluate(model, tiny, n_samples=5)
    assert metrics["kl_z1"] + metrics["kl_z2"] == pytest.approx(metrics["kl"], rel=1e-6)
    assert metrics["kl_z1"] != pytest.approx(metrics["kl"])
    assert metrics["elbo_paper"] == pytest.approx(-metrics["reconstruction"] - metrics["kl"], rel=1e-6)


def test_the_mean_of_many_scores_keeps_its_digits(tiny):
    model = bype.build_model(tiny, likelihood="bernoulli", n_components=4, latent_dim=2, hidden_dim=8)
    scores = torch.full((100_000,), -16_777_216.0)  # 2^24: in float32 the sum of a million and more loses ones
    scores[::2] -= 2
    assert likelihood_metrics(model, scores, tiny)["nll_nats"] == 16_777_217.0
    assert likelihood_metrics(model, scores, tiny)["bpd"] == pytest.approx(16_777_217.0 / (20 * math.log(2)), rel=1e-15)
