"""A system without what Linux has, such as Windows: no locks, no fork, no folders that can be opened."""

import os
import subprocess
import sys

import pytest

#: What CPython does not have on Windows, taken away before bype is imported; this build of torch needs it to start.
WITHOUT = """
import errno, os, sys
import torch._dynamo
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
for name in ("fork", "register_at_fork", "sysconf", "getuid", "geteuid", "setsid", "killpg", "mkfifo", "chown"):
    delattr(os, name)
opened = os.open
def open_file(path, *args, **options):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
    return opened(path, *args, **options)
os.open = open_file
"""
COMMANDS = """
import sys
from bype.__main__ import main
for line in sys.argv[1:]:
    sys.argv = ["bype", *line.split()]
    try:
        main()
    except SystemExit as e:
        assert not e.code, (line, e.code)
"""


def run(folder, *lines, script=COMMANDS):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + script, *lines], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip


SMALL = "--components 20 --latent-dim 4 --hidden-dim 16 --warmup 1"


def test_a_run_is_trained_continued_evaluated_and_drawn_without_locks_and_fork(tmp_path):
    done = run(
        tmp_path,
        f"train digits --epochs 1 {SMALL} --out r",
        "train digits --out r --resume --epochs 2",
        "evaluate r --samples 2 --items 10",
        "sample r --out s.png --n 4",
        "coreset r --out c",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no file locks on this file system") == 1
    assert {"s.png", "c", "r"} <= {p.name for p in tmp_path.iterdir()}
    assert not list(tmp_path.rglob("*.held")), "each lock was released"
    assert not list(tmp_path.rglob("*.part"))


def test_a_killed_process_leaves_a_lock_that_the_error_names(tmp_path):
    assert run(tmp_path, f"train digits --epochs 1 {SMALL} --out r").returncode == 0
    held = tmp_path / "r" / ".lock.held"
    held.write_text('{"pid": 1, "host": "another machine", "lock": "0"}')
    done = run(tmp_path, "train digits --out r --resume --epochs 2")
    assert "('train digits --out r --resume --epochs 2', 4)" in done.stderr
    assert f"if no process uses it, remove {held.relative_to(tmp_path)}" in done.stderr
    held.unlink()
    assert run(tmp_path, "train digits --out r --resume --epochs 2").returncode == 0


@pytest.mark.parametrize("name", ["fcntl", "resource"])
def test_the_simulation_takes_away_what_it_says(tmp_path, name):
    done = run(tmp_path, script=f"import {name}")
    assert "ModuleNotFoundError" in done.stderr
