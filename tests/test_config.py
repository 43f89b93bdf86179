"""The options of a run, as Python gives them."""

import pytest

from bype.config import Config
from bype.errors import InputError


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"epochs": "12"}, "--epochs: expected int, got '12'"),
        ({"epochs": True}, "--epochs: expected int, got True"),
        ({"n_components": 2.0}, "--components: expected int | None, got 2.0"),
        ({"prior": None}, "--prior: expected str, got None"),
        ({"lr": 0.0}, "--lr: expected above 0, got 0.0"),
        ({"lr": float("inf")}, "--lr: expected above 0, got inf"),
        ({"coreset_lr": float("nan")}, "--coreset-lr: expected at least 0"),
        ({"seed": 2**63}, r"--seed: expected at most 2\^62"),
        ({"seed": -1}, "--seed: expected at least 0"),
        ({"precision": "fp16"}, "--precision: expected one of fp32, tf32, bf16"),
    ],
)
def test_an_option_of_another_kind_or_range_is_refused_by_its_flag(option, message):
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        Config("digits", **option)


def test_whole_numbers_do_where_others_are_expected():
    assert Config("digits", lr=1, seed=2**62).lr == 1
