"""`train --seeds`: several runs that differ in their seeds only."""

import pytest
import torch

from bype.cli.seeds import parse_seeds
from bype.core.errors import InputError
from bype.models.vae import VAE
from bype.runs.run import Run

SMALL = ["--prior", "standard", "--hidden-dim", 8, "--latent-dim", 4, "--warmup", 0, "--device", "cpu", "--epochs", 1]


def test_ranges_and_lists_of_seeds_are_read():
    assert parse_seeds("0-4") == [0, 1, 2, 3, 4]
    assert parse_seeds("0,2,5") == [0, 2, 5]
    assert parse_seeds("7, 1-2") == [7, 1, 2]


@pytest.mark.parametrize(
    "text", ["", "4-0", "a", "0,,1", "-1", "0-99999", "0-5-6", "99999999999", "1,1", "0-3,2", "1.5"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match="--seeds: expected"):
        parse_seeds(text)


def test_each_seed_has_a_run_like_one_trained_alone(cli_json, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = cli_json("train", "digits", *SMALL, "--seeds", "0-1")["runs"]
    assert [r["run"] for r in runs] == ["runs/digits-vae-standard-s0", "runs/digits-vae-standard-s1"]
    cli_json("train", "digits", *SMALL, "--seed", 1, "--out", "alone")
    alone, second = Run("alone"), Run("runs/digits-vae-standard-s1")
    assert second.checkpoints.last.read_bytes() == alone.checkpoints.last.read_bytes()
    assert second.config == alone.config
    assert runs[0]["val_loss"] != runs[1]["val_loss"]

    code, _, err = run_cli("train", "digits", *SMALL, "--seeds", "1-2")
    assert code == 4
    assert "runs/digits-vae-standard-s1: already contains a run" in err
    assert not (tmp_path / "runs" / "digits-vae-standard-s2").exists(), "nothing is trained before"
    again = cli_json("train", "digits", *SMALL, "--seeds", "1-2", "--resume")["runs"]
    assert [r["finished_already"] for r in again] == [True, False]


def test_a_name_of_ones_own_ends_in_the_seed(cli_json, tmp_path):
    runs = cli_json("train", "digits", *SMALL, "--seeds", "3,0", "--out", tmp_path / "my.run")["runs"]
    assert [r["run"] for r in runs] == [str(tmp_path / "my.run-s3"), str(tmp_path / "my.run-s0")]
    assert Run(tmp_path / "my.run-s3").config.seed == 3


def test_a_seed_that_diverges_does_not_end_the_others(run_cli, tmp_path, monkeypatch):
    binarise = VAE.binarise

    def binarise_or_fail(self, grey, generator):
        first = generator.initial_seed() % 1_000_003 == 1  # the run of seed 1
        return binarise(self, grey, generator) * (torch.nan if first else 1)

    monkeypatch.setattr(VAE, "binarise", binarise_or_fail)
    code, _, err = run_cli("train", "digits", *SMALL, "--seeds", "0-2", "--out", tmp_path / "run")
    assert code == 3
    assert "1 of 3 runs failed, the first: epoch 1, step 1: expected a finite loss" in err.splitlines()[-1]
    assert Run(tmp_path / "run-s2").checkpoints.finished


def test_seed_and_seeds_together_are_refused(run_cli, tmp_path):
    code, _, err = run_cli("train", "digits", *SMALL, "--seeds", "0-1", "--seed", 3, "--out", tmp_path / "run")
    assert code == 2
    assert "--seeds: cannot be combined with --seed" in err


def test_reproduce_takes_seeds_as_train_does(cli_json, tmp_path):
    options = ("--list", "--prior", "vamp", "--ledger", tmp_path)
    cells = cli_json("reproduce", "trunk", "--seeds", "0,2-3", *options)["outstanding"]
    assert sorted({cell.split("-s")[-1].split("-")[0] for cell in cells}) == ["0", "2", "3"]
