import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import bype
from bype.core.errors import InputError
from bype.distributions.mixtures import IsotropicMixture
from bype.evaluation.divergences import prior_divergences
from bype.evaluation.latents import active_units, latents
from bype.evaluation.likelihood import log_likelihood
from bype.evaluation.metrics import evaluate, evaluate_under, likelihood_metrics
from bype.evaluation.neighbours import knn_accuracy
from bype.models.observing import model_inputs
from bype.priors.fitted import FittedMixture
from bype.priors.pseudocoreset import PseudocoresetPrior
from bype.training.refitting import refit


def model_for(data, prior="bype", **options):
    return bype.build_model(data, prior=prior, **({"n_components": 8, "latent_dim": 3, "hidden_dim": 16} | options))


def test_knn_votes_as_scikit_learn_does():
    g = torch.Generator().manual_seed(0)
    base, query = torch.randn(200, 3, generator=g), torch.randn(60, 3, generator=g)
    labels, truth = torch.randint(0, 4, (200,), generator=g), torch.randint(0, 4, (60,), generator=g)
    ours = knn_accuracy(base, labels, query, truth, [1, 2, 3, 7])
    for k, accuracy in ours.items():
        theirs = KNeighborsClassifier(k).fit(base.numpy(), labels.numpy()).score(query.numpy(), truth.numpy())
        assert accuracy == pytest.approx(100 * theirs), k
    assert knn_accuracy(base, labels, base, labels, [1]) == {1: 100.0}
    with pytest.raises(InputError, match="from 1 to 200"):
        knn_accuracy(base, labels, query, truth, [201])


def test_active_units_are_latents_whose_mean_varies():
    means = torch.zeros(100, 4)
    means[::2, 1], means[::2, 2] = 1.0, 0.1  # variances 0.25 and 0.0025
    assert active_units(means) == 1


def test_an_example_s_score_depends_only_on_its_row_and_the_seed(tiny):
    model = model_for(tiny)
    whole = log_likelihood(model, tiny.train, 30)
    torch.testing.assert_close(log_likelihood(model, tiny.train.first(7), 30), whole[:7])
    assert not torch.allclose(log_likelihood(model, tiny.train, 30, seed=1), whole)


def test_metrics_and_their_units(tiny):
    d, log_p = 20, torch.tensor([-4.0, -16.0])
    model, data = model_for(tiny), SimpleNamespace(shape=(1, 4, 5), levels=256)
    metrics = likelihood_metrics(model, log_p, data)
    assert metrics["nll_paper"] == 10
    assert metrics["nll_nats"] == pytest.approx(10 + d / 2 * math.log(math.pi))
    assert metrics["bpd"] == pytest.approx(metrics["nll_nats"] / d / math.log(2) + 8)
    assert "bpd" not in likelihood_metrics(model, log_p, SimpleNamespace(shape=(1, 4, 5), levels=None))
    for likelihood in ("bernoulli", "logistic"):
        metrics = likelihood_metrics(model_for(tiny, likelihood=likelihood), log_p, data)
        assert metrics == {"nll_nats": 10, "bpd": pytest.approx(10 / d / math.log(2))}


def test_evaluate_returns_every_metric_that_applies(tiny):
    metrics = evaluate(model_for(tiny), tiny, n_samples=20, ks=[1, 3])
    assert set(metrics) == {
        "nll_paper", "nll_nats", "bpd", "samples", "items", "elbo_paper", "elbo_nats", "reconstruction", "kl",
        "active_units", "silhouette", "knn", "kl_prior", "kl_prior_reverse",
    }  # fmt: skip
    assert metrics["elbo_paper"] == pytest.approx(-metrics["reconstruction"] - metrics["kl"])
    assert -metrics["nll_paper"] > metrics["elbo_paper"], "more samples, a tighter bound"
    assert not any("kl_prior" in k for k in evaluate(model_for(tiny), tiny, n_samples=2, ks=[1], trained_on=False))
    unlabelled = bype.from_arrays(np.random.default_rng(0).random((40, 3, 3), np.float32))
    metrics = evaluate(model_for(unlabelled, "vamp", likelihood="gaussian"), unlabelled, n_samples=5)
    assert set(metrics) == {
        "nll_nats", "samples", "items", "elbo_nats", "reconstruction", "kl", "active_units"
    }  # fmt: skip
    assert all(math.isfinite(v) for v in metrics.values())


