"""A lock ends with its owner, on every kind of file system."""

import errno
import fcntl
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from bype.core import locks
from bype.core.errors import InputError, RunExistsError
from bype.core.locks import is_lock_file, locked
from bype.runs.run import Run


@pytest.fixture(params=[*locks.NO_LOCKS, "no fcntl"], ids=lambda e: errno.errorcode.get(e, e))
def no_flock(request, monkeypatch):
    """A file system, or a system, without flock."""
    locks._warn_of_lock_files.cache_clear()
    if request.param == "no fcntl":
        monkeypatch.setitem(sys.modules, "fcntl", None)
        return

    def flock(handle, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_flock_a_lock_is_a_file_and_one_warning_says_so(no_flock, tmp_path, caplog):
    for path, held in ((tmp_path / "lock", ".lock.held"), (tmp_path, ".folder.held")):
        with locked(path, "busy"):
            assert is_lock_file(tmp_path / held)
            assert (tmp_path / held).exists()
            with (
                pytest.raises(RunExistsError, match=f"busy; if no process uses it, remove .*/{held}"),
                locked(path, "busy"),
            ):
                pass
            assert (tmp_path / held).exists()
        assert not (tmp_path / held).exists()
    (record,) = caplog.records
    assert (record.levelno, "no file locks on this file system" in record.getMessage()) == (logging.WARNING, True)


def test_without_flock_another_is_waited_for(no_flock, tmp_path):
    order = []

    def hold(name):
        with locked(tmp_path):
            order.append(name)
            time.sleep(0.02)
            order.append(name)

    threads = [threading.Thread(target=hold, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order[::2]) == [0, 1, 2, 3]
    assert order[::2] == order[1::2], "one after the other"


def test_without_flock_the_lock_of_a_dead_process_is_taken_over(no_flock, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    held = tmp_path / ".lock.held"
    for owner, busy in (
        ({"pid": dead.pid, "host": socket.gethostname()}, False),
        ({"pid": dead.pid, "host": "another"}, True),
        ({"pid": os.getpid(), "host": socket.gethostname()}, True),
        ({}, True),
        (None, True),
    ):
        held.write_text("" if owner is None else json.dumps(owner))
        if busy:
            with pytest.raises(RunExistsError, match="busy"), locked(tmp_path / "lock", "busy"):
                pass
            assert held.exists(), owner
        else:
            with locked(tmp_path / "lock", "busy"):
                pass
            assert not held.exists()
        held.unlink(missing_ok=True)
    assert not list(tmp_path.glob(".*.part"))


def test_without_flock_a_run_is_trained_and_evaluated(no_flock, tmp_path, run_cli):
    words = ["--prior", "standard", "--latent-dim", 2, "--hidden-dim", 4, "--epochs", 1, "--warmup", 0]
    for more in ([], ["--resume"]):
        code, _, err = run_cli("train", "digits", *words, "--device", "cpu", "--out", tmp_path / "run", *more)
        assert code == 0, err
    code, out, err = run_cli("evaluate", tmp_path / "run", "--samples", 2, "--items", 3)
    assert (code, "nll_paper" in out) == (0, True), err
    assert (tmp_path / "run" / "evaluation.json").exists()
    assert not [p for p in (tmp_path / "run").iterdir() if is_lock_file(p)]
    code, _, err = run_cli("demo", "--out", tmp_path / "run")
    assert (code, "a new folder or an earlier demo" in err) == (4, True), err


def test_another_error_of_a_lock_is_ours(tmp_path, monkeypatch):
    def flock(handle, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(InputError, match=r"lock: cannot be locked \(Input/output error\)"),
        locked(tmp_path / "lock", "b"),
    ):
        pass
    assert not locks._HELD


def _child_that_stays(end, release):
    child = os.fork()
    if not child:
        os.close(release)
        os.read(end, 1)
        os._exit(0)
    return child


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("without_hook", [False, True])
def test_a_child_forked_meanwhile_does_not_keep_the_lock(tmp_path, monkeypatch, without_hook):
    if without_hook:  # as a library's own fork
        monkeypatch.setattr(locks, "_HELD", set())
        monkeypatch.setattr(locks, "_close_in_child", lambda: None)
    end, release = os.pipe()
    with Run(tmp_path).lock():
        child = _child_that_stays(end, release)
    try:
        with Run(tmp_path).lock():
            pass
    finally:
        os.close(release)
        os.waitpid(child, 0)
        os.close(end)


# A process that is killed while it holds a lock, and leaves a child behind.
OWNER = """
import os, sys, signal
from bype.core.locks import locked
from pathlib import Path
with locked(Path(sys.argv[1]), "busy"):
    ready, begun = os.pipe()
    child = os.fork()
    if not child:
        os.close(1)
        os.write(begun, b"x")
        os.read(0, 1)
        os._exit(0)
    os.read(ready, 1)  # a child that has not run yet still holds the lock
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_a_killed_process_ends_though_its_child_lives(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    process.wait()
    try:
        os.kill(child, 0)  # it lives
        with locked(tmp_path / "lock", "busy"):
            pass
    finally:
        process.stdin.close()
        process.stdout.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_that_leaves_the_block_leaves_the_lock(tmp_path, no_flock):
    with locked(tmp_path / "lock", "busy"):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            assert (tmp_path / ".lock.held").exists()
    if not child:
        os._exit(0)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_lock_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with Run(tmp_path).lock():
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o666 & ~umask
