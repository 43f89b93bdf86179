"""`bype evaluate --quality`."""

import json
import shutil

import pytest


def test_the_quality_of_samples_is_printed_and_recorded_beside_the_other_metrics(trained, cli_json, run_cli, tmp_path):
    run = shutil.copytree(trained["vamp"], tmp_path / "run")
    cli_json("evaluate", run, "--samples", 2)
    code, out, err = run_cli("evaluate", run, "--quality", "--items", 60)
    assert code == 0, err
    assert "training items" in out
    assert "features classifier" in err
    result = cli_json("evaluate", run, "--quality", "--items", 50, "--features", "pca")
    (entry,) = json.loads((run / "evaluation.json").read_text())["scored"]
    assert entry["samples"] == 2, "the log-likelihood stays"
    assert entry["quality_items"] == 50, "the newer figures replace the older"
    assert entry["kid_pca"] == result["kid_pca"]
    assert entry.keys() > {"kid_sd_pca_training", "precision_pca", "recall_pca_training", "nll_nats"}


def test_the_samples_of_a_refit_are_recorded_under_its_name(trained, cli_json, tmp_path):
    run = shutil.copytree(trained["bype"], tmp_path / "run")
    cli_json("refit", run, "--name", "q", "--em", 3)
    result = cli_json("evaluate", run, "--quality", "--items", 40, "--features", "pca", "--with", "q")
    assert result.keys() > {"kid_pca@q", "recall_pca_training@q"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quality", "--features", "fid"], "expected one or more of pca"),
        (["--features", "pca"], "--features: needs --quality"),
        (["--quality", "--k", "3"], "--k: cannot be combined with --quality"),
        (["--quality", "--items", "1"], "expected from 8 to 179 items"),
    ],
)
def test_bad_options_of_quality_end_in_one_line(trained, run_cli, options, message):
    code, _, err = run_cli("evaluate", trained["standard"], *options)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
