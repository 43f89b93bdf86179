"""`bype score`, and what `bype sample` writes."""

import csv
import shutil

import numpy as np
import pytest
import torch

import bype
from bype.evaluation import scores

OPTIONS = {"latent_dim": 3, "hidden_dim": 16, "epochs": 2, "warmup": 0, "likelihood": "gaussian", "n_components": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    digits = bype.load("digits").train.first(300)
    np.savez(folder / "own.npz", images=(digits.scaled() * 255).byte().numpy(), labels=digits.labels.numpy())
    for prior in ("bype", "exemplar", "standard"):
        config = bype.Config(str(folder / "own.npz"), prior=prior, coreset="none", **OPTIONS)
        bype.fit(config, folder / prior)
    return folder


def test_each_item_has_a_row(folder, cli_json, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (3, 8, 8)))
    out = tmp_path / "scores.csv"
    result = cli_json("score", folder / "bype", tmp_path / "x.npy", 0, 1, "--samples", 20, "--out", out)
    with out.open() as f:
        rows = list(csv.DictReader(f))
    assert [row["name"] for row in rows] == [item["name"] for item in result["items"]]
    assert len(rows) == 5
    assert {"log_likelihood", "bpd", "elbo", "more_unusual_than"} <= rows[0].keys()
    assert all(float(row["more_unusual_than"]) > 70 for row in rows[:3]), "noise is less likely than digits"
    again = cli_json("score", folder / "bype", 1, "--samples", 20, "--out", out)
    assert again["items"][0] == result["items"][4], "the reference is read again, and the item alone"


def test_the_test_images_are_scored_without_files(folder, cli_json, run_cli, tmp_path):
    result = cli_json("score", folder / "bype", "--samples", 5, "--out", tmp_path / "s.csv")
    assert len(result["items"]) == 30
    assert min(item["more_unusual_than"] for item in result["items"]) == 0
    code, out, err = run_cli("score", folder / "bype", "--samples", 5, "--out", tmp_path / "s.csv")
    assert code == 0, err
    assert "least likely" in out


def test_test_images_are_scored_once_and_kept_as_the_yardstick(folder, cli_json, tmp_path, monkeypatch):
    run = shutil.copytree(folder / "bype", tmp_path / "run")
    counted = []
    bounds = scores._bounds
    monkeypatch.setattr(scores, "_bounds", lambda *args: counted.append(1) or bounds(*args))
    own = cli_json("score", run, "--samples", 7, "--out", tmp_path / "s.csv")["items"]
    assert len(counted) == len(own) == 30
    same = cli_json("score", run, 3, 4, "--samples", 7, "--out", tmp_path / "s.csv")["items"]
    assert len(counted) == 32, "the yardstick of the first call is read"
    assert same == own[3:5]
    path = str(folder / "own.npz")
    assert len(cli_json("score", run, path, "--samples", 1, "--out", tmp_path / "s.csv")["items"]) == 300
    assert cli_json("score", run, path, "--split", "test", "--samples", 7, "--out", tmp_path / "s.csv")["items"] == own


def test_the_held_out_half_scored_twice_gives_the_same_bits(folder, cli_json, tmp_path):
    """By two calls, alone and among others, and from Python in another order."""
    stored = bype.load(str(folder / "own.npz")).test.stored()
    np.save(tmp_path / "half.npy", stored[::2].numpy())
    np.save(tmp_path / "all.npy", stored.numpy())
    once, twice = (tmp_path / name for name in ("once.csv", "twice.csv"))
    for out in (once, twice):
        cli_json("score", folder / "bype", tmp_path / "half.npy", "--samples", 9, "--out", out)
    assert once.read_bytes() == twice.read_bytes()
    among = cli_json("score", folder / "bype", tmp_path / "all.npy", "--samples", 9, "--out", twice)["items"][::2]
    half = cli_json("score", folder / "bype", tmp_path / "half.npy", "--samples", 9, "--out", once)["items"]
    assert [{**item, "name": ""} for item in among] == [{**item, "name": ""} for item in half]
    model = bype.load_model(folder / "bype")
    first, second = (bype.score(model, x, 9) for x in (stored[::2], stored[::2].flip(0)))
    assert torch.equal(first.log_likelihood, second.log_likelihood.flip(0))


