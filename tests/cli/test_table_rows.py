"""What a run of a table makes are rows, in the units and with the columns of the user; never pictures."""

import re
import sys

import numpy as np
import pytest

import bype

pd = pytest.importorskip("pandas", reason="needs the extra tables")

COLUMNS = ["age", "höhe, m", "smoker", "town"]


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    town = rng.choice(["Köln", "B", "1"], 60)
    return pd.DataFrame(
        {"age": rng.integers(20, 70, 60), "höhe, m": rng.normal(1.7, 0.1, 60), "smoker": rng.integers(0, 2, 60),
         "town": town, "label": np.where(town == "B", "x", "y")}
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    frame.to_csv(folder / "t.csv", index=False)
    options = {"latent_dim": 2, "hidden_dim": 16, "n_components": 5, "epochs": 30, "warmup": 0, "lr": 3e-3}
    bype.fit(bype.Config(str(folder / "t.csv"), likelihood="mixed", labels_key="label", **options), folder / "run")
    return folder / "run"


def read(path):
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_samples_are_rows_of_the_table_and_can_be_trained_on(run, frame, cli_json, tmp_path, suffix):
    out = tmp_path / f"rows{suffix}"
    assert cli_json("sample", run, "--n", 50, "--out", out)["n"] == 50
    rows = read(out)
    assert list(rows.columns) == [*COLUMNS, "label"]
    assert set(rows["town"].astype(str)) <= set(frame["town"])
    assert set(rows["smoker"]) == {0, 1}, "sampled, not the probability"
    assert set(rows["label"]) <= {"x", "y"}
    assert abs(rows["age"].mean() - frame["age"].mean()) < 5
    assert abs(rows["höhe, m"].std() - 0.1) < 0.05
    cli_json("train", out, "--labels-key", "label", "--epochs", 1, "--out", tmp_path / "of-samples")
    again = bype.load_model(tmp_path / "of-samples").input_spec.table
    assert [c.kind for c in again.columns] == [c.kind for c in bype.load_model(run).input_spec.table.columns]


def test_samples_in_a_npz_are_an_array_for_each_column(run, run_cli, tmp_path):
    for name in ("a.npz", "b.npz"):
        assert run_cli("sample", run, "--n", 5, "--seed", 3, "--out", tmp_path / name)[0] == 0
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as other:
        assert one.files == [*COLUMNS, "label"]
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])


def test_samples_of_a_component_a_label_and_like_a_row(run, frame, cli_json, tmp_path):
    cli_json("sample", run, "--component", "1,3", "--n", 4, "--out", tmp_path / "c.csv")
    assert len(read(tmp_path / "c.csv")) == 8
    cli_json("sample", run, "--label", "x", "--n", 9, "--out", tmp_path / "l.csv")
    assert set(read(tmp_path / "l.csv")["label"]) == {"x"}
    frame.head(1).assign(age=1000).to_csv(tmp_path / "one.csv", index=False)
    cli_json("sample", run, "--like", tmp_path / "one.csv", "--n", 3, "--out", tmp_path / "k.csv")
    assert list(read(tmp_path / "k.csv").columns) == COLUMNS


def test_reconstructions_of_a_table_are_its_rows_in_their_order(run, frame, cli_json, tmp_path):
    frame.tail(7).drop(columns="label").to_csv(tmp_path / "new.csv", index=False)
    names = cli_json("reconstruct", run, tmp_path / "new.csv", "--out", tmp_path / "r.csv")["names"]
    assert names == [f"{tmp_path}/new.csv[{i}]" for i in range(7)]
    rows, model = read(tmp_path / "r.csv"), bype.load_model(run)
    assert list(rows.columns) == COLUMNS
    stored = model.reconstruct(frame.tail(7)).double().flatten(1).numpy()
    expected = pd.DataFrame(model.input_spec.table.named(stored))
    np.testing.assert_allclose(rows["age"], expected["age"], rtol=1e-6)
    assert rows["town"].astype(str).tolist() == expected["town"].tolist()
    assert len(read_all(run, cli_json, tmp_path)) == len(bype.load(run.parent / "t.csv").test)


def read_all(run, cli_json, tmp_path):
    cli_json("reconstruct", run, "--out", tmp_path / "all.parquet")
    return read(tmp_path / "all.parquet")


