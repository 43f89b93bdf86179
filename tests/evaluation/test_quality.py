"""Kernel distance, precision and recall: hand-computed cases, torch-fidelity's conventions, the yardstick."""

import numpy as np
import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.evaluation import features as features_of
from bype.evaluation.features import fit_features
from bype.evaluation.quality import PrecisionRecall, kernel_distance, precision_recall, sample_quality


def normal(n, d, seed, scale=1.0, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + shift


@pytest.fixture(scope="module")
def digits():
    return bype.load("digits")


@pytest.fixture(scope="module")
def model(digits):
    return bype.build_model(digits, prior="bype", likelihood="gaussian", n_components=20, latent_dim=4, hidden_dim=24)


def test_the_kernel_distance_of_two_points_each_is_that_computed_by_hand():
    # k(a, b) = (ab + 1)^3 in one dimension: within {0, 1}: 1, within {2, 3}: 7^3; across: 1, 1, 3^3, 4^3.
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    expected = 1 + 343 - 2 * (1 + 1 + 27 + 64) / 4
    assert kernel_distance(x, y, subsets=3, subset_size=2) == pytest.approx((expected, 0))


def test_the_kernel_distance_is_unbiased_as_its_diagonal_is_left_out():
    values = [
        kernel_distance(normal(100, 4, s), normal(100, 4, s + 500), subsets=1, subset_size=100) for s in range(200)
    ]
    means = np.array([v.mean for v in values])
    assert abs(means.mean()) < 3 * means.std() / np.sqrt(len(means))
    assert means.min() < 0


def test_precision_and_recall_of_three_points_each_are_those_computed_by_hand():
    # With k = 1 the real balls are [-1, 1], [0, 2] and [8, 12] around 0, 1 and 10 (their nearest is 9 away: [1, 19]).
    real = torch.tensor([[0.0], [1.0], [10.0]])
    samples = torch.tensor([[-0.5], [-2.0], [0.6]])  # balls: radius 1.1, 1.5, 1.1
    assert precision_recall(samples, real, k=1) == pytest.approx((2 / 3, 2 / 3))
    assert precision_recall(real, samples, k=1) == pytest.approx((2 / 3, 2 / 3))
    assert precision_recall(real[:2], real[:2], k=1) == (1, 1)


def test_collapsed_samples_are_precise_and_recall_little():
    real = normal(500, 8, 0)
    collapsed = 0.05 * normal(500, 8, 1)
    precision, recall = precision_recall(collapsed, real)
    assert precision > 0.8
    assert recall < 0.3
    assert precision_recall(real, collapsed) == pytest.approx((recall, precision))


def test_the_conventions_are_those_of_torch_fidelity():
    """Pinned to what torch-fidelity 0.4.0 returns for these features (kid_subsets=20, kid_subset_size=100)."""
    samples, real = normal(700, 8, 0).split([300, 400])
    samples = samples * 0.9 + 0.2
    theirs = (0.16958776555370086, 0.047924287127519075)
    assert kernel_distance(samples, real, subsets=20, subset_size=100) == pytest.approx(theirs, abs=1e-6)
    assert kernel_distance(samples.float(), real.float(), subsets=20, subset_size=100) == pytest.approx(
        theirs, abs=1e-6
    )
    assert precision_recall(samples, real) == pytest.approx((0.9466666579246521, 0.7774999737739563), abs=1e-6)


def test_features_and_figures_do_not_depend_on_the_batch_size(model, digits, monkeypatch):
    whole = sample_quality(model, digits, n_items=40)
    monkeypatch.setattr(features_of, "BATCH_SIZE", 7)
    monkeypatch.setattr("bype.evaluation.quality.TILE", 7)
    assert sample_quality(model, digits, n_items=40) == pytest.approx(whole, rel=1e-5, abs=1e-6)


def test_training_items_are_the_yardstick_and_an_untrained_model_is_far_from_it(model, digits):
    figures = sample_quality(model, digits)
    assert figures["quality_items"] == len(digits.test)
    assert figures["quality_subset"] == len(digits.test) // 2
    assert figures["quality_classifier_accuracy"] > 90
    for name in ("pca", "classifier"):
        assert abs(figures[f"kid_{name}_training"]) < 4 * figures[f"kid_sd_{name}_training"]
        assert figures[f"kid_{name}"] > 4 * abs(figures[f"kid_{name}_training"])
        assert figures[f"recall_{name}"] < 50 < figures[f"recall_{name}_training"]
        assert figures[f"precision_{name}_training"] > 50


def test_compared_training_items_are_new_to_the_features(model, digits, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "bype.evaluation.quality.fit_features",
        lambda name, data, seed: seen.append(data) or fit_features(name, data, seed),
    )
    sample_quality(model, digits, n_items=100, features=["pca"])
    assert len(seen[0].train) == len(digits.train) - 100


def test_the_same_seed_gives_the_same_figures_and_another_prior_has_its_own(model, digits):
    options = {"n_items": 40, "features": ["pca"]}
    first = sample_quality(model, digits, **options)
    assert sample_quality(model, digits, **options) == first
    assert sample_quality(model, digits, **options, seed=1) != first
    prior = model.prior
    other = sample_quality(model, digits, **options, prior=bype.StandardPrior(4))
    assert other["kid_pca"] != first["kid_pca"]
    assert other["kid_pca_training"] == first["kid_pca_training"]
    assert model.prior is prior


def test_precision_and_recall_are_in_percent(model, digits, monkeypatch):
    shares = PrecisionRecall(precision=0.25, recall=1.0)
    monkeypatch.setattr("bype.evaluation.quality.precision_recall", lambda *_, **__: shares)
    figures = sample_quality(model, digits, n_items=40, features=["pca"])
    assert (figures["precision_pca"], figures["recall_pca"]) == (25.0, 100.0)


def test_without_labels_there_is_no_classifier(model):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 4, 5), np.uint8)
    data = bype.from_arrays(pixels)
    small = bype.build_model(data, prior="standard", latent_dim=2, hidden_dim=4)
    assert not any("classifier" in name for name in sample_quality(small, data))
    with pytest.raises(InputError, match="labels"):
        sample_quality(small, data, features=["classifier"])


def test_bad_options_are_refused(model, digits):
    x = normal(10, 2, 0)
    with pytest.raises(InputError, match="one or more of pca, classifier, inception, got 'fid'"):
        sample_quality(model, digits, features=["fid"])
    with pytest.raises(InputError, match="expected from 8 to 179 items"):
        sample_quality(model, digits, n_items=10**6)
    with pytest.raises(InputError, match="at most the number of features, 10, got 11"):
        kernel_distance(x, x, subset_size=11)
    with pytest.raises(InputError, match="finite"):
        precision_recall(x, x.index_fill(0, torch.tensor([0]), torch.nan))
    with pytest.raises(InputError, match="fewer neighbours"):
        precision_recall(x, x, k=10)
    with pytest.raises(InputError, match=r"got \(10, 2\) and \(10, 3\)"):
        precision_recall(x, normal(10, 3, 0))
