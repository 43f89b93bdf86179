"""`bype augment`."""

import json

import numpy as np
import pytest

import bype

OPTIONS = {"latent_dim": 3, "hidden_dim": 16, "epochs": 1, "warmup": 0, "likelihood": "gaussian"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("augment")
    for prior in ("bype", "standard"):
        bype.fit(bype.Config("digits", prior=prior, n_components=20, **OPTIONS), folder / prior)
    return folder


def test_all_methods_that_the_prior_allows_are_compared(runs, cli_json, tmp_path):
    result = cli_json("augment", runs / "bype", "--epochs", 1, "--batch-size", 500, "--out", tmp_path / "out.json")
    assert [row["method"] for row in result["methods"]] == ["baseline", "posterior", "prior", "coreset"]
    assert all(0 < row["test_error"] <= 100 and 0 < row["validation_error"] <= 100 for row in result["methods"])
    assert 0 <= result["methods"][0]["plate_agreement"] <= 100
    assert json.loads((tmp_path / "out.json").read_text()) == result
    result = cli_json("augment", runs / "standard", "--epochs", 1, "--batch-size", 500)
    assert [row["method"] for row in result["methods"]] == ["baseline", "posterior"]


def test_methods_that_have_ended_are_written_if_a_later_one_is_interrupted(runs, run_cli, monkeypatch, tmp_path):
    def train(model, data, name, options):
        if name == "prior":
            raise KeyboardInterrupt
        return {"method": name}

    monkeypatch.setattr("bype.cli.augment._train", train)
    code, _, _ = run_cli("augment", runs / "bype", "--out", tmp_path / "out.json")
    assert code == 130
    assert [row["method"] for row in json.loads((tmp_path / "out.json").read_text())["methods"]] == [
        "baseline", "posterior",
    ]  # fmt: skip


def test_an_augmented_set_is_labelled_traced_and_can_be_trained_on(runs, cli_json, run_cli, tmp_path):
    out = tmp_path / "more.npz"
    result = cli_json("augment", runs / "bype", "--method", "prior", "--export", out)
    data = bype.load("digits").train
    n = len(data)
    assert result == {"export": str(out), "n": 2 * n, "method": "prior"}
    with np.load(out) as arrays:
        assert np.array_equal(arrays["images"][:n], data.scaled().numpy())
        assert np.array_equal(arrays["labels"], np.tile(data.labels.numpy(), 2))
        assert np.array_equal(arrays["sources"], np.tile(np.arange(n), 2))
        assert arrays["synthetic"].tolist() == [False] * n + [True] * n
        assert arrays["images"].min() >= 0
        assert arrays["images"].max() <= 1
    code, _, err = run_cli(
        "train", out, "--epochs", 1, "--warmup", 0, "--likelihood", "gaussian", "--out", tmp_path / "r"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "magic"], "expected one or more of baseline"),
        (["--export", "x.npz"], "expected one --method that makes images"),
        (["--export", "x.npy", "--method", "prior"], "ends in .npz"),
        (["--weight", "2"], "weight"),
    ],
)
def test_bad_options_end_in_one_line(runs, run_cli, options, message):
    code, _, err = run_cli("augment", runs / "bype", *options)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_data_without_labels_end_in_one_line(runs, run_cli, tmp_path):
    np.save(tmp_path / "plain.npy", np.zeros((40, 8, 8), np.uint8))
    code, _, err = run_cli("augment", runs / "bype", tmp_path / "plain.npy")
    assert code == 2
    assert "labels" in err or "levels" in err
