"""The defaults of public functions: a user's results change with them, so that they change only on purpose."""

import inspect

import pytest

import bype
from bype.evaluation.plates import plate_agreement
from bype.pseudocoreset import Algorithm2, ReferenceCode

RECIPES = {  # steps of training and of step (ii), as in the paper's experiments
    bype.Trainer: {
        "epochs": 4000, "warmup": 100, "patience": 50, "batch_size": 100, "lr": 5e-4, "schedule": "constant",
        "lr_warmup": 0, "averaging": 0.0, "gradient": "total", "coreset_interval": 10, "precision": "auto",
        "deterministic": False, "seed": 0,
    },
    ReferenceCode: {"batch_size": 100, "z1_draws": 1},
    Algorithm2: {"steps": 100, "lr": 1e-3, "batch_size": 100, "z1_draws": 1},
}  # fmt: skip
MODELS = {
    bype.build_model: {
        "arch": "vae", "prior": "bype", "likelihood": "mse", "latent_dim": 40, "hidden_dim": 300, "coreset": "paper",
        "init": "he", "seed": 0,
    },
    bype.wrap: {"prior": "standard", "coreset": "paper", "seed": 0},
}  # fmt: skip
FIGURES = {
    bype.evaluate: {"split": "test", "n_samples": 5000, "seed": 0, "trained_on": True},
    bype.score: {"n_samples": 500, "seed": 0},
    bype.compare: {"split": "test", "samples": 500, "seed": 0, "device": "auto"},
    bype.log_likelihood: {"seed": 0},
    bype.sample_quality: {"seed": 0},
    bype.embed: {"seed": 0},
    bype.neighbours: {"k": 8, "seed": 0},
    plate_agreement: {"n": 16, "seed": 0},
    bype.refit: {"seed": 0},
    bype.interpolate: {"steps": 11},
}
SETS = {
    bype.load: {"skip_bad": False, "least": 10},
    bype.from_arrays: {"name": "arrays", "levels": 256, "channels_last": False, "stratify": False},
    bype.from_torch: {"name": "torch", "stratify": False, "fresh": False, "workers": 0},
}


@pytest.mark.parametrize(
    ("function", "expected"), (RECIPES | MODELS | FIGURES | SETS).items(), ids=lambda v: str(v)[:40]
)
def test_the_defaults_of_public_functions_are_those_that_are_documented(function, expected):
    parameters = inspect.signature(function).parameters
    found = {name: parameters[name].default for name in expected}
    assert found == expected
    assert all(type(found[name]) is type(expected[name]) for name in expected)
