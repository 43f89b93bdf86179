"""What cells keep beside their figures: packed arrays in the ledger, and classifiers in the folder of runs."""

import numpy as np
import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.core.tensors import read_tensors
from bype.evaluation.classifier import ClassifierOptions
from bype.experiments import classifiers
from bype.experiments.arrays import LARGEST, pack, unpack
from bype.experiments.classifiers import baseline_path, kept_classifier

OPTIONS = ClassifierOptions(epochs=3, batch_size=300, hidden_dim=8)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.array([[0.5, -1e30, np.pi]], dtype=np.float32),
        np.array([-(2**60), 7], dtype=np.int64),
        np.zeros((0, 2), dtype=np.float32),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    ],
)
def test_an_array_survives_the_ledger(array):
    again = unpack(pack(array), "a")
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


GOOD = pack(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float64"},
        {"dtype": 3},
        {"dtype": []},
        {"shape": [2, 4]},
        {"shape": [2, 2]},
        {"shape": [-2, -3]},
        {"shape": [2.0, 3]},
        {"shape": [True, 6]},
        {"shape": "23"},
        {"zlib": "!"},
        {"zlib": GOOD["zlib"][:8]},
        {"zlib": None},
        {"shape": [LARGEST + 1]},
    ],
)
def test_a_damaged_array_is_one_line(changes):
    with pytest.raises(InputError, match="array 'a': expected a packed array"):
        unpack({**GOOD, **changes}, "a")


def test_an_array_that_unpacks_to_more_than_it_says_is_refused_cheaply():
    bomb = pack(np.zeros(LARGEST, dtype=np.uint8))
    assert len(bomb["zlib"]) < 100_000
    with pytest.raises(InputError, match="does not have 3 bytes"):
        unpack({**bomb, "shape": [3]}, "a")


class Stop(Exception):  # noqa: N818
    pass


def stopping(after):
    """Raises at the n-th call."""
    calls = []

    def check():
        calls.append(None)
        if len(calls) == after:
            raise Stop

    return check, calls


def test_a_classifier_is_continued_and_not_trained_twice(tmp_path):
    data = bype.load("digits")
    path = baseline_path(tmp_path, data.name, OPTIONS)
    with pytest.raises(Stop):
        kept_classifier(path, data, None, OPTIONS, stopping(2)[0])
    assert int(read_tensors(path)[0]["epoch"]) == 2
    before = read_tensors(path)[1]["seconds"]
    check, calls = stopping(9)
    done = kept_classifier(path, data, None, OPTIONS, check)
    assert len(calls) == 1, "the third epoch"
    assert done.seconds > before > 0
    check, calls = stopping(9)
    again = kept_classifier(path, data, None, OPTIONS, check)
    assert not calls
    unbroken = kept_classifier(tmp_path / "other.safetensors", data, None, OPTIONS, check)
    for one in (done, again):
        ours, theirs = one.classifier.state_dict(), unbroken.classifier.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_another_source_of_the_same_release_trains_no_classifier_again(tmp_path, monkeypatch):
    data, path = bype.load("digits"), tmp_path / "c.safetensors"
    kept_classifier(path, data, None, OPTIONS, lambda: None)
    same = classifiers.versions() | {"source": "another tree"}
    monkeypatch.setattr(classifiers, "versions", lambda: same)
    check, calls = stopping(9)
    kept_classifier(path, data, None, OPTIONS, check)
    assert not calls


@pytest.mark.parametrize("change", ["options", "data", "network", "versions", "damaged"])
def test_a_classifier_of_something_else_is_trained_anew(tmp_path, monkeypatch, change):
    data, path = bype.load("digits"), tmp_path / "c.safetensors"
    kept_classifier(path, data, None, OPTIONS, lambda: None, {"sum": "a"})
    options, network = OPTIONS, {"sum": "a"}
    if change == "options":
        options = ClassifierOptions(epochs=3, batch_size=400, hidden_dim=8)
    elif change == "data":
        data = bype.from_arrays(data.train.stored().numpy(), data.train.labels.numpy(), name="digits")
    elif change == "network":
        network = {"sum": "b"}
    elif change == "versions":
        monkeypatch.setattr(classifiers, "versions", lambda: {"torch": "another"})
    else:
        path.write_bytes(path.read_bytes()[:-5])
    check, calls = stopping(9)
    kept_classifier(path, data, None, options, check, network)
    assert len(calls) == 3


def test_the_file_of_the_baseline_depends_on_data_seed_and_options(tmp_path):
    data = bype.load("digits")
    names = {
        baseline_path(tmp_path, data.name, options).name
        for options in (OPTIONS, ClassifierOptions(seed=1), ClassifierOptions(epochs=9))
    }
    assert len(names) == 3
