"""The documentation: its code runs, its pages are all in the site, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from bype.cli.commands import COMMANDS
from bype.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


@pytest.fixture
def short(monkeypatch):
    """What is trained ends after two epochs."""
    monkeypatch.setattr(Trainer, "finished", property(lambda trainer: trainer.epoch >= min(2, trainer.epochs)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["start", "estimator", "plots"])
def test_the_first_python_example_of_a_page_runs(page, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.S)[0]
    exec(compile(code, f"{page}.md", "exec"), {})


def test_the_commands_of_the_start_run(short, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = (DOCS / "start.md").read_text().splitlines()
    commands = [line for line in lines if line.startswith("bype ") and line.split()[1] in COMMANDS]
    assert len(commands) >= 4
    for command in commands:
        code, _, err = run_cli(*shlex.split(command, comments=True)[1:])
        assert code == 0, (command, err)


def test_every_page_is_in_the_site():
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.S)
    listed = {line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}
    pages = {p.stem for p in [*PAGES, *DOCS.glob("*.rst")]} - {"index"}
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