def test_binary_images_are_binarised_once(tiny):
    model = model_for(tiny, likelihood="bernoulli")
    x, again = (torch.cat(list(model_inputs(model, tiny.test, 3))) for _ in range(2))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(x, again)
    assert not torch.equal(x, torch.cat(list(model_inputs(model, tiny.test, 4))))


def test_the_divergence_of_priors_is_zero_for_the_data_and_matches_quadrature(tiny):
    model = model_for(tiny, latent_dim=1)
    model.prior = PseudocoresetPrior(tiny.train.scaled(), 48)
    assert prior_divergences(model, tiny.train) == pytest.approx({"kl_prior": 0, "kl_prior_reverse": 0}, abs=1e-5)
    model.prior = PseudocoresetPrior(tiny.train.scaled(slice(0, 2)), 48)
    with torch.no_grad():
        model.prior.weights.copy_(torch.tensor([40.0, 8.0]))
        model.prior.log_scale.fill_(math.log(0.3))
        z = torch.linspace(-15, 15, 20_001)[:, None]
        loc = latents(model, tiny.train)
        p = model.prior(model.encoder).log_prob(z)
        q = IsotropicMixture(loc, torch.tensor(0.3), torch.full((48,), 1 / 48).log()).log_prob(z)
    exact = {
        "kl_prior": torch.trapezoid(p.exp() * (p - q), z[:, 0]).item(),
        "kl_prior_reverse": torch.trapezoid(q.exp() * (q - p), z[:, 0]).item(),
    }
    assert prior_divergences(model, tiny.train) == pytest.approx(exact, rel=0.1, abs=0.02)


def test_under_its_own_prior_the_metric_is_the_same(tiny):
    model = model_for(tiny)
    own = model.prior(model.encoder)
    same = FittedMixture(own.loc.detach(), own.log_weights, model.prior.log_scale.detach())
    metrics = evaluate(model, tiny, n_samples=10, ks=[1])
    under = evaluate_under(model, tiny, same, "same", n_samples=10)
    assert under["nll_paper@same"] == pytest.approx(metrics["nll_paper"], rel=1e-6)
    assert under.keys() == {"nll_paper@same", "nll_nats@same", "bpd@same", "samples@same", "items@same"}


def test_with_few_examples_larger_ks_are_left_out():
    pixels = torch.randint(0, 256, (12, 4, 5), generator=torch.Generator().manual_seed(0)).byte()
    data = bype.from_arrays(pixels, torch.arange(12) % 2)
    model = bype.build_model(data, prior="standard", latent_dim=2, hidden_dim=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 1, 1)
    metrics = bype.evaluate(model, data, n_samples=2)
    assert list(metrics["knn"]) == [3, 5, 7, 9, 11]
    assert "active_units" not in metrics, "one example has no variance"


def test_too_large_a_k_is_refused_before_anything_is_scored(tiny):
    def progress(done, total):
        raise AssertionError("examples were scored")

    with pytest.raises(InputError, match=r"from 1 to 54, the number of reference examples, got \[3, 55\]"):
        evaluate(model_for(tiny), tiny, n_samples=2, ks=[3, 55], progress=progress)


def test_a_set_too_small_for_neighbours_is_scored_without(tiny):
    few = bype.from_arrays(tiny.train.pixels[:24], tiny.train.labels[:24], name="few")
    metrics = evaluate(model_for(few), few, split="train", n_samples=2)
    assert "knn" not in metrics
    assert "nll_nats" in metrics


