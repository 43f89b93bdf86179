"""Trackers: what they are told, that they change nothing, and each with its own library."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest

import bype
from bype.core.errors import InputError
from bype.training.trackers.tracking import tiled

OPTIONS = {"n_components": 5, "latent_dim": 2, "hidden_dim": 8, "warmup": 0, "likelihood": "gaussian"}


def config(epochs=3, **options):
    return bype.Config("digits", epochs=epochs, batch_size=500, **(OPTIONS | options))


class Recorder:
    """Keeps what it is told."""

    def __init__(self):
        self.calls = []

    def begin(self, folder, options, epoch):
        self.calls.append(("begin", folder.name, options["epochs"], epoch))

    def epoch(self, epoch, values):
        self.calls.append(("epoch", epoch, values))

    def images(self, epoch, name, images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (8, 8, 1)
        self.calls.append(("images", epoch, name, len(images)))

    def end(self):
        self.calls.append(("end",))


def test_a_tracker_is_told_of_every_epoch_and_of_pictures_now_and_then(tmp_path):
    told = Recorder()
    trained = bype.fit(config(11), tmp_path / "run", trackers=[told])
    assert told.calls[0] == ("begin", "run", 11, 0)
    assert told.calls[-1] == ("end",)
    losses = {epoch: values["val_loss"] for kind, epoch, values in (c for c in told.calls if c[0] == "epoch")}
    assert losses == {line["epoch"]: line["val_loss"] for line in trained.run.metrics.read()}
    pictures = [c[1:] for c in told.calls if c[0] == "images"]
    assert pictures == [(e, name, n) for e in (1, 10, 11) for name, n in (("samples", 16), ("pseudo_inputs", 5))]


def test_training_is_the_same_bits_with_trackers(tmp_path):
    for name, trackers in (("without", []), ("with", [Recorder()])):
        bype.fit(config(), tmp_path / name, trackers=trackers)
    files = [(tmp_path / name / "last.safetensors").read_bytes() for name in ("without", "with")]
    assert files[0] == files[1]


def test_a_resumed_run_says_where_it_continues_and_an_interrupt_ends_the_tracker(tmp_path):
    told = Recorder()

    def stop(info, trainer):
        if info.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bype.fit(config(), tmp_path / "run", trackers=[told], on_epoch=stop)
    assert told.calls[-1] == ("end",)
    again = Recorder()
    bype.fit(config(), tmp_path / "run", resume=True, trackers=[again])
    assert again.calls[0] == ("begin", "run", 3, 2)
    assert [c[1] for c in again.calls if c[0] == "epoch"] == [3]


def test_a_tracker_that_fails_is_reported_once_and_the_run_goes_on(tmp_path, caplog):
    class Broken(Recorder):
        def epoch(self, epoch, values):
            raise ConnectionError("no server")

    other = Recorder()
    with caplog.at_level(logging.WARNING, "bype"):
        trained = bype.fit(config(), tmp_path / "run", trackers=[Broken(), other])
    assert trained.trainer.epoch == 3
    assert [r.getMessage() for r in caplog.records].count("Broken: stops tracking, the run goes on (no server)") == 1
    assert [c[1] for c in other.calls if c[0] == "epoch"] == [1, 2, 3]


def test_names_and_objects_are_checked_before_anything_is_written(tmp_path, run_cli):
    for wrong in (["magic"], [object()]):
        with pytest.raises(InputError, match="tracker"):
            bype.fit(config(), tmp_path / "run", trackers=wrong)
    code, _, err = run_cli("train", "digits", "--track", "magic", "--out", tmp_path / "run")
    assert code == 2
    assert "--track: expected names from tensorboard, mlflow, trackio, got 'magic'" in err
    assert not (tmp_path / "run").exists()


def test_a_library_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    for module, name in (("torch.utils.tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("trackio", "trackio")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError, match=rf"pip install 'bype\[{name}\]'"):
            bype.fit(config(), tmp_path / "run", trackers=[name])
    assert not (tmp_path / "run").exists()


def test_pictures_are_tiled_in_rows():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 2, 3, 1), np.uint8)
    sheet = tiled(images)
    assert sheet.shape == (4, 9, 1)
    assert sheet[0, ::3, 0].tolist() == [0, 1, 2]
    assert sheet[2, ::3, 0].tolist() == [3, 4, 0]


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_is_written(tmp_path, run_cli):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    code, _, err = run_cli(
        "train", "digits", "--track", "tensorboard", "--epochs", 2, "--warmup", 0, "--out", tmp_path / "run",
        "--hidden-dim", 8, "--latent-dim", 2, "--components", 5, "--batch-size", 500,
    )  # fmt: skip
    assert code == 0, err
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"loss", "val_loss", "kl", "beta"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("val_loss")] == [1, 2]
    lines = bype.Run.open(tmp_path / "run").metrics.read()
    assert events.Scalars("val_loss")[1].value == pytest.approx(lines[1]["val_loss"])
    assert {"samples", "pseudo_inputs"} <= set(events.Tags()["images"])


@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_what_is_written_and_a_resume_continues_its_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.chdir(tmp_path)  # its artifacts
    bype.fit(config(2), tmp_path / "run", trackers=["mlflow"])
    bype.fit(config(4), tmp_path / "run", trackers=["mlflow"], resume=True)
    client = mlflow.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("bype")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["prior"] == "bype"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "val_loss")] == [1, 2, 3, 4]
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {"samples", "pseudo_inputs"}


@pytest.mark.filterwarnings("ignore")
def test_trackio_reads_what_is_written_and_a_resume_continues_its_run(tmp_path):
    pytest.importorskip("trackio")
    script = f"""
import bype
from trackio.sqlite_storage import SQLiteStorage
options = dict({OPTIONS}, batch_size=500)
for epochs in (2, 4):
    config = bype.Config("digits", epochs=epochs, **options)
    bype.fit(config, "run", trackers=["trackio"], resume=epochs == 4)
logs = SQLiteStorage.get_logs("bype", "run")
print([line["step"] for line in logs if "val_loss" in line], SQLiteStorage.get_runs("bype"))
"""
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}  # read when trackio is imported
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[1, 2, 3, 4] ['run']"