def test_without_the_data_ranks_are_left_out(folder, cli_json, run_cli, tmp_path):
    shutil.copytree(folder / "standard", tmp_path / "run")
    moved = folder / "moved.npz"
    (folder / "own.npz").rename(moved)
    try:
        np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
        result = cli_json("score", tmp_path / "run", tmp_path / "x.npy", "--samples", 5, "--out", tmp_path / "s.csv")
        assert "more_unusual_than" not in result["items"][0]
        code, _, err = run_cli("sample", folder / "bype", "--n", 4, "--out", tmp_path / "s.npz")
        assert code == 0
        assert "sources and labels are left out" in err
    finally:
        moved.rename(folder / "own.npz")


@pytest.mark.parametrize("prior", ["bype", "exemplar", "standard"])
def test_samples_are_images_with_their_sources_and_can_be_trained_on(folder, prior, run_cli, tmp_path):
    out = tmp_path / "s.npz"
    code, _, err = run_cli("sample", folder / prior, "--n", 40, "--out", out)
    assert code == 0, err
    with np.load(out) as arrays:
        assert arrays["images"].min() >= 0
        assert arrays["images"].max() <= 1
        if prior == "standard":
            assert set(arrays) == {"images"}
        else:
            data = bype.load(str(folder / "own.npz"))
            rows = {str(int(origin)): row for row, origin in enumerate(data.train.origin)}
            labels = [int(data.train.labels[rows[source]]) for source in arrays["sources"]]
            assert labels == arrays["labels"].tolist()
    code, _, err = run_cli(
        "train", out, "--epochs", 1, "--warmup", 0, "--likelihood", "gaussian", "--out", tmp_path / "r"
    )
    assert code == 0, err


def test_fixed_points_are_their_own_sources(folder, run_cli, tmp_path):
    run_cli("sample", folder / "bype", "--component", "3,5", "--n", 2, "--out", tmp_path / "s.npz")
    data = bype.load(str(folder / "own.npz"))
    points = bype.load_model(folder / "bype").prior.pseudo_inputs
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["components"].tolist() == [3, 3, 5, 5]
        for component, source in zip(arrays["components"], arrays["sources"], strict=True):
            (row,) = (data.train.origin == int(source)).nonzero()
            torch.testing.assert_close(data.train.scaled(row)[0], points[component])


def test_raw_values_are_kept_if_asked(folder, run_cli, tmp_path):
    for flags, name in (([], "clipped"), (["--raw"], "raw")):
        run_cli("sample", folder / "bype", "--n", 200, "--out", tmp_path / f"{name}.npz", *flags)
    with np.load(tmp_path / "raw.npz") as raw, np.load(tmp_path / "clipped.npz") as clipped:
        np.testing.assert_array_equal(raw["images"].clip(0, 1), clipped["images"])
        assert raw["images"].min() < 0 or raw["images"].max() > 1


@pytest.mark.parametrize("prior", ["bype", "exemplar"])
def test_a_label_s_components_alone_are_sampled(folder, prior, run_cli, cli_json, tmp_path):
    out = tmp_path / "s.npz"
    code, _, err = run_cli("sample", folder / prior, "--label", "3", "--n", 30, "--out", out)
    assert code == 0, err
    with np.load(out) as arrays:
        assert set(arrays["labels"].tolist()) == {3}
    result = cli_json("sample", folder / prior, "--label", "3", "--plates", "--n", 4, "--out", tmp_path / "p.png")
    with np.load(out) as arrays:
        assert result["n"] == 4 * len(result["components"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--component", "1,x"], "whole numbers separated by commas"),
        (["--component", "99"], "component"),
        (["--label", "11"], "--label: expected one of 0, 1, 2"),
        (["--label", "3", "--component", "1"], "at most one of"),
        (["--label", "3", "--like", "0"], "at most one of"),
    ],
)
def test_bad_choices_end_in_one_line(folder, run_cli, tmp_path, options, message):
    code, _, err = run_cli("sample", folder / "bype", *options, "--out", tmp_path / "s.png")
    assert code == 2
    assert message in err
    code, _, err = run_cli("score", folder / "bype", "--out", tmp_path / "s.txt")
    assert code == 2
    assert "ends in .csv" in err
