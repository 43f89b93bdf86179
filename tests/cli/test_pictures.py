"""Pictures depend on no setting of the user's matplotlib."""

import os
import subprocess
import sys

import pytest
from PIL import Image, ImageChops


@pytest.fixture(scope="module")
def plain(trained, tmp_path_factory):
    """A picture of plates without any setting."""
    return draw(trained, tmp_path_factory.mktemp("plain"), {})


def draw(trained, folder, settings):
    """Plates drawn by a process with these settings in its environment."""
    command = [sys.executable, "-m", "bype", "sample", str(trained["bype"]), "--plates", "--n", "4", "--out", "p.png"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MPL") and k != "MATPLOTLIBRC"}
    done = subprocess.run(
        command, cwd=folder, env=environment | settings, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "p.png") as picture:
        return picture.copy()


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", None])
def test_plates_are_the_same_whatever_the_backend_and_the_rc_file(trained, plain, tmp_path, backend):
    """The backend is what a command in a notebook inherits; LaTeX need not be installed."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: red\nfont.size: 30\n")
    settings = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")} | ({"MPLBACKEND": backend} if backend else {})
    assert ImageChops.difference(draw(trained, tmp_path, settings), plain).getbbox() is None
