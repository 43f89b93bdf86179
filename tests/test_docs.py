"""The documentation: the code of every page runs, its pages are all in the site, its links lead somewhere."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import bype
import checkout
from bype.cli.commands import COMMANDS
from bype.evaluation.classifier import ClassifierOptions
from bype.training.trainer import Trainer

ROOT = checkout.require()
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "CONTRIBUTING.md"])
#: Run as a whole, in order, by tests of their own.
ELSEWHERE = {"use": "test_use.py", "README": "test_readme.py"}
#: Languages of blocks that are no code to run.
TEXT = ("toml", "yaml", "text", "json")


class Block(NamedTuple):
    """A block of code, and what the comment before it says: why it, or some of its lines, is not run."""

    language: str
    code: str
    skipped: re.Pattern | None

    def lines(self):
        """The commands, without prompts, joined where a line goes on."""
        lines = self.code.replace("\\\n", " ").splitlines()
        lines = [line.removeprefix("$ ").strip() for line in lines]
        return [x for x in lines if x and not x.startswith("#") and not (self.skipped and self.skipped.search(x))]


def blocks_of(page):
    """The blocks of a page. `<!-- not run: REASON -->` before one leaves it out, `<!-- not run "TEXT": REASON -->` its
    lines with TEXT."""
    pattern = r"(?:<!-- not run(?: \"([^\"]+)\")?: ([^>]+) -->\s*)?^```([^\n]*)\n(.*?)^```"
    found = []
    for lines, reason, language, code in re.findall(pattern, page.read_text(), re.S | re.M):
        if language.startswith("{") or language in TEXT:
            continue
        assert not reason or len(reason) > 5, "a reason, not a word"
        if not reason or lines:
            found.append(Block(language, code, re.compile(re.escape(lines)) if lines else None))
    return found


@pytest.fixture
def short(monkeypatch):
    """What is trained ends after two epochs."""
    monkeypatch.setattr(Trainer, "finished", property(lambda trainer: trainer.epoch >= min(2, trainer.epochs)))
    monkeypatch.setattr(ClassifierOptions, "epochs", property(lambda options: 2, lambda options, value: None))


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A working folder with two runs and the user's files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(trained["bype"], tmp_path / "runs" / "first")
    shutil.copytree(trained["vamp"], tmp_path / "runs" / "second")
    rng = np.random.default_rng(0)
    for i in range(30):
        place = tmp_path / "faces" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(place / f"{i}.png")
    shutil.make_archive("faces", "zip", tmp_path / "faces")
    np.save("table.npy", rng.integers(0, 256, (30, 784), dtype=np.uint8))
    rows = [f"{rng.normal():.3f},{rng.normal():.3f},{'ab'[i % 2]}" for i in range(60)]
    Path("table.csv").write_text("\n".join(["width,height,species", *rows]))
    return tmp_path


def run_command(line, run_cli):
    words = shlex.split(line, comments=True)
    settings = [word for word in words[:2] if re.match(r"[A-Z_]+=", word)]
    words = words[len(settings) :]
    assert words[0] == "bype", f"{line}: only bype's commands are run; mark the block as not run, with the reason"
    if settings:
        env = os.environ | dict(s.split("=", 1) for s in settings)
        env["PYTHONPATH"] = os.pathsep.join([env.get("PYTHONPATH", ""), *sys.path])
        subprocess.run([sys.executable, "-m", *words], env=env, check=True, capture_output=True)
        return
    code, _, err = run_cli(*words[1:])
    assert code == 0, (line, err)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [p for p in PAGES if p.stem not in ELSEWHERE], ids=lambda p: p.stem)
def test_the_code_of_a_page_runs_in_its_order(page, short, folder, run_cli, monkeypatch):
    blocks, names = blocks_of(page), {"__name__": page.stem}
    if any("model" in b.code for b in blocks if b.language == "python"):
        loaded = bype.Run.open("runs/first").load("cpu")
        names |= {"model": loaded.model, "data": loaded.data, "bype": bype}
    for block in blocks:
        if block.language == "python":
            if file := re.match(r"# (\w+\.py)\n", block.code):
                Path(file[1]).write_text(block.code)
                continue
            exec(compile(block.code, page.name, "exec"), names)
        else:
            for line in block.lines():
                run_command(line, run_cli)
    for module in [m for m, loaded in sys.modules.items() if str(folder) in str(getattr(loaded, "__file__", ""))]:
        monkeypatch.delitem(sys.modules, module)


def test_the_pages_hold_code():
    counts = {page.stem: len(blocks_of(page)) for page in PAGES}
    assert sum(counts.values()) > 25
    assert counts["start"] >= 2


def test_marks_leave_out_a_block_or_lines(tmp_path):
    page = tmp_path / "p.md"
    page.write_text(
        "```\nbype a\n```\n\n<!-- not run: it takes hours -->\n```\nbype b\n```\n\n"
        '<!-- not run "fetch": it needs the web -->\n\n```\n$ bype c  \\\n   --d\nbype fetch\n```\n\n```toml\nx\n```\n'
    )
    assert [b.lines() for b in blocks_of(page)] == [["bype a"], ["bype c      --d"]]
    page.write_text("```\nbype nonsense\n```\n")
    with pytest.raises(AssertionError, match="nonsense"):
        run_command(blocks_of(page)[0].lines()[0], lambda *args: (2, "", "no such command"))
    with pytest.raises(AssertionError, match="only bype's commands are run"):
        run_command("rm -r x", None)


def test_every_command_is_in_the_documentation():
    text = "".join(page.read_text() for page in [ROOT / "README.md", *PAGES])
    assert not [name for name in COMMANDS if f"bype {name}" not in text]


def test_every_page_is_in_the_site():
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.S)
    listed = {line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}
    pages = {p.stem for p in [*DOCS.glob("*.md"), *DOCS.glob("*.rst")]} - {"index"}
    assert listed == pages


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "results" / "README.md", *PAGES], ids=lambda p: p.stem)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file) if file else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor and place.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", place.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{page.name}: {target}"


def test_broken_links_of_a_built_site_are_found(tmp_path):
    faults_of = runpy.run_path(str(ROOT / "scripts" / "check_links.py"))["faults_of"]
    assert "got no pages" in faults_of(tmp_path)[0]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "b.html").write_text('<a href="../a.html#here">a</a> <a href="https://x.org/y">x</a>')
    (tmp_path / "a.html").write_text(
        '<h1 id="here"></h1><a href="#here">a</a><a href="b/b.html">b</a><img src="a.html">'
    )
    assert faults_of(tmp_path) == []
    (tmp_path / "b" / "c.html").write_text(
        '<a href="../a.html#there">a</a><a href="d.html">d</a><script src="//x.org/s.js"></script><img src="e.png">'
    )
    assert faults_of(tmp_path) == [
        "b/c.html: loads //x.org/s.js",
        "b/c.html: ../a.html#there leads to no anchor",
        "b/c.html: d.html leads to no file",
        "b/c.html: e.png leads to no file",
    ]
