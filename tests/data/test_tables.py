"""Tables: kinds of columns, what is stored, and what comes back."""

import numpy as np
import pytest

from bype.core.errors import InputError
from bype.data.tables import TableSpec, find_columns


def text(*values):
    return np.array(values, object)


COLUMNS = {
    "height": np.array([1.5, 1.75, 2.0, 1.75]),
    "smoker": np.array([0, 1, 1, 0]),
    "colour": text("red", "green", "blue", "red"),
    "left": np.array([True, False, True, True]),
    "age": np.array([30, 40, 50, 41]),
    "same": np.array([3.0, 3.0, 3.0, 3.0]),
}


@pytest.fixture
def spec():
    return find_columns(list(COLUMNS.values()), list(COLUMNS))


def test_kinds_are_found(spec):
    kinds = {c.name: c.kind for c in spec.columns}
    assert kinds == {
        "height": "normal", "smoker": "binary", "colour": "categorical", "left": "binary", "age": "normal",
        "same": "constant",
    }  # fmt: skip
    assert spec.shape == (1, 1, 1 + 1 + 3 + 1 + 1)


def test_rows_are_stored_in_the_unit_interval_and_come_back(spec):
    stored = spec.encode(list(COLUMNS.values()))
    assert stored.min() >= 0
    assert stored.max() <= 1
    for before, after in zip(COLUMNS.values(), spec.decode(stored), strict=True):
        if before.dtype.kind == "f":
            np.testing.assert_allclose(after, before, rtol=1e-12)
        else:
            assert after.tolist() == before.tolist()


def test_a_real_column_is_standardised(spec):
    height = spec.columns[0]
    z = (spec.encode(list(COLUMNS.values()))[:, 0] - 0.5) * height.span
    assert z.mean() == pytest.approx(0, abs=1e-12)
    assert z.std() == pytest.approx(1)


def test_a_far_value_widens_the_span():
    values = np.append(np.linspace(0, 1, 999), 1000.0)
    spec = find_columns([values], ["x"])
    stored = spec.encode([values])
    assert stored.min() >= 0
    assert stored.max() <= 1
    assert spec.columns[0].span > 12


def test_means_are_those_of_the_training_rows_and_spans_cover_all():
    values = np.array([0.0, 1.0, 2.0, 500.0])
    spec = find_columns([values], ["x"], train=np.array([0, 1, 2]))
    assert spec.columns[0].mean == 1
    assert spec.encode([values]).max() <= 1


def test_without_mixed_all_columns_are_real():
    spec = find_columns([COLUMNS["smoker"], COLUMNS["left"]], ["a", "b"], mixed=False)
    assert [c.kind for c in spec.columns] == ["normal", "normal"]
    with pytest.raises(InputError, match="column colour: expected numbers, got text such as 'red'"):
        find_columns([COLUMNS["colour"]], ["colour"], mixed=False)


def test_numbers_are_categories_if_asked():
    spec = find_columns([COLUMNS["age"]], ["age"], categorical=["age"])
    assert spec.columns[0].categories == (30, 40, 41, 50)
    with pytest.raises(InputError, match="got 'agee'"):
        find_columns([COLUMNS["age"]], ["age"], categorical=["agee"])


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (np.array([1.0, np.nan, np.nan]), 2),
        (text("a", None, "b"), 1),
        (text("a", "", ""), 2),
        (text("a", float("nan"), "b"), 1),
    ],
)
def test_missing_values_are_named_with_the_remedy(values, count):
    with pytest.raises(InputError, match=rf"column x: expected no missing values \(NaN\), got {count}, .* row 1; drop"):
        find_columns([values], ["x"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([np.array([1.0, np.inf])], "infinity in row 1"),
        ([np.array([1.0, 1.0])], "expected a column that varies"),
        ([text(*map(str, range(1001)))], "at most 1000 categories, got 1001"),
    ],
)
def test_other_columns_are_refused(columns, message):
    with pytest.raises(InputError, match=message):
        find_columns(columns, ["x"])


def test_an_unknown_category_is_named(spec):
    rows = [values[:1] for values in COLUMNS.values()]
    rows[2] = text("pink")
    with pytest.raises(InputError, match="column colour: expected one of blue, green, red, got pink"):
        spec.encode(rows)


def test_a_spec_survives_json(spec):
    assert TableSpec.from_json(spec.to_json(), "here") == spec
    for damage in (
        None,
        [1],
        [{"name": "x"}],
        [{**spec.to_json()[0], "sd": 0.0}],
        [{**spec.to_json()[0], "kind": "odd"}],
    ):
        with pytest.raises(InputError, match="here: expected"):
            TableSpec.from_json(damage, "here")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": float("inf")}, {"mean": float("nan")}, {"mean": "1"}, {"sd": 0.0}, {"span": -1.0},
        {"sd": float("inf")}, {"kind": "other"}, {"categories": None},
    ],
)  # fmt: skip
def test_columns_with_an_impossible_value_are_refused(spec, wrong):
    columns = spec.to_json()
    assert TableSpec.from_json(columns, "a") == spec
    with pytest.raises(InputError, match="a: expected"):
        TableSpec.from_json([columns[0] | wrong, *columns[1:]], "a")
