"""The examples run on small data and print their tables."""

import runpy
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("anomalies", ["--sets", "wine", "--seeds", "1", "--epochs", "2"], 1),
        ("few_labels", ["--set", "digits", "--labels", "50", "--seeds", "1", "--epochs", "1", "--steps", "5"], 1),
        ("summary", ["--set", "digits", "--sizes", "20", "--seeds", "1", "--epochs", "1"], 5),
    ],
)
def test_an_example_prints_its_table(name, options, rows, tmp_path):
    out = tmp_path / "table.md"
    lines = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]([*options, "--out", str(out)])
    assert len(lines) == rows + 2
    assert len({line.count("|") for line in lines}) == 1
    assert out.read_text().splitlines() == lines


def test_the_figure_of_all_plots_is_drawn(trained, tmp_path):
    runpy.run_path(str(EXAMPLES / "plots.py"))["main"]([str(trained["bype"]), str(tmp_path / "plots.png")])
    with Image.open(tmp_path / "plots.png") as picture:
        assert picture.width > 800
