"""The estimator on data frames of pandas and polars."""

import numpy as np
import pytest

import bype
from bype.core.errors import InputError

pd = pytest.importorskip("pandas", reason="needs the extra tables")
polars = pytest.importorskip("polars", reason="polars is not installed")
QUICK = {"max_epochs": 2, "random_state": 0, "n_importance_samples": 5, "n_components": 8, "hidden_dim": 8}


@pytest.fixture(scope="module", name="X")
def rows():
    rng = np.random.default_rng(0)
    return {"height": rng.normal(170, 10, 120), "age": rng.integers(18, 80, 120)}


@pytest.fixture(params=[pd.DataFrame, polars.DataFrame], ids=["pandas", "polars"])
def frame(X, request):
    return request.param(X)


def test_a_frame_is_its_array_with_names(X, frame):
    model = bype.ByPEVAE(**QUICK).fit(frame)
    array = np.stack(list(X.values()), 1)
    plain = bype.ByPEVAE(**QUICK).fit(array)
    assert model.feature_names_in_.tolist() == ["height", "age"]
    for method in ("transform", "score_samples", "predict"):
        np.testing.assert_array_equal(getattr(model, method)(frame), getattr(plain, method)(array))


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_latents_come_as_the_frame_that_is_asked_for(frame, kind):
    model = bype.ByPEVAE(**QUICK).set_output(transform=kind).fit(frame)
    latents = model.transform(frame)
    assert type(latents).__module__.split(".")[0] == kind
    assert list(latents.columns) == model.get_feature_names_out().tolist() == ["bypevae0"]


def test_text_booleans_and_categories_are_columns_of_a_mixed_table(X, frame):
    rng = np.random.default_rng(1)
    more = {"smoker": rng.random(120) < 0.3, "town": rng.choice(["A", "B", "C"], 120)}
    mixed = type(frame)(X | more)
    town = pd.Categorical(more["town"]) if isinstance(frame, pd.DataFrame) else polars.Series(more["town"])
    town = town if isinstance(frame, pd.DataFrame) else town.cast(polars.Categorical)
    categories = type(frame)(X | more | {"town": town})
    model = bype.ByPEVAE(likelihood="mixed", **QUICK).fit(mixed)
    assert [c.kind for c in model.table_.columns] == ["normal", "normal", "binary", "categorical"]
    np.testing.assert_array_equal(model.score_samples(categories), model.score_samples(mixed))
    with pytest.raises(InputError, match=r"column town: expected numbers, got text such as .*use likelihood 'mixed'"):
        bype.ByPEVAE(**QUICK).fit(mixed)


@pytest.mark.parametrize("likelihood", ["gaussian", "mixed"])
def test_a_missing_value_is_named(X, frame, likelihood):
    ages = [None if age > 70 else age for age in X["age"]]
    first = ages.index(None)
    with pytest.raises(InputError, match=f"column age: expected no missing values .* the first in row {first}; drop"):
        bype.ByPEVAE(likelihood=likelihood, **QUICK).fit(type(frame)(X | {"age": ages}))


def test_missing_text_and_booleans_are_named(frame):
    for values in (["A", None] * 60, [True, None] * 60):
        with pytest.raises(InputError, match="column c: expected no missing values"):
            bype.ByPEVAE(likelihood="mixed", **QUICK).fit(type(frame)({"c": values}))


def test_missing_values_of_pandas_own_types_are_named(X):
    frame = pd.DataFrame(X).convert_dtypes()
    frame.loc[3, "age"] = pd.NA
    for likelihood in ("gaussian", "mixed"):
        with pytest.raises(InputError, match=r"column age: expected no missing values .* row 3"):
            bype.ByPEVAE(likelihood=likelihood, **QUICK).fit(frame)


def test_images_may_be_rows_of_a_frame(frame):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4)).astype(np.uint8)
    images = type(frame)(dict(zip("abcd", pixels.T, strict=True)))
    model = bype.ByPEVAE(image_shape=(2, 2), **QUICK).fit(images)
    assert model.sample(5)[0].max() > 1, "in the units of bytes"
    np.testing.assert_array_equal(
        model.transform(images), bype.ByPEVAE(image_shape=(2, 2), **QUICK).fit(pixels).transform(pixels)
    )


def test_frames_that_are_no_table_are_refused(X, frame):
    times = np.datetime64("2020-01-01") + np.arange(120)
    for likelihood in ("gaussian", "mixed"):
        with pytest.raises(InputError, match="column d: expected real numbers, got times; convert them"):
            bype.ByPEVAE(likelihood=likelihood, **QUICK).fit(type(frame)(X | {"d": times}))
    with pytest.raises(InputError, match="at least 2 rows, got 1"):
        bype.ByPEVAE(**QUICK).fit(frame[:1])
    with pytest.raises(InputError, match="got a name twice"):
        bype.ByPEVAE(**QUICK).fit(pd.DataFrame(np.ones((20, 2)), columns=["a", "a"]))
    with pytest.raises(InputError, match=r"LazyFrame; call X\.collect\(\)"):
        bype.ByPEVAE(**QUICK).fit(polars.DataFrame(X).lazy())


def test_a_table_written_by_polars_is_trained_from_the_shell(X, tmp_path, run_cli):
    frame = polars.DataFrame(X | {"town": ["A", "B", "C"] * 40})
    frame.write_csv(tmp_path / "t.csv")
    frame.write_parquet(tmp_path / "t.parquet")
    weights = []
    for suffix in ("csv", "parquet"):
        run = tmp_path / suffix
        options = ["--components", 4, "--latent-dim", 2, "--hidden-dim", 4, "--epochs", 1, "--warmup", 0, "--out", run]
        code, _, err = run_cli("train", tmp_path / f"t.{suffix}", *options)
        assert code == 0, err
        weights.append(bype.load_model(run).state_dict())
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
