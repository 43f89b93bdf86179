"""A run that is stopped, in whatever way and wherever it stands, goes on to the same bits as if it had not been."""

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import checkout
import processes
from bype.core.config import Config
from bype.core.errors import InputError
from bype.core.files import is_partial
from bype.core.tensors import read_tensors
from bype.runs import saving
from bype.runs.checkpoints import Checkpoints
from bype.runs.fitting import fit
from bype.runs.run import Run
from bype.runs.saving import Writer as _Writer
from bype.training.trainer import Trainer

KINDS = [("standard", "none"), ("vamp", "none"), ("exemplar", "none")]
KINDS += [("bype", coreset) for coreset in ("none", "paper", "published", "elbo")]
OPTIONS = {
    "n_components": 6, "exemplars": 10, "latent_dim": 3, "hidden_dim": 6, "warmup": 2, "batch_size": 20,
    "patience": 10**6, "coreset_interval": 2, "coreset_steps": 3, "coreset_samples": 4, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "a.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (60, 5, 4), dtype=np.uint8))
    return path


def contents(folder):
    """All that must be equal: checkpoints to the byte, metrics but for times."""
    lines = [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in Run(folder).metrics.read()]
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".safetensors" or p.name == "last.json"}
    return files | {"metrics": lines}


class _Stop(Exception):  # noqa: N818
    pass


def _stop(info, trainer):
    raise _Stop


@pytest.mark.parametrize(("prior", "coreset"), KINDS)
def test_stopped_after_every_epoch_it_ends_bit_equal(tmp_path, images, prior, coreset):
    config = Config(str(images), prior=prior, coreset=coreset, epochs=5, **OPTIONS)
    fit(config, tmp_path / "whole")
    for epoch in range(1, 6):
        with pytest.raises(_Stop):
            fit(config, tmp_path / "cut", resume=True, on_epoch=_stop)
        assert len(Run(tmp_path / "cut").metrics.read()) == epoch
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def _save_in_a_thread(monkeypatch):
    """As large states are: epochs are written in a thread, and here later than the next epoch began."""
    monkeypatch.setattr("bype.runs.saving.LARGE", 0)
    save = Checkpoints.save

    def late(checkpoints, epoch):
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.05)
        save(checkpoints, epoch)

    monkeypatch.setattr(Checkpoints, "save", late)