def test_a_log_likelihood_needs_a_sample_and_images_that_fit(tiny):
    for n_samples in (0, -1):
        with pytest.raises(InputError, match="samples: expected a whole number from 1"):
            log_likelihood(model_for(tiny), tiny.test, n_samples)
    with pytest.raises(InputError, match=r"images: expected images \(1, 4, 5\), got \(1, 8, 8\)"):
        log_likelihood(model_for(tiny), bype.load("digits").test, 1)


@pytest.mark.parametrize("call", ["log_likelihood", "evaluate_under", "evaluate", "iwae"])
def test_points_are_encoded_without_tf32_whatever_is_allowed(tiny, call, monkeypatch):
    model = model_for(tiny)
    seen = []
    model.encoder.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
    features = model.encoder.features
    monkeypatch.setattr(
        model.encoder, "features", lambda x: seen.append(torch.backends.cudnn.conv.fp32_precision) or features(x)
    )
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    try:
        if call == "log_likelihood":
            log_likelihood(model, tiny.test, 2)
        elif call == "evaluate":
            evaluate(model, tiny, n_samples=2)
        elif call == "iwae":
            bype.iwae(model, tiny.test.scaled(), 2)
        else:
            evaluate_under(model, tiny, model.prior, "same", n_samples=2)
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    assert len(seen) > 1
    assert set(seen) == {"ieee"}


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_all_examples_as_points_are_the_exemplar_prior_under_any_likelihood(tiny, likelihood):
    model = model_for(tiny, likelihood=likelihood)
    model.prior = PseudocoresetPrior(tiny.train.scaled(), len(tiny.train))
    divergences = prior_divergences(model, tiny.train, n_draws=100)
    assert max(map(abs, divergences.values())) < 1e-4
    exemplar = model_for(tiny, prior="exemplar", likelihood=likelihood)
    fitted = refit(exemplar, tiny)
    torch.testing.assert_close(fitted.loc, exemplar.prior(exemplar.encoder).loc)


def test_binarised_examples_do_not_depend_on_the_batch_size(tiny, monkeypatch):
    monkeypatch.setattr("bype.models.observing.BINARISED_AT_ONCE", 7)
    draws = []
    bernoulli = torch.bernoulli
    monkeypatch.setattr(torch, "bernoulli", lambda x, **o: draws.append(len(x)) or bernoulli(x, **o))
    model = model_for(tiny, likelihood="bernoulli")
    whole = torch.cat(list(model_inputs(model, tiny.train, 0)))
    sizes, draws[:] = draws[:], []
    parts = list(model_inputs(model, tiny.train, 0, batch_size=3))
    assert torch.equal(torch.cat(parts), whole)
    assert draws == sizes, "a GPU's draws depend on how many there are"
    assert max(map(len, parts)) == 3


@pytest.mark.parametrize("likelihood", ["mse", "gaussian"])
def test_the_bound_in_nats_is_that_of_the_normal_that_mse_stands_for(tiny, likelihood):
    metrics = evaluate(model_for(tiny, likelihood=likelihood), tiny, n_samples=2)
    bound = -metrics["reconstruction"] - metrics["kl"]
    constant = 0.5 * 20 * math.log(math.pi) if likelihood == "mse" else 0.0
    assert metrics["elbo_nats"] == pytest.approx(bound - constant)
    assert metrics.get("elbo_paper", bound) == pytest.approx(bound)


def test_a_custom_likelihood_has_the_bits_of_its_kind(tiny):
    class Mine(bype.networks.Logistic):
        pass

    metrics = {}
    for kind in (bype.networks.Logistic, Mine):
        model = model_for(tiny, likelihood="logistic")
        model.decoder.likelihood = kind(tiny.shape)
        metrics[kind] = evaluate(model, tiny, n_samples=2)
    assert metrics[Mine]["bpd"] == metrics[bype.networks.Logistic]["bpd"]
    assert metrics[Mine]["bpd"] == pytest.approx(metrics[Mine]["nll_nats"] / (20 * math.log(2)))


def test_scoring_keeps_no_graph(tiny):
    assert not log_likelihood(model_for(tiny), tiny.test, 2).requires_grad
