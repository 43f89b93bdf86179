"""What docs/use.md shows is run as it stands."""

import re
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

import checkout

PAGE = (checkout.require() / "docs" / "use.md").read_text()
BLOCKS = re.findall(r"```(python|)\n(.*?)```", PAGE, re.S)


def take_photos(folder):
    """Twenty photographs of different sizes, PNG and JPEG."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        colours = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8)
        photo = Image.fromarray(colours).resize((20 + 3 * i, 50 - 2 * i), Image.Resampling.BILINEAR)
        photo.save(folder / f"{i}.{'png' if i % 2 else 'jpg'}")


def write_table(path):
    """Sixty plants of two species."""
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(5 + i % 2):.2f},{rng.normal(2):.2f},{'setosa' if i % 2 else 'virginica'}" for i in range(60)]
    path.write_text("\n".join(["width,height,species", *rows]))


def test_every_row_has_a_section_that_is_there():
    anchors = re.findall(r"\]\(#([a-z-]+)\)", PAGE)
    headings = [h.lower().replace(" ", "-") for h in re.findall(r"^## (.*)$", PAGE, re.M)]
    assert anchors == headings


def test_the_code_and_the_commands_in_their_order(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    take_photos(tmp_path / "photos")
    write_table(tmp_path / "table.csv")
    assert len(BLOCKS) >= 3
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "use.md", "exec"), {"__name__": "use"})
            continue
        for line in filter(None, block.splitlines()):
            code, _, err = run_cli(*shlex.split(line, comments=True)[1:])
            assert code == 0, (line, err)
    assert sorted(p.name for p in Path("reconstructions").iterdir()) == sorted(f"{i}.png" for i in range(20))
    with open("rows.csv") as f:
        assert next(f) == "width,height,species\n"
    with np.load("photo-samples.npz") as found:
        assert found["images"].shape == (100, 3, 16, 16)
