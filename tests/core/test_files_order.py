"""What is written survives a power cut: the file is flushed before it is moved into place, the folder after."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from bype.core.errors import InputError
from bype.core.files import read_json, write_json, write_text
from bype.core.tensors import read_checkpoint, write_tensors
from bype.runs.metrics import Metrics
from bype.training.epoch import EpochInfo


@pytest.fixture
def calls(monkeypatch):
    """The names of files that are flushed and moved, in order."""
    seen = []
    fsync, replace = os.fsync, Path.replace

    def spied_fsync(handle):
        seen.append(("fsync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        fsync(handle)

    def spied_replace(self, target):
        seen.append(("move", self.name, Path(target).name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(Path, "replace", spied_replace)
    return seen


def test_a_file_is_flushed_then_moved_then_its_folder_is_flushed(calls, tmp_path):
    write_text(tmp_path / "run" / "config.json", "{}")
    (kind, temporary), move, folder = calls
    assert kind == "fsync"
    assert temporary.startswith(".config.json.")
    assert move == ("move", temporary, "config.json")
    assert folder == ("fsync", "run")


@pytest.mark.parametrize("key", ["epoch", "best_epoch"])
def test_the_sum_of_a_checkpoint_covers_its_counters(tmp_path, key):
    path = tmp_path / "last.safetensors"
    write_tensors(path, {"a": torch.arange(3.0)}, {"epoch": 3, "best_epoch": 3, "best_val_loss": 1.5})
    assert read_checkpoint(path)[1]["epoch"] == 3
    content = path.read_bytes()
    before, after = (json.dumps(json.dumps({key: n}))[2:-2].encode() for n in (3, 4))
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    with pytest.raises(InputError, match="got a damaged file"):
        read_checkpoint(path)


def _fails(code, *, on):
    """`os.fsync` on a file system where it fails for files or for folders."""
    fsync = os.fsync

    def call(handle):
        if Path(f"/proc/self/fd/{handle}").resolve().is_dir() == (on == "folders"):
            raise OSError(code, os.strerror(code))
        fsync(handle)

    return call


@pytest.mark.parametrize("on", ["files", "folders"])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_flush_is_written_to(tmp_path, monkeypatch, on, code):
    monkeypatch.setattr(os, "fsync", _fails(code, on=on))
    write_text(tmp_path / "run" / "a.txt", "a")
    assert (tmp_path / "run" / "a.txt").read_text() == "a"


@pytest.mark.parametrize("on", ["files", "folders"])
def test_a_disk_that_fails_to_flush_is_an_error(tmp_path, monkeypatch, on):
    monkeypatch.setattr(os, "fsync", _fails(errno.EIO, on=on))
    with pytest.raises(InputError, match="Input/output error"):
        write_text(tmp_path / "a.txt", "a")


def epoch_info(epoch):
    zeros = dict.fromkeys(("beta", "loss", "reconstruction", "kl", "val_loss", "seconds", "seconds_validation"), 0.0)
    return EpochInfo(epoch=epoch, best=True, skipped_steps=0, **zeros)


def test_metrics_are_written_where_nothing_can_be_flushed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _fails(errno.EINVAL, on="files"))
    Metrics(tmp_path).append(epoch_info(1))
    assert [line["epoch"] for line in Metrics(tmp_path).read()] == [1]


def test_a_line_of_metrics_is_whole_when_it_is_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_size))
    sizes = []
    for epoch in (1, 2):
        Metrics(tmp_path).append(epoch_info(epoch))
        sizes.append(Metrics(tmp_path).path.stat().st_size)
    assert flushed == sizes


def test_a_mount_on_which_modes_cannot_be_changed_is_written_to(tmp_path, monkeypatch):
    def chmod(path, mode, **options):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    monkeypatch.setattr(os, "chmod", chmod)
    write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path, there):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "a.txt", tmp_path / "link.txt"
    if there:
        target.write_text("before")
    link.symlink_to(Path("far") / "a.txt")
    write_text(link, "after")
    assert (link.is_symlink(), target.read_text()) == (True, "after")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.txt", "far", "link.txt"]


def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    write_text(tmp_path / "a.csv", "caf\udcff.png\n")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "caf\\udcff.png\n"
    write_json(tmp_path / "a.json", {"set": "caf\udcff.png"})
    assert read_json(tmp_path / "a.json") == {"set": "caf\udcff.png"}, "and JSON gives them back"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "Expecting property name"), (b"[1]", "expected a JSON object, got list"), (None, "No such")],
)
def test_a_file_that_is_no_json_object_is_named_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"a.json: .*{reason}"):
        read_json(path)


def test_a_file_is_written_into_folders_that_do_not_exist_yet(tmp_path):
    write_json(tmp_path / "a" / "b" / "c.json", {"x": 1})
    assert read_json(tmp_path / "a" / "b" / "c.json") == {"x": 1}
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["c.json"]
