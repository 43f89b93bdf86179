"""Items of a run and their yardstick: which items are the run's own, and what is scored once."""

import shutil

import pytest
import torch

from bype.runs import reference
from bype.runs.items import own_split
from bype.runs.reference import scores_beside_tests
from bype.runs.run import Run


@pytest.fixture
def loaded(trained, tmp_path):
    shutil.copytree(trained["standard"], tmp_path / "run")
    return Run.open(tmp_path / "run").load()


@pytest.fixture
def scored(monkeypatch):
    """The number of images of each call of `score`."""
    numbers, score = [], reference.score
    monkeypatch.setattr(reference, "score", lambda m, x, *a, **k: numbers.append(len(x)) or score(m, x, *a, **k))
    return numbers


def test_the_yardstick_is_scored_once_by_whatever_comes_first(loaded, scored):
    tests, items = loaded.data.test, loaded.data.validation.first(7)
    first = scores_beside_tests(loaded, items, 5)
    assert scored == [len(tests), 7]
    again = scores_beside_tests(loaded, items, 5)
    assert scored == [len(tests), 7, 7]
    assert torch.equal(first.more_unusual_than, again.more_unusual_than)
    own = scores_beside_tests(loaded, tests, 5, are_tests=True, seed=3)
    assert scored[3:] == [len(tests)]
    scores_beside_tests(loaded, items, 5, seed=3)
    assert scored[4:] == [7], "the tests' own scores are the yardstick of the other items"
    ranks = [100 * (own.log_likelihood > x).double().mean().item() for x in own.log_likelihood]
    assert own.more_unusual_than.tolist() == pytest.approx(ranks)


def test_items_that_name_the_run_s_set_are_its_own(loaded):
    assert own_split(loaded, None, None) == own_split(loaded, [], None) == "test"
    assert own_split(loaded, ["digits"], None) == "test"
    assert own_split(loaded, ["digits"], "validation") == own_split(loaded, (), "validation") == "validation"
    assert own_split(loaded, ["a.png"], None) is None
    assert own_split(loaded, ["digits", "a.png"], "validation") is None
