"""Runs under each schedule and with averaging: stopped and resumed they end bit-equal; recipes are recorded."""

import json

import pytest

from bype.core.config import Config
from bype.core.errors import InputError
from bype.runs.fitting import fit
from bype.runs.run import Run

SMALL = {"n_components": 20, "exemplars": 30, "latent_dim": 6, "hidden_dim": 24, "device": "cpu"}
STEP_TWO = {"coreset_interval": 2, "coreset_steps": 3}


def files(folder):
    return {name: (folder / name).read_bytes() for name in ("best.safetensors", "last.safetensors", "last.json")}


def _stop(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("coreset", "options"),
    [
        ("paper", {"schedule": "linear", "lr_warmup": 2}),
        ("paper", {"schedule": "cosine", "averaging": 0.99}),
        ("elbo", {"averaging": 0.99, "patience": 2}),
        ("paper", {"gradient": "path", "schedule": "linear"}),
        ("paper", {"importance": 3, "schedule": "linear", "epochs": 10, "averaging": 0.9}),
    ],
)
def test_stopped_after_every_epoch_a_schedule_ends_bit_equal(tmp_path, coreset, options):
    options = {"epochs": 5, "warmup": 2, "lr": 2e-3, **SMALL, **STEP_TWO, **options}
    config = Config("digits", coreset=coreset, **options)
    fit(config, tmp_path / "whole")
    for _ in range(options["epochs"]):
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "cut", resume=True, on_epoch=_stop)
    assert fit(config, tmp_path / "cut", resume=True).was_finished
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_a_best_average_that_was_not_written_is_restored_from_the_last_checkpoint(tmp_path):
    config = Config("digits", coreset="elbo", epochs=2, warmup=0, averaging=0.9, lr=2e-3, **SMALL)
    trained = fit(config, tmp_path)
    assert trained.trainer.best_epoch == 2
    best = (tmp_path / "best.safetensors").read_bytes()
    (tmp_path / "best.safetensors").unlink()
    fit(config, tmp_path, resume=True)
    assert (tmp_path / "best.safetensors").read_bytes() == best


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_run_whose_rate_depends_on_its_length_is_not_extended(tmp_path, schedule):
    config = Config("digits", prior="standard", epochs=2, warmup=0, schedule=schedule, **SMALL)
    fit(config, tmp_path)
    longer = Config("digits", prior="standard", epochs=3, warmup=0, schedule=schedule, **SMALL)
    with pytest.raises(
        InputError, match=f"expected --epochs 2, the run's own, since the rates of --schedule {schedule}"
    ):
        fit(longer, tmp_path, resume=True)
    assert fit(config, tmp_path, resume=True).was_finished


def test_an_average_at_a_constant_rate_is_extended(tmp_path):
    options = {"prior": "standard", "warmup": 1, "averaging": 0.9, **SMALL}
    fit(Config("digits", epochs=2, **options), tmp_path / "run")
    fit(Config("digits", epochs=4, **options), tmp_path / "run", resume=True)
    fit(Config("digits", epochs=4, **options), tmp_path / "four")
    assert files(tmp_path / "run") == files(tmp_path / "four")


def test_a_run_records_its_recipe_and_the_epochs_that_follow_from_the_data(tmp_path, monkeypatch, cli_json):
    monkeypatch.chdir(tmp_path)
    config = Config("digits", recipe="fast", prior="standard", **SMALL)
    n = fit(Config("digits", prior="standard", epochs=1, warmup=0, **SMALL), "other").data.train
    sized = config.sized(len(n))
    with pytest.raises(KeyboardInterrupt):
        fit(config, "run", on_epoch=_stop)
    options = json.loads((tmp_path / "run" / "config.json").read_text())["options"]
    assert (options["recipe"], options["epochs"], options["warmup"]) == ("fast", sized.epochs, sized.warmup)
    with pytest.raises(KeyboardInterrupt):  # the same config, whose epochs are open, is the run's own
        fit(config, "run", resume=True, on_epoch=_stop)
    assert len(Run("run").metrics.read()) == 2


def test_recipes_are_listed(cli_json, run_cli):
    listed = cli_json("recipes")
    assert listed["paper"]["options"]["epochs"] == "4000"
    assert listed["fast"]["options"]["schedule"] == "linear"
    code, out, _ = run_cli("recipes")
    assert code == 0
    assert "paper" in out
    assert "--lr" in out
