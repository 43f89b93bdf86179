"""The options of a run, as Python gives them."""

from pathlib import Path

import numpy as np
import pytest

from bype.core.config import Config
from bype.core.errors import InputError


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"epochs": "12"}, "--epochs: expected int, got '12'"),
        ({"epochs": True}, "--epochs: expected int, got True"),
        ({"n_components": 2.5}, "--components: expected int, got 2.5"),
        ({"prior": None}, "--prior: expected str, got None"),
        ({"lr": 0.0}, "--lr: expected above 0, got 0.0"),
        ({"lr": float("inf")}, "--lr: expected a finite number, got inf"),
        ({"coreset_lr": float("nan")}, "--coreset-lr: expected a finite number"),
        ({"seed": 2**31 + 1}, r"--seed: expected at most 2\^31"),
        ({"batch_size": 4 * 10**18}, r"--batch-size: expected at most 2\^31"),
        ({"seed": -1}, "--seed: expected at least 0"),
        ({"set": ""}, "SET: expected a name or a path, got an empty string"),
        ({"data_dir": ""}, "--data-dir: expected a name or a path"),
        ({"precision": "fp16"}, "--precision: expected one of auto, fp32, tf32, bf16"),
    ],
)
def test_an_option_of_another_kind_or_range_is_refused_by_its_flag(option, message):
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        Config(**({"set": "digits"} | option))


def test_paths_and_sizes_may_come_as_what_they_are():
    given = Config(Path("a/set.npz"), data_dir=Path("data"), resize=(48, 64))
    assert given == Config("a/set.npz", data_dir="data", resize="48x64")
    assert Config("a", resize=64) == Config("a", resize="64x64") == Config("a", resize=np.int64(64))
    assert Config("a", resize=64).resize == "64"
    for wrong in (64.0, "x", (1, 2, 3), [0, 4], {}):
        with pytest.raises(InputError, match="--resize: expected a number of pixels or HxW"):
            Config("a", resize=wrong)


def test_whole_numbers_do_where_others_are_expected():
    assert Config("digits", lr=1, seed=2**31).lr == 1
