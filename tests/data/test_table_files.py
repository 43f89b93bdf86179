"""Tables from files: what is read, and a run from one."""

import numpy as np
import pytest

import bype
from bype.core.errors import InputError

pd = pytest.importorskip("pandas", reason="needs the extra tables")


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"age": rng.integers(20, 70, 60), "height": rng.normal(1.7, 0.1, 60), "smoker": rng.integers(0, 2, 60),
         "town": rng.choice(["A", "B", "C"], 60), "label": rng.choice(["x", "y"], 60)}
    )  # fmt: skip


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("csv", ";"), ("csv", "\t"), ("parquet", "")])
def test_every_format_gives_the_same_set(frame, tmp_path, suffix, separator):
    path = tmp_path / f"table.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, sep=separator, index=False)
    data = bype.load(str(path), labels_key="label")
    assert {c.name: c.kind for c in data.table.columns} == {
        "age": "normal", "height": "normal", "smoker": "binary", "town": "categorical",
    }  # fmt: skip
    assert data.classes == ("x", "y")
    assert [len(part) for part in data.splits.values()] == [48, 6, 6]
    columns = data.table.decode(data.train.scaled().flatten(1).double().numpy())
    rows = data.train.origin.numpy()
    np.testing.assert_allclose(columns[1], frame["height"].to_numpy()[rows], rtol=1e-5)
    assert columns[3].tolist() == frame["town"].to_numpy()[rows].tolist()
    age = data.table.columns[0]
    assert age.mean == pytest.approx(frame["age"].to_numpy()[rows].mean())


def test_a_file_without_names_has_numbered_columns(tmp_path):
    np.savetxt(tmp_path / "t.csv", np.random.default_rng(0).normal(size=(30, 2)), delimiter=",")
    assert [c.name for c in bype.load(str(tmp_path / "t.csv")).table.columns] == ["x0", "x1"]


def test_one_column_is_a_table(tmp_path):
    (tmp_path / "t.csv").write_text("a\n" + "".join(f"{i / 7}\n" for i in range(30)))
    data = bype.load(str(tmp_path / "t.csv"))
    assert [(c.name, c.kind) for c in data.table.columns] == [("a", "normal")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("a,b\n1,2\n3\n", "expected 2 values in line 3, got 1"),
        ("1,2\n3\n", "expected 2 values in line 2, got 1"),
        ("a,a\n1,2\n", "'a' twice"),
        ("a,b\n" + "1,2\n" * 5, "at least 10 rows"),
        ("a,b\n" + "1,2\n,3\n" * 10, r"column a: expected no missing values \(NaN\), got 10, the first in row 1"),
        ("a,b\n" + "1,red\n2,?\n" * 10, "column b: expected no missing values"),
        ("a,b\n" + "1,2\n" * 20, "expected a column that varies"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        bype.load(str(tmp_path / "t.csv"))


def test_a_table_is_trained_evaluated_and_sampled_from_the_shell(frame, tmp_path, cli_json, run_cli):
    frame.drop(columns="label").to_csv(tmp_path / "t.csv", index=False)
    run = tmp_path / "run"
    options = ["--components", 10, "--latent-dim", 2, "--hidden-dim", 8]
    code, _, err = run_cli("train", tmp_path / "t.csv", *options, "--epochs", 2, "--warmup", 0, "--out", run)
    assert code == 0, err
    assert bype.Run.open(run).config.likelihood == "mixed", "the likelihood of a table, if none is given"
    assert np.isfinite(cli_json("evaluate", run, "--samples", 5)["nll_nats"])
    (tmp_path / "t.csv").rename(tmp_path / "moved.csv")
    model = bype.load_model(run)
    assert model.sample(3).images.shape == (3, 1, 1, 6)
    code, _, err = run_cli("train", tmp_path / "moved.csv", "--likelihood", "mse", "--out", tmp_path / "r2")
    assert code == 2
    assert "use --likelihood mixed" in err
    code, _, err = run_cli("train", "digits", "--likelihood", "mixed", "--out", tmp_path / "r3")
    assert code == 2
    assert "expected a table" in err


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_column_of_labels_is_taken_out_wherever_it_stands(frame, tmp_path, place):
    names = [name for name in frame.columns if name != "label"]
    columns = [*names[:place], "label", *names[place:]]
    frame[columns].to_csv(tmp_path / "t.csv", index=False)
    data = bype.load(str(tmp_path / "t.csv"), labels_key="label")
    assert [c.name for c in data.table.columns] == names
    assert data.classes == ("x", "y")


def test_a_number_that_float32_cannot_hold_is_one_line(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(f"{i},{i % 3}.5" for i in range(20)))
    table = bype.load(tmp_path / "t.csv").table
    (tmp_path / "far.csv").write_text("a,b\n1,0.5\n1e300,0.5\n")
    with pytest.raises(bype.InputError, match="fit into float32 when standardised, got a larger one in row 1"):
        bype.load(tmp_path / "far.csv", table=table, least=1)


def test_the_text_among_numbers_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(f"{i},{i % 3}.5" for i in range(20)))
    table = bype.load(tmp_path / "t.csv").table
    (tmp_path / "text.csv").write_text("a,b\n1,0.5\nbig,0.5\n")
    with pytest.raises(bype.InputError, match="column a: expected numbers, got text such as 'big'"):
        bype.load(tmp_path / "text.csv", table=table, least=1)
