"""What the README shows is run as it stands."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

README = (Path(__file__).parents[1] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = [shlex.split(line, comments=True) for line in README.splitlines() if line.startswith("bype ")]


def test_there_is_something_to_run():
    assert len(PYTHON) == 3
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("code", PYTHON, ids=["example", "runs", "own prior"])
def test_python(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len([line for line in code.splitlines() if line.strip()]) <= 35
    exec(compile(code, "README.md", "exec"), {})


def test_the_first_example_is_short_and_the_quickstart_is_it():
    lines = [line for line in PYTHON[0].splitlines() if line.strip()]
    assert len(lines) <= 12
    quickstart = (Path(__file__).parents[1] / "examples" / "quickstart.py").read_text()
    assert all(line in quickstart for line in lines[:-1])


def test_commands_in_their_order(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        code, _, err = run_cli(*command[1:])
        assert code == 0, (command, err)
    assert {"samples.png", "plates.png", "reconstructions.png"} <= {p.name for p in tmp_path.iterdir()}


def test_the_examples_that_take_a_run(trained, tmp_path, monkeypatch, capsys):
    out, folder = tmp_path / "x.png", Path(__file__).parents[1] / "examples"
    monkeypatch.setattr(sys, "argv", ["points_before_after.py", str(trained["bype"]), str(trained["bype"]), str(out)])
    runpy.run_path(str(folder / "points_before_after.py"), run_name="__main__")
    with Image.open(out) as picture:
        assert picture.width > picture.height
    for example in ("points_before_after.py", "step_two.py"):
        monkeypatch.setattr(sys, "argv", [example])
        with pytest.raises(SystemExit, match="2"):
            runpy.run_path(str(folder / example), run_name="__main__")
        assert "the following arguments are required: RUN" in capsys.readouterr().err
