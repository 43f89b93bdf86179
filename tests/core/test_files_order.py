"""What is written survives a power cut: the file is flushed before it is moved into place, the folder after."""

import json
import os
from pathlib import Path

import pytest
import torch

from bype.core.errors import InputError
from bype.core.files import write_text
from bype.core.tensors import read_checkpoint, write_tensors


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
