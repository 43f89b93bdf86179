"""A run that is extended is the run that it would have been with the new options from the start."""

import json
from dataclasses import replace

import pytest

from bype.core.config import Config
from bype.core.errors import InputError
from bype.runs.fitting import fit
from bype.runs.run import Run

SMALL = {"n_components": 20, "exemplars": 30, "latent_dim": 6, "hidden_dim": 24, "warmup": 2, "device": "cpu"}


def config(**options):
    return Config("digits", **(SMALL | options))


def files(folder):
    names = ("best.safetensors", "last.safetensors", "last.json")
    return {name: (folder / name).read_bytes() for name in names}


def metrics(folder):
    return [{k: v for k, v in m.items() if not k.startswith("seconds")} for m in Run(folder).metrics.read()]


@pytest.mark.parametrize("prior", ["standard", "exemplar", "bype"])
def test_five_epochs_extended_to_eight_are_bit_equal_to_eight(tmp_path, prior):
    options = {"prior": prior, "coreset_interval": 2, "coreset_steps": 3}
    fit(config(epochs=5, **options), tmp_path / "run")
    five = metrics(tmp_path / "run")
    assert not fit(config(epochs=8, **options), tmp_path / "run", resume=True).was_finished
    fit(config(epochs=8, **options), tmp_path / "eight")
    assert files(tmp_path / "run") == files(tmp_path / "eight")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "eight")
    assert metrics(tmp_path / "run")[:5] == five
    assert fit(config(epochs=8, **options), tmp_path / "run", resume=True).was_finished


def test_more_patience_continues_a_run_that_stopped_early(tmp_path):
    options = {"prior": "standard", "lr": 0.3, "warmup": 0, "epochs": 14}
    fit(config(patience=1, **options), tmp_path / "run")
    stopped = len(metrics(tmp_path / "run"))
    assert stopped < 14
    fit(config(patience=3, **options), tmp_path / "run", resume=True)
    assert len(metrics(tmp_path / "run")) > stopped
    fit(config(patience=3, **options), tmp_path / "whole")
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_the_history_is_recorded(tmp_path):
    own = config(prior="standard", epochs=1, patience=7)
    fit(own, tmp_path)
    assert "history" not in Run(tmp_path).record
    fit(replace(own, epochs=2), tmp_path, resume=True)
    fit(replace(own, epochs=3, patience=9), tmp_path, resume=True)
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["history"] == [
        {"after_epoch": 1, "options": {"epochs": 1}},
        {"after_epoch": 2, "options": {"epochs": 2, "patience": 7}},
    ]
    assert (Run(tmp_path).config.epochs, Run(tmp_path).config.patience) == (3, 9)
    assert json.loads((tmp_path / "last.json").read_text())["finished"] is True


def test_an_extension_never_contradicts_what_is_trained(tmp_path):
    own = config(prior="standard", epochs=3, patience=7)
    fit(own, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(InputError, match="expected --epochs of at least 3, the epochs already trained, got 2"):
        fit(replace(own, epochs=2), tmp_path, resume=True)
    with pytest.raises(InputError, match="expected --patience of at least 7, the run's own, got 6"):
        fit(replace(own, patience=6), tmp_path, resume=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_fewer_epochs_than_planned_are_taken_while_they_are_not_trained(tmp_path):
    def stop(info, trainer):
        raise KeyboardInterrupt

    own = config(prior="standard", epochs=9)
    with pytest.raises(KeyboardInterrupt):
        fit(own, tmp_path / "run", on_epoch=stop)
    fit(replace(own, epochs=2), tmp_path / "run", resume=True)
    fit(replace(own, epochs=2), tmp_path / "two")
    assert files(tmp_path / "run") == files(tmp_path / "two")


def test_the_command_says_what_is_extended(cli_json, run_cli, tmp_path):
    options = ["--prior", "standard", "--hidden-dim", 8, "--latent-dim", 4, "--warmup", 0, "--device", "cpu"]
    cli_json("train", "digits", *options, "--epochs", 1, "--out", tmp_path / "run")
    code, _, err = run_cli("train", "digits", "--out", tmp_path / "run", "--resume", "--epochs", 2, "--patience", 60)
    assert code == 0
    assert f"{tmp_path / 'run'}: extended, epochs 1 -> 2, patience 50 -> 60" in err
    again = cli_json("train", "digits", "--out", tmp_path / "run", "--resume")
    assert (again["epochs"], again["finished_already"]) == (2, True)


def test_the_steps_of_an_epoch_are_reported(tmp_path):
    seen = []
    own = config(prior="standard", epochs=2, batch_size=500)
    fit(own, tmp_path, on_step=lambda trainer, step, steps: seen.append((trainer.epoch, step, steps)))
    assert seen == [(epoch, step, 3) for epoch in (0, 1) for step in (1, 2, 3)]
