"""What docs/use.md shows is run as it stands."""

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "use.md").read_text()
BLOCKS = re.findall(r"```(python|)\n(.*?)```", PAGE, re.S)


def test_every_row_has_a_section_that_is_there():
    anchors = re.findall(r"\]\(#([a-z-]+)\)", PAGE)
    headings = [h.lower().replace(" ", "-") for h in re.findall(r"^## (.*)$", PAGE, re.M)]
    assert anchors == headings


def test_the_code_and_the_commands_in_their_order(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 3
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "use.md", "exec"), {"__name__": "use"})
            continue
        for line in filter(None, block.splitlines()):
            code, _, err = run_cli(*shlex.split(line, comments=True)[1:])
            assert code == 0, (line, err)
