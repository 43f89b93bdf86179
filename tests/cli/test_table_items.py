"""Commands of a run of a table take tables, by the names of their columns, and nothing else."""

import csv

import numpy as np
import pytest

import bype

pd = pytest.importorskip("pandas", reason="needs the extra tables")


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"age": rng.integers(20, 70, 60), "height": rng.normal(1.7, 0.1, 60), "town": rng.choice(["A", "B", "1"], 60),
         "label": rng.choice(["x", "y"], 60)}
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    frame.to_csv(folder / "t.csv", index=False)
    options = {"latent_dim": 2, "hidden_dim": 8, "n_components": 5, "epochs": 2, "warmup": 0}
    bype.fit(bype.Config(str(folder / "t.csv"), likelihood="mixed", labels_key="label", **options), folder / "run")
    return folder / "run"


def test_rows_of_a_new_table_are_scored_by_the_columns_of_the_run(run, frame, cli_json, tmp_path):
    new = frame.head(4).assign(height=[1.7, 1.7, 17.0, 1.7], town="1")  # categories that look like numbers
    new[["town", "height", "label", "age"]].to_csv(tmp_path / "new.csv", sep=";", index=False)
    new.drop(columns="label").to_parquet(tmp_path / "new.parquet")
    out = tmp_path / "scores.csv"
    items = cli_json("score", run, tmp_path / "new.csv", 3, "--samples", 5, "--out", out)["items"]
    assert [item["name"] for item in items] == [*(f"{tmp_path}/new.csv[{i}]" for i in range(4)), items[4]["name"]]
    assert items[4]["name"].endswith("t.csv:test[3]")
    assert [item["label"] for item in items[:4]] == new["label"].tolist()
    assert items[2]["more_unusual_than"] == 100
    with out.open() as f:
        assert [float(row["log_likelihood"]) for row in csv.DictReader(f)] == [i["log_likelihood"] for i in items]
    same = cli_json("score", run, tmp_path / "new.parquet", "--samples", 5, "--out", out)["items"]
    assert [i["log_likelihood"] for i in same] == [i["log_likelihood"] for i in items[:4]], "labels may be missing"
    model = bype.load_model(run)
    assert bype.score(model, new, 5).log_likelihood.tolist() == pytest.approx(
        [i["log_likelihood"] for i in same], abs=1e-5
    )


def test_a_split_of_the_own_table_is_that_of_training(run, cli_json, tmp_path):
    table = run.parent / "t.csv"
    own = cli_json("score", run, "--samples", 5, "--out", tmp_path / "s.csv")["items"]
    assert cli_json("score", run, table, "--split", "test", "--samples", 5, "--out", tmp_path / "s.csv")["items"] == own
    whole = cli_json("score", run, table, "--samples", 5, "--out", tmp_path / "s.csv")["items"]
    rows = bype.load(table, labels_key="label").test.origin.tolist()
    assert [whole[row]["log_likelihood"] for row in rows] == [item["log_likelihood"] for item in own]


def test_latents_of_a_table_are_of_rows(run, run_cli, tmp_path):
    code, out, _ = run_cli("embed", run, run.parent / "t.csv", "--out", tmp_path / "z.csv")
    assert (code, out.endswith(f"latents of {len(bype.load(run.parent / 't.csv').part('all'))} rows\n")) == (0, True), (
        out
    )


def test_latents_of_a_new_table_are_those_of_the_frame(run, frame, cli_json, tmp_path):
    frame.tail(5).to_csv(tmp_path / "new.csv", index=False)
    cli_json("embed", run, tmp_path / "new.csv", "--out", tmp_path / "z.npz")
    with np.load(tmp_path / "z.npz") as found:
        np.testing.assert_array_equal(found["latents"], bype.embed(bype.load_model(run), frame.tail(5)).numpy())
        assert found["labels"].tolist() == frame["label"].tail(5).tolist()


def test_another_table_is_evaluated_in_the_units_of_the_run(run, frame, tmp_path):
    """Its rows are not standardised by its own means, which would hide that they are far away."""
    frame.assign(height=frame["height"] + 10).to_csv(tmp_path / "far.csv", index=False)
    loaded = bype.Run.open(run).load()
    far, near = (loaded.dataset(str(path)).part("all") for path in (tmp_path / "far.csv", run.parent / "t.csv"))
    scores = [bype.score(loaded.model, images, 5).log_likelihood.mean() for images in (far, near)]
    assert scores[0] < scores[1] - 100


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("digits", "digits: expected a table (.csv or .parquet), as the model was trained on"),
        ("a.png", "a.png: expected a table (.csv or .parquet), as the model was trained on"),
        ("none.csv", "none.csv: no such file"),
        ("less.csv", "less.csv: expected the columns age, height, town, got none named 'town'"),
        ("other.csv", "other.csv: column town: expected one of 1, A, B, got Z"),
        ("hole.csv", "hole.csv: column height: expected no missing values (NaN), got 1, the first in row 0"),
        ("text.csv", "text.csv: column height: expected numbers, got text such as 'tall'"),
        ("99", "99: expected a file, a set or a test index from 0 to 5, got 99"),
    ],
)
def test_other_items_are_one_line(run, run_cli, tmp_path, monkeypatch, item, message):
    monkeypatch.chdir(tmp_path)
    rows = {"less": "age,height\n30,1.7", "other": "age,height,town\n30,1.7,Z", "hole": "age,height,town\n30,,A",
            "text": "age,height,town\n30,tall,A"}  # fmt: skip
    for name, text in rows.items():
        (tmp_path / f"{name}.csv").write_text(text + "\n")
    for command in ("score", "embed"):
        code, out, err = run_cli(command, run, item, "--out", tmp_path / "out.csv")
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1


def test_a_run_of_images_refuses_a_table(trained, run, run_cli, tmp_path):
    for command in ("score", "embed", "reconstruct"):
        out = tmp_path / ("x.png" if command == "reconstruct" else "x.csv")
        code, _, err = run_cli(command, trained["standard"], run.parent / "t.csv", "--out", out)
        assert code == 2
        assert "t.csv: expected images, as the model was trained on, or a test index, got a table" in err
        assert len(err.splitlines()) == 1
