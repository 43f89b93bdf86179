"""Runs are compared on common examples, with the same noise."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch

import bype
from bype.core.config import Config
from bype.experiments.stats import t_975
from bype.runs.fitting import fit

SMALL = {"prior": "standard", "latent_dim": 4, "hidden_dim": 16, "warmup": 0, "epochs": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two settings with two seeds each."""
    folder = tmp_path_factory.mktemp("compared")
    for seed in (0, 1):
        for name, epochs in (("long", 2), ("short", 1)):
            config = Config("digits", likelihood="gaussian", seed=seed, **(SMALL | {"epochs": epochs}))
            fit(config, folder / f"{name}-s{seed}")
    return folder


def scores(path):
    loaded = bype.Run.open(path).load("cpu")
    return -bype.log_likelihood(loaded.model, loaded.data.test, 20).double()


def test_the_quantiles_of_student_s_t_are_those_of_scipy():
    for df in (1, 2, 30, 31, 40, 100, 1000, 10**6):
        assert t_975(df) == pytest.approx(scipy.stats.t.ppf(0.975, df), abs=1e-4)


def test_differences_are_those_of_the_scores_of_each_example(runs):
    result = bype.compare([runs / "long-s0", runs / "short-s0"], samples=20)
    a, b = scores(runs / "long-s0"), scores(runs / "short-s0")
    n = len(a)
    assert result["items"] == n == 179
    first, second = result["runs"]
    assert first["nll_nats"] == pytest.approx(a.mean().item(), abs=1e-9)
    assert second["nll_nats_se"] == pytest.approx((b.std() / math.sqrt(n)).item(), abs=1e-9)
    assert first["elbo_nats"] < -first["nll_nats"], "the bound is below the log-likelihood"
    (difference,) = result["differences"]
    test = scipy.stats.ttest_rel(b.numpy(), a.numpy())
    low, high = test.confidence_interval()
    assert (difference["run"], difference["minus"]) == (str(runs / "short-s0"), str(runs / "long-s0"))
    assert difference["nll_nats"] == pytest.approx((b - a).mean().item(), abs=1e-9)
    assert (difference["low"], difference["high"]) == pytest.approx((low, high), abs=1e-4)
    assert difference["se"] < second["nll_nats_se"], "paired by example, the difference is known better than either"
    assert result["over_seeds"] == []


def test_a_run_beside_its_copy_differs_by_nothing_and_is_scored_once(runs, tmp_path):
    import shutil

    shutil.copytree(runs / "long-s0", tmp_path / "copy")
    (difference,) = bype.compare([runs / "long-s0", tmp_path / "copy"], samples=20)["differences"]
    assert (difference["nll_nats"], difference["low"], difference["high"]) == (0.0, 0.0, 0.0)
    seen = []
    again = bype.compare(
        [runs / "long-s0", tmp_path / "copy"], samples=20, progress=lambda path: lambda done, n: seen.append((done, n))
    )
    assert again["differences"] == [difference]
    assert seen == [(179, 179)] * 2, "the kept scores are used"


def test_settings_with_several_seeds_are_paired_by_seed(runs):
    folders = [runs / f"{name}-s{seed}" for name in ("long", "short") for seed in (0, 1)]
    result = bype.compare(folders, samples=20, items=50)
    nll = [line["nll_nats"] for line in result["runs"]]
    (line,) = result["over_seeds"]
    values = np.array(nll[2:]) - np.array(nll[:2])
    assert (line["run"], line["minus"], line["pairs"]) == (str(runs / "short"), str(runs / "long"), 2)
    assert line["nll_nats"] == pytest.approx(values.mean())
    assert line["se"] == pytest.approx(values.std(ddof=1) / math.sqrt(2))
    assert line["high"] - line["nll_nats"] == pytest.approx(12.7062 * line["se"])


def test_runs_on_other_data_are_compared_on_the_examples_that_both_have(runs, tmp_path):
    """The second set holds the test examples of the first in another order, among others."""
    digits = bype.load("digits")
    test = digits.test.scaled()
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(3))
    arrays = {"x_train": digits.train.scaled(), "x_val": digits.validation.scaled(), "x_test": test[order][:100]}
    np.savez(tmp_path / "more.npz", **{k: v.numpy() for k, v in arrays.items()})
    np.savez(tmp_path / "same.npz", **{k: v.numpy() for k, v in (arrays | {"x_test": test[:70]}).items()})
    for name in ("more", "same"):
        fit(Config(str(tmp_path / f"{name}.npz"), likelihood="gaussian", **SMALL), tmp_path / name)
    result = bype.compare([tmp_path / "more", tmp_path / "same"], samples=20)
    common = sorted(set(range(70)) & set(order[:100].tolist()))
    assert result["items"] == len(common)
    # Both were trained on the same images with one seed: they are the same model, whatever the order of the test set.
    assert result["differences"][0]["nll_nats"] == 0.0
    with pytest.raises(bype.InputError, match="expected examples that all runs have, got none in common"):
        bype.compare([runs / "long-s0", tmp_path / "more"])  # stored with 17 levels, and as floats


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    with pytest.raises(bype.InputError, match="expected two or more different runs, got"):
        bype.compare([runs / "long-s0"])
    with pytest.raises(bype.InputError, match="expected two or more different runs"):
        bype.compare([runs / "long-s0", runs / "long-s0"])
    fit(Config("digits", likelihood="bernoulli", **SMALL), tmp_path / "bits")
    with pytest.raises(bype.InputError, match="expected likelihoods that are all densities or all probabilities"):
        bype.compare([runs / "long-s0", tmp_path / "bits"], samples=2)
    with pytest.raises(bype.InputError, match="not a run folder"):
        bype.compare([runs / "long-s0", tmp_path / "none"])


def test_mse_is_compared_in_nats(runs, tmp_path):
    fit(Config("digits", **SMALL), tmp_path / "mse")
    result = bype.compare([tmp_path / "mse", runs / "long-s0"], samples=20)
    first, second = result["runs"]
    assert first["nll_nats"] - first["nll_paper"] == pytest.approx(32 * math.log(math.pi))
    assert "nll_paper" not in second
    assert first["elbo_nats"] < -first["nll_nats"]


def test_the_command_prints_tables_or_json(runs, run_cli, cli_json):
    folders = [runs / f"{name}-s{seed}" for name in ("long", "short") for seed in (0, 1)]
    result = cli_json("compare", *folders, "--samples", 5, "--items", 40)
    assert json.dumps(result) == json.dumps(bype.compare(folders, samples=5, items=40))
    code, out, _ = run_cli("compare", *folders, "--samples", 5, "--items", 40)
    assert code == 0
    assert "Means and standard errors over 40 test examples, 5 samples each" in out
    assert "Differences of nll_nats, paired by example (below 0: better)" in out
    assert "Differences of nll_nats, paired by seed" in out
    assert "95 % interval" in out
