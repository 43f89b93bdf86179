"""The examples run on small data, print their tables and draw their pictures; their pages show what is recorded."""

import json
import runpy
import shutil

import pytest
from PIL import Image

import checkout

ROOT = checkout.require()
EXAMPLES = ROOT / "examples"
SETS = ["digits", "mnist", "fashion-mnist", "wine", "breast-cancer"]
SMALL = {
    "anomalies": ["--sets", "wine", "--seeds", "1", "--epochs", "2"],
    "few_labels": [
        "--set", "digits", "--labels", "50", "--seeds", "1", "--epochs", "1", "--steps", "5", "--components", "20",
    ],
    "summary": ["--set", "digits", "--sizes", "20", "--seeds", "1", "--epochs", "1"],
}  # fmt: skip


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return lambda name, *options: runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]([str(o) for o in options])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "options"), SMALL.items())
def test_an_example_records_its_pieces_and_prints_and_draws_them(run, name, options, tmp_path):
    results, picture, page = (tmp_path / n for n in ("results.jsonl", "picture.png", "page.md"))
    page.write_text("before\n\n<!-- table -->\n<!-- end -->\n\nafter\n")
    lines = run(name, *options, "--results", results, "--picture", picture, "--page", page)
    assert len({line.count("|") for line in lines}) == 1
    assert page.read_text() == "before\n\n<!-- table -->\n" + "\n".join(lines) + "\n<!-- end -->\n\nafter\n"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    pieces = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(pieces) >= 3
    pieces[0] |= {k: 77.25 for k, v in pieces[0].items() if isinstance(v, float)}
    results.write_text("\n".join(map(json.dumps, pieces[:-1])) + "\n")
    again = run(name, *options, "--results", results)
    assert any("77.2" in line for line in again), "a recorded piece is read, not computed again"
    last = json.loads(results.read_text().splitlines()[-1])
    assert {k: v for k, v in last.items() if k != "seconds"} == {k: v for k, v in pieces[-1].items() if k != "seconds"}


@pytest.mark.parametrize(("name", "options"), [("anomalies", ["--sets", *SETS]), ("few_labels", []), ("summary", [])])
def test_the_table_of_a_page_is_that_of_the_recorded_results(run, name, options, tmp_path):
    stem = name.replace("_", "-")
    page = tmp_path / "page.md"
    shutil.copy(ROOT / "docs" / f"{stem}.md", page)
    recorded = ROOT / "results" / "examples" / f"{stem}.jsonl"
    run(name, *options, "--results", recorded, "--recorded", "--page", page)
    assert page.read_text() == (ROOT / "docs" / f"{stem}.md").read_text()


def test_the_figure_of_all_plots_is_drawn(trained, tmp_path):
    runpy.run_path(str(EXAMPLES / "plots.py"))["main"]([str(trained["bype"]), str(tmp_path / "plots.png")])
    with Image.open(tmp_path / "plots.png") as picture:
        assert picture.width > 800