def test_an_interpolation_ends_at_the_reconstructions(run, cli_json, tmp_path):
    between = cli_json("interpolate", run, "--between", 0, 2, "--steps", 5, "--out", tmp_path / "i.csv")["between"]
    rows = read(tmp_path / "i.csv")
    assert list(rows.columns) == ["from", "to", "t", *COLUMNS]
    assert rows["t"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert rows[["from", "to"]].drop_duplicates().to_numpy().tolist() == between
    cli_json("reconstruct", run, 0, 2, "--out", tmp_path / "r.csv")
    ends = read(tmp_path / "r.csv")
    np.testing.assert_allclose(rows["age"].iloc[[0, -1]], ends["age"], rtol=1e-5)
    cli_json("interpolate", run, "--rows", 3, "--steps", 4, "--points", "--out", tmp_path / "p.csv")
    assert len(read(tmp_path / "p.csv")) == 12


def test_neighbours_are_rows_with_their_distance(run, frame, cli_json, tmp_path):
    found = cli_json("neighbours", run, 1, "--k", 3, "--out", tmp_path / "n.csv")
    rows = read(tmp_path / "n.csv")
    assert list(rows.columns) == ["space", "row", "label", "distance", "source", *COLUMNS]
    assert rows["space"].tolist() == ["latent"] * 3 + ["pixel"] * 3
    for row, item in zip(rows.to_dict("records"), found["latent"] + found["pixel"], strict=True):
        own = frame.iloc[int(item["source"])]
        assert row["age"] == pytest.approx(own["age"], abs=1e-3)
        assert str(row["town"]) == own["town"]


def test_the_points_of_a_table_are_exported_in_its_units(run, cli_json, tmp_path):
    cli_json("coreset", run, "--out", tmp_path / "coreset")
    assert sorted(p.name for p in (tmp_path / "coreset").iterdir()) == ["points.csv", "points.npy", "weights.csv"]
    points = read(tmp_path / "coreset" / "points.csv")
    assert list(points.columns) == COLUMNS
    assert points["age"].between(0, 100).all()
    cli_json("coreset", run, "--out", tmp_path / "coreset")


def test_a_column_of_the_table_keeps_its_name(cli_json, tmp_path):
    rng = np.random.default_rng(0)
    pd.DataFrame({"t": rng.normal(size=30), "from": rng.normal(size=30)}).to_csv(tmp_path / "t.csv", index=False)
    bype.fit(bype.Config(str(tmp_path / "t.csv"), likelihood="gaussian", epochs=1, warmup=0), tmp_path / "run")
    cli_json("interpolate", tmp_path / "run", "--rows", 1, "--steps", 3, "--out", tmp_path / "i.csv")
    assert list(read(tmp_path / "i.csv").columns) == ["from_", "to", "t_", "t", "from"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sample", "--out", "x.png"], "expected a name that ends in .csv, .parquet or .npz, since .* is of a table"),
        (["reconstruct", "--out", "x.png"], "a table, of which there are no pictures, got .*x.png"),
        (["interpolate", "--out", "x.png"], "no pictures"),
        (["neighbours", "0", "--out", "x.png"], "no pictures"),
        (["sample", "--plates", "--out", "x.csv"], "--plates: expected a run of images, but .* is of a table"),
        (["sample", "--raw", "--out", "x.csv"], "--raw: expected a run of images"),
        (["sample", "--out", "x.txt"], "expected a name that ends in .png, .csv, .parquet or .npz, got"),
    ],
)
def test_pictures_of_a_table_are_refused_in_one_line(run, run_cli, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(args[0], run, *args[1:])
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert re.search(message, err)
    assert not list(tmp_path.iterdir())


def test_rows_of_images_are_refused(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli("train", "digits", "--epochs", 1, "--prior", "standard", "--out", "run")[0] == 0
    for command, out in (("sample", "x.csv"), ("reconstruct", "x.npz"), ("interpolate", "x.parquet")):
        code, _, err = run_cli(command, "run", "--out", out)
        assert code == 2
        assert "since run is of images" in err


def test_a_missing_library_of_parquet_is_one_line(run, run_cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run_cli("sample", run, "--out", tmp_path / "x.parquet")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "pip install 'bype[tables]'" in err
