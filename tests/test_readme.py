"""What the README shows is run as it stands."""

import re
import runpy
import shlex
import sys

import pytest
from PIL import Image

import checkout
from bype.training.trainer import Trainer

ROOT = checkout.require()
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = [shlex.split(line, comments=True) for line in README.splitlines() if line.startswith("bype ")]


def test_there_is_something_to_run():
    assert len(PYTHON) == 2
    assert len(COMMANDS) >= 6


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["two epochs", "to its end"])
def training(request, monkeypatch):
    """What is trained ends after two epochs, or as it would for who types it."""
    if not request.param:
        monkeypatch.setattr(Trainer, "finished", property(lambda trainer: trainer.epoch >= min(2, trainer.epochs)))


@pytest.mark.parametrize("code", PYTHON, ids=["estimator", "example"])
def test_python(code, training, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len([line for line in code.splitlines() if line.strip()]) <= 35
    exec(compile(code, "README.md", "exec"), {})


def test_the_first_examples_are_short_and_the_quickstart_is_the_one_in_torch():
    assert len([line for line in PYTHON[0].splitlines() if line.strip()]) <= 12
    lines = [line for line in PYTHON[1].splitlines() if line.strip()]
    assert len(lines) <= 12
    quickstart = (ROOT / "examples" / "quickstart.py").read_text()
    assert all(line in quickstart for line in lines[:-1])


def test_commands_in_their_order(run_cli, training, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        code, _, err = run_cli(*command[1:])
        assert code == 0, (command, err)
    assert {"samples.png", "plates.png", "reconstructions.png"} <= {p.name for p in tmp_path.iterdir()}


def test_the_examples_that_take_a_run(trained, tmp_path, monkeypatch, capsys):
    out, folder = tmp_path / "x.png", ROOT / "examples"
    monkeypatch.setattr(sys, "argv", ["points_before_after.py", str(trained["bype"]), str(trained["bype"]), str(out)])
    runpy.run_path(str(folder / "points_before_after.py"), run_name="__main__")
    with Image.open(out) as picture:
        assert picture.width > picture.height
    for example in ("points_before_after.py", "step_two.py"):
        monkeypatch.setattr(sys, "argv", [example])
        with pytest.raises(SystemExit, match="2"):
            runpy.run_path(str(folder / example), run_name="__main__")
        assert "the following arguments are required: RUN" in capsys.readouterr().err


def test_the_example_of_step_two_writes_its_table_and_picture(trained, tmp_path, monkeypatch, capsys):
    example = runpy.run_path(str(ROOT / "examples" / "step_two.py"))
    example["main"].__globals__["SETTINGS"] = [(0, 1e-3), (3, 1e-3)]
    monkeypatch.setattr(sys, "argv", ["step_two.py", str(trained["bype"]), str(tmp_path / "out")])
    example["main"]()
    lines = (tmp_path / "out" / "step-two-probe.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| paper, 0 steps at 0.001", "| paper, 3 steps at 0.001", "| published, one pass",
    ]  # fmt: skip
    still, moved = ([float(v) for v in line.strip("| ").split(" | ")[1:]] for line in lines[2:4])
    assert still[3:] == [0.0, 0.0, 0.0], "no step moves no point"
    assert moved[3] > 0
    assert (tmp_path / "out" / "step-two-points.png").exists()
