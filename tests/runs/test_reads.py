"""A command reads each file of a run once; before it records something, the networks and the record a second time."""

import builtins
import io
import os
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors

import bype.evaluation.likelihood
from bype.core.errors import InputError
from bype.core.tensors import read_tensors, write_tensors
from bype.runs.evaluations import Evaluations
from bype.runs.run import Run


@pytest.fixture
def reads(monkeypatch):
    """Counts the openings for reading in a block, by file name, of the files that lie in a folder."""

    @contextmanager
    def counting(folder):
        counts, folder = Counter(), folder.resolve()

        def spied(open_file, reading):
            def call(path, *args, **options):
                if not isinstance(path, int):  # a file that is open
                    where = Path(os.path.abspath(os.fsdecode(path)))
                    partial = where.name.endswith(".part")
                    if where.parent == folder and where.is_file() and not partial and reading(*args, **options):
                        counts[where.name] += 1
                return open_file(path, *args, **options)

            return call

        def by_mode(mode="r", *args, **options):
            return not set(mode) & set("wax+")

        def by_flags(flags, *args, **options):
            return not flags & (os.O_WRONLY | os.O_RDWR)

        with monkeypatch.context() as patched:
            for module, name, reading in (
                (builtins, "open", by_mode),
                (io, "open", by_mode),  # which Path calls
                (os, "open", by_flags),
                (safetensors, "safe_open", lambda *args, **options: True),  # opens its file itself, in Rust
            ):
                patched.setattr(module, name, spied(getattr(module, name), reading))
            yield counts

    return counting


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained["bype"], tmp_path / "run")
    return tmp_path / "run"


#: Before something is recorded, a file is read a second time: it may have changed since.
ONCE, CHECKED = 1, 2


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["train", "digits", "--resume", "--out", "RUN"],
            {"last.safetensors": ONCE, "last.json": ONCE, "metrics.jsonl": ONCE},
        ),
        (["evaluate", "RUN", "--samples", 2], {"best.safetensors": CHECKED, "evaluation.json": CHECKED}),
        (
            ["evaluate", "RUN", "--samples", 2, "--with", "few"],
            {"best.safetensors": CHECKED, "evaluation.json": CHECKED, "refit-few.safetensors": CHECKED},
        ),
        (["evaluate", "RUN", "OTHER", "--samples", 2], {"evaluation.json": ONCE}),
        (["refit", "RUN", "--name", "all"], {"best.safetensors": CHECKED, "evaluation.json": ONCE}),
        (["sample", "RUN", "--out", "x.png"], {}),
        (["sample", "RUN", "--out", "x.png", "--like", 3], {}),
        (["sample", "RUN", "--out", "x.png", "--with", "few"], {"refit-few.safetensors": ONCE}),
        (["reconstruct", "RUN", "--out", "x.png"], {}),
        (["interpolate", "RUN", "--out", "x.png"], {}),
        (["coreset", "RUN", "--out", "c"], {}),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_each_file_of_a_run_is_read_once(reads, run, cli_json, tmp_path, monkeypatch, args, expected):
    monkeypatch.chdir(tmp_path)
    np.save("other.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    cli_json("refit", run, "--name", "few", "--points", 20)
    cli_json("evaluate", run, "--samples", 1)
    with reads(run) as counts:
        cli_json(*({"RUN": run, "OTHER": "other.npy"}.get(arg, arg) for arg in args))
    assert counts == {"config.json": ONCE, "best.safetensors": ONCE} | expected


def test_a_run_whose_data_have_moved_is_read_once(reads, cli_json, tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (40, 3, 4), dtype=np.uint8))
    run = tmp_path / "run"
    options = ["--components", 5, "--latent-dim", 3, "--hidden-dim", 8, "--warmup", 1, "--epochs", 1]
    with reads(run) as counts:
        cli_json("train", tmp_path / "a.npy", *options, "--out", run)
    assert counts == {}, "a new run has nothing to read"
    (tmp_path / "a.npy").rename(tmp_path / "b.npy")
    with reads(run) as counts:
        cli_json("train", tmp_path / "b.npy", "--out", run, "--resume")
    assert counts == dict.fromkeys(
        ["config.json", "last.safetensors", "last.json", "best.safetensors", "metrics.jsonl"], ONCE
    )


def test_partial_scores_are_read_once(reads, run, cli_json, run_cli, monkeypatch):
    iwae, calls = bype.evaluation.likelihood.iwae, []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return iwae(*args, **options)

    monkeypatch.setattr(bype.evaluation.likelihood, "NOISE_ELEMENTS", 3 * 30 * 40)
    with monkeypatch.context() as patched:
        patched.setattr("bype.evaluation.likelihood.iwae", interrupted)
        assert run_cli("evaluate", run, "--samples", 30)[0] == 130
    (part,) = run.glob("scoring-*")
    with reads(run) as counts:
        cli_json("evaluate", run, "--samples", 30)
    assert counts == {"config.json": ONCE, "best.safetensors": CHECKED, part.name: ONCE}


def test_a_run_that_is_opened_reads_its_config_alone(reads, run):
    with reads(run) as counts:
        opened = Run(run)
    assert counts == {}
    with reads(run) as counts:
        opened = Run.open(run)
        assert opened.config.set == opened.record["options"]["set"] == "digits"
    assert counts == {"config.json": ONCE}
    with reads(run) as counts:
        loaded = opened.load("cpu")
        assert Evaluations(loaded).networks == loaded.networks
    assert counts == {"best.safetensors": ONCE}
    assert loaded.networks == opened.checkpoints.networks()


def test_the_networks_are_those_of_the_bytes_that_were_loaded(run):
    """Not those that the checkpoint holds by the time something is recorded."""
    loaded = Run.open(run).load("cpu")
    tensors, counters = read_tensors(run / "best.safetensors")
    write_tensors(run / "best.safetensors", tensors, counters | {"epoch": 99})
    evaluations = Evaluations(loaded)
    with pytest.raises(InputError, match=r"expected the networks of epoch [123], which were loaded, got those of.* 99"):
        evaluations.add({"split": "test", "seed": 0})
    assert not (run / "evaluation.json").exists()
    write_tensors(run / "best.safetensors", tensors, counters)  # the same bytes in another file
    assert evaluations.add({"split": "test", "seed": 0})


def test_no_run_is_one_error_whatever_is_asked(tmp_path):
    for ask in (Run.open, lambda path: Run(path).config, lambda path: Run(path).record, lambda path: Run(path).load()):
        with pytest.raises(InputError, match=r"not a run folder, it has no config\.json"):
            ask(tmp_path)


def test_a_run_has_few_public_names():
    names = {name for name in [*vars(Run), *vars(Run("x"))] if not name.startswith("_")}
    assert names == {
        "path", "open", "exists", "record", "config", "lock", "load", "checkpoints", "metrics", "dataset", "card",
    }  # fmt: skip