@pytest.mark.parametrize(("prior", "coreset"), [("vamp", "none"), ("bype", "paper"), ("bype", "elbo")])
def test_saved_in_a_thread_the_files_are_the_same(tmp_path, images, monkeypatch, prior, coreset):
    config = Config(str(images), prior=prior, coreset=coreset, epochs=5, **OPTIONS)
    fit(config, tmp_path / "whole")
    _save_in_a_thread(monkeypatch)
    fit(config, tmp_path / "thread")
    for epoch in range(1, 6):
        with pytest.raises(_Stop):
            fit(config, tmp_path / "cut", resume=True, on_epoch=_stop)
        assert len(Run(tmp_path / "cut").metrics.read()) == epoch, "what was under way is written before fit ends"
    assert contents(tmp_path / "thread") == contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_signal_while_the_thread_is_waited_for_loses_no_epoch(tmp_path, images, monkeypatch):
    _save_in_a_thread(monkeypatch)
    wait, calls = _Writer._wait, []

    def interrupted(writer):
        calls.append(len(writer.pending))
        if calls == [0, 1, 1]:
            raise KeyboardInterrupt
        wait(writer)

    monkeypatch.setattr(_Writer, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(Config(str(images), epochs=9, **OPTIONS), tmp_path / "run")
    assert Run(tmp_path / "run").metrics.read()[-1]["epoch"] == _epoch(tmp_path / "run") == 3


def test_large_states_are_written_in_a_thread_one_at_a_time(tmp_path, images, monkeypatch):
    config, seen, alive = Config(str(images), epochs=4, **OPTIONS), [], []
    save, snapshot = Checkpoints.save, Trainer.snapshot

    def seen_save(checkpoints, epoch):
        seen.append(threading.current_thread() is threading.main_thread())
        time.sleep(0.05)
        save(checkpoints, epoch)
        alive.remove(epoch.counters["epoch"])

    def seen_snapshot(trainer):
        alive.append(trainer.epoch)
        assert len(alive) == 1, "no second copy of the state is held"
        return snapshot(trainer)

    monkeypatch.setattr(Checkpoints, "save", seen_save)
    monkeypatch.setattr(Trainer, "snapshot", seen_snapshot)
    trainer = fit(config, tmp_path / "small").trainer
    size = sum(t.nbytes for t in trainer.state()[0].values())
    for name, large in {"at": size, "above": size + 1}.items():
        monkeypatch.setattr("bype.runs.saving.LARGE", large)
        fit(config, tmp_path / name)
    assert seen == [True] * 4 + [False] * 4 + [True] * 4
    assert contents(tmp_path / "small") == contents(tmp_path / "at")


def test_what_goes_wrong_in_the_thread_ends_the_run(tmp_path, images, monkeypatch):
    config, seen = Config(str(images), epochs=9, **OPTIONS), []
    fit(config, tmp_path / "whole")
    _save_in_a_thread(monkeypatch)
    save = Checkpoints.save

    def full(checkpoints, epoch):
        if epoch.counters["epoch"] == 3:
            raise InputError("last.safetensors: cannot be written (No space left on device)")
        save(checkpoints, epoch)

    monkeypatch.setattr(Checkpoints, "save", full)
    with pytest.raises(InputError, match="No space left"):
        fit(config, tmp_path / "run", on_epoch=lambda info, trainer: seen.append(info.epoch))
    assert seen == [1, 2, 3], "it ends when the next epoch is to be saved"
    assert Run(tmp_path / "run").metrics.read()[-1]["epoch"] == 3
    monkeypatch.setattr(Checkpoints, "save", save)
    fit(config, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.parametrize(("prior", "coreset"), [("exemplar", "none"), ("bype", "paper"), ("bype", "elbo")])
def test_the_same_seed_twice_is_bit_equal_whatever_was_drawn_before(tmp_path, images, prior, coreset):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(name) % 1000)
        torch.rand(7)
        fit(Config(str(images), prior=prior, coreset=coreset, epochs=3, seed=seed, **OPTIONS), tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["last.safetensors"] != contents(tmp_path / "c")["last.safetensors"]


def test_a_run_records_what_it_depends_on(tmp_path, images):
    fit(Config(str(images), epochs=1, **OPTIONS), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["versions"].keys() >= {"bype", "python", "torch", "numpy"}
    assert record["versions"]["torch"] == torch.__version__
    assert "thread" in record["device"]
    assert record["data_sum"] == Run(tmp_path / "run").dataset.load().checksum()
    assert record["set_path"] == str(images.resolve())
    assert record["options"]["seed"] == 0


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Runs in this process do not wait for the disk: those that are killed do, in processes of their own."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


# In a process of its own


def _train(*args, notes=None, hold=None, limit=None, user=None, large=None):
    """`bype train` with these arguments; `notes` is told whenever a file is begun, `limit` is the largest file's size.

    With `hold`, (7, "begun") or (7, "filled"), it stays for ever where the seventh file is that. A `user` trains a
    second time, into the folder that is the last argument. States of `large` bytes or more are written in a thread.
    """
    *args, second = map(str, args if user is not None else (*args, None))
    if notes is not None:
        plain, fsync, begun = tempfile.mkstemp, os.fsync, []

        def stay(stage):
            if hold == (len(begun), stage):
                notes.send_bytes(b"held")
                time.sleep(600)

        def mkstemp(*args, **kwargs):
            notes.send_bytes(b"x")
            made = plain(*args, **kwargs)
            begun.append(made)
            stay("begun")
            return made

        def sync(handle):
            stay("filled")
            fsync(handle)

        tempfile.mkstemp, os.fsync = mkstemp, sync
    if large is not None:
        saving.LARGE = large
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if user is not None:  # another user may not be able to read what is still to be imported: import it all
        processes.command("train", *args)
        os.setuid(user)
        args[args.index("--out") + 1] = second
    processes.command("train", *args)


def _args(images, out, epochs, *more, coreset="paper"):
    names = {"n_components": "components"}
    flags = [w for k, v in OPTIONS.items() for w in (f"--{names.get(k, k).replace('_', '-')}", v)]
    return [images, *flags, "--coreset", coreset, "--epochs", epochs, "--out", out, "--resume", *more]


def _wait(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def _epoch(folder):
    """The epoch of the last checkpoint, 0 if there is none; raises if what is there does not load."""
    last = folder / "last.safetensors"
    if not last.exists():
        return 0
    read_tensors(folder / "best.safetensors")
    return read_tensors(last)[1]["epoch"]


def _heard(reader, word):
    """Reads what the other end says until that is said, or what is there if it is None; whether it was."""
    try:
        while reader.poll(None if word else 0):
            if reader.recv_bytes() == word:
                return True
    except EOFError:
        pass
    return False


def kills(count, epochs, images, folder, fork, start, rng, *, held=False, large=None):
    """SIGKILLs runs `count` times; returns how many of them caught a file half done.

    Half of them come as a file is being written: soon after it was begun, or, `held`, every second one in its midst.
    States of `large` bytes or more are written in a thread.
    """
    whole, caught, done = folder / "whole", 0, 0
    fit(Config(str(images), epochs=epochs, **OPTIONS), whole)
    expected = contents(whole)
    for attempt in range(count):
        run = folder / f"run-{attempt}"
        while done < count:
            reader, writer = fork.Pipe(duplex=False)
            hold = None
            if held and done % 2:
                hold = (int(rng.integers(1, 12)), ("begun", "filled")[done // 2 % 2])
            process = start(_train, *_args(images, run, epochs), notes=writer, hold=hold, large=large)
            writer.close()
            before = _epoch(run)
            if hold:
                _heard(reader, b"held")
            else:
                _wait(lambda: reader.poll() or not process.is_alive())  # noqa: B023
                time.sleep(rng.uniform(0, 0.25))
                if not held and rng.random() < 0.5:  # wait for the next file to be begun
                    _heard(reader, None)
                    reader.poll(1)
                    time.sleep(rng.uniform(0, 0.003))
            process.kill()
            process.join()
            if process.exitcode == 0:  # it had ended
                break
            done += 1
            half_done = run.exists() and any(is_partial(p) for p in run.iterdir())
            caught += half_done
            assert half_done or not hold, "it was held in the midst of a file"
            assert process.exitcode == -signal.SIGKILL
            assert _epoch(run) >= before, "a checkpoint went back"
            for file in run.glob("*.json"):
                json.loads(file.read_text())
            for file in run.glob("*.safetensors"):
                read_tensors(file)
        fit(Config(str(images), epochs=epochs, **OPTIONS), run, resume=True)
        assert contents(run) == expected
        assert not any(is_partial(p) for p in run.iterdir()), "what was half done is removed"
        if done >= count:
            break
    return caught


@pytest.mark.parametrize("large", [None, 0])
def test_six_kills_lose_nothing(tmp_path, images, fork, start, large):
    caught = kills(6, 30, images, tmp_path, fork, start, np.random.default_rng(0), held=True, large=large)
    assert caught >= 3, "every second one left a file half done"


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(tmp_path, images, fork, start):
    caught = kills(100, 60, images, tmp_path, fork, start, np.random.default_rng(1))
    print(f"\n{caught} of 100 kills left a file half done")
    assert caught >= 10


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_that_goes_on_bit_equal(tmp_path, images, start, number, code):
    run, epochs = tmp_path / "run", 10_000
    process = start(_train, *_args(images, run, epochs))
    _wait(lambda: len(Run(run).metrics.read()) >= 3)
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == code
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last == "bype: stopped; the last finished epoch is saved"
    stopped = _epoch(run)
    assert 2 <= stopped < epochs

    def stop(info, trainer):
        if info.epoch == stopped + 5:
            raise _Stop

    config = Config(str(images), epochs=epochs, **OPTIONS)
    for folder in (run, tmp_path / "whole"):
        with pytest.raises(_Stop):
            fit(config, folder, resume=True, on_epoch=stop)
    assert contents(run) == contents(tmp_path / "whole")


def test_a_full_disk_ends_a_run_that_goes_on_bit_equal(tmp_path, images, start):
    config = Config(str(images), epochs=4, **OPTIONS)
    run = tmp_path / "run"
    with pytest.raises(_Stop):
        fit(config, run, on_epoch=_stop)
    before = contents(run)
    room = (run / "last.safetensors").stat().st_size - 1  # a limit on a file's size stands for the disk's
    process = start(_train, *_args(images, run, 4), limit=room)
    process.join(30)
    *warnings, line = (tmp_path / "log").read_text().splitlines()
    assert warnings == ["unused with prior bype: --exemplars"]
    assert process.exitcode == 2, line
    assert line.startswith(f"bype: {run}/last.safetensors: cannot be written (File too large)"), line
    after = contents(run)
    assert after["last.safetensors"] == before["last.safetensors"]
    assert not any(is_partial(p) for p in run.iterdir())
    fit(config, run, resume=True)
    fit(config, tmp_path / "whole")
    assert contents(run) == contents(tmp_path / "whole")


def test_a_folder_that_cannot_be_written_is_refused_and_left_as_it_is(images, tmp_path, start):
    folder = Path(tempfile.mkdtemp(prefix="bype-test-"))  # pytest's own is closed to other users
    try:
        shutil.copy(images, folder / "a.npy")
        config = Config(str(folder / "a.npy"), epochs=4, **OPTIONS)
        with pytest.raises(_Stop):
            fit(config, folder / "run", on_epoch=_stop)
        before = contents(folder / "run")
        folder.chmod(0o755)
        (folder / "run").chmod(0o555)
        (folder / "run" / "lock").chmod(0o444)
        user = 65534 if os.geteuid() == 0 else os.geteuid()  # root may write anywhere
        for out in (folder / "run", folder / "run" / "new"):
            process = start(_train, *_args(folder / "a.npy", tmp_path / f"other-{out.name}", 4), out, user=user)
            process.join(30)
            line = (tmp_path / "log").read_text().splitlines()[-1]
            assert process.exitcode == 2, line
            assert line == f"bype: {out}/lock: cannot be written (Permission denied)"
        assert contents(folder / "run") == before
    finally:
        (folder / "run").chmod(0o755)
        shutil.rmtree(folder)


def test_a_second_process_is_refused_and_a_dead_one_s_lock_taken_over(tmp_path, images, start, run_cli):
    run = tmp_path / "run"
    process = start(_train, *_args(images, run, 10_000))
    _wait(lambda: len(Run(run).metrics.read()) >= 1)
    code, _, err = run_cli("train", *_args(images, run, 10_000))
    assert (code, "in use by another process" in err) == (4, True), err
    assert process.is_alive()
    process.kill()
    process.join()
    epoch = _epoch(run)
    assert (run / "lock").exists()
    with pytest.raises(_Stop):
        fit(Run(run).config, run, resume=True, on_epoch=_stop)
    assert _epoch(run) == epoch + 1


def test_a_run_made_by_another_process_meanwhile_is_not_gone_on_with(tmp_path, images, monkeypatch):
    from bype.core.errors import RunExistsError

    config = Config(str(images), epochs=1, **OPTIONS)
    plain = Run.lock

    def late(self):  # the other process is done just before the lock is ours
        monkeypatch.setattr(Run, "lock", plain)
        fit(Config(str(images), epochs=1, seed=5, **OPTIONS), self.path)
        return plain(self)

    monkeypatch.setattr(Run, "lock", late)
    with pytest.raises(RunExistsError, match="another process has just created"):
        fit(config, tmp_path / "run")
    assert Run(tmp_path / "run").config.seed == 5


def test_killed_before_its_config_was_whole_a_run_starts_anew(tmp_path, images):
    run = tmp_path / "run"
    run.mkdir()
    (run / "lock").touch()
    (run / ".config.json.abc.part").write_text('{"format"')
    fit(Config(str(images), epochs=1, **OPTIONS), run)
    assert not any(is_partial(p) for p in run.iterdir())


def test_metrics_that_are_torn_or_strange_are_cut_there(tmp_path):
    for torn in (b'{"epoch": 2, "lo', b"\xff\xfe\n", b"[1]\n", b"[" * 10_000, b'{"val_loss": 1}\n'):
        (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n' + torn)
        assert Run(tmp_path).metrics.read() == [{"epoch": 1}]


# Golden runs

GOLDEN = checkout.TESTS / "golden"


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_golden_runs_load_and_give_their_figures(prior):
    sys.path.insert(0, str(GOLDEN))
    try:
        from make import figures
    finally:
        sys.path.remove(str(GOLDEN))
    run = Run(GOLDEN / prior)
    loaded = run.load("cpu")
    got = figures(loaded.model, loaded.data)
    stored = json.loads((run.path / "figures.json").read_text())
    assert got.keys() == stored.keys()
    for name, values in stored.items():
        assert got[name] == pytest.approx(values, rel=1e-5, abs=1e-5), name


def test_golden_runs_are_small():
    assert sum(p.stat().st_size for p in GOLDEN.rglob("*") if p.suffix != ".py" and p.is_file()) < 60_000


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("resize", "big", "--resize: expected a number of pixels"),
        ("resize", 64, "'resize' to be"),
        ("colour", 1, "key 'colour'"),
    ],
)
def test_a_config_with_a_strange_value_is_refused_by_name(tmp_path, key, value, message):
    record = json.loads((GOLDEN / "bype" / "config.json").read_text())
    record["options"][key] = value
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=message):
        Run.open(tmp_path)
    del record["options"]["resize"]
    record["options"].pop("colour", None)
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert Run(tmp_path).config.resize is None, "a config of before the option was there"
