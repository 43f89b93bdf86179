"""The files around the package agree: versions, workflows and their make targets, templates, what is packed."""

import re
import runpy
import subprocess
import tomllib

import pytest

import bype
import checkout

ROOT = checkout.require()
yaml = pytest.importorskip("yaml")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def commands(workflow):
    return [s["run"] for job in workflow["jobs"].values() for s in job["steps"] if "run" in s]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_runs_make_targets_that_exist(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow[True]  # `on`, which YAML 1.1 reads as true
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] > 0
        assert {"runs-on", "steps"} <= job.keys()
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    text = path.read_text()
    targets = re.findall(r"run: make ([\w-]+)", text)
    for job in workflow["jobs"].values():
        targets += job.get("strategy", {}).get("matrix", {}).get("target", [])
    assert targets
    assert not [t for t in targets if not re.search(rf"^{t}:", MAKEFILE, re.M)]
    assert all(command.startswith("make ") for command in commands(workflow))


def test_the_workflow_tests_every_version_of_python_that_is_declared():
    matrix = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]["test"]["strategy"]["matrix"]
    declared = [c.split(" :: ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert matrix["python"][: len(declared)] == declared, "a later one may be tried before it is declared"
    assert PROJECT["project"]["requires-python"] == f">={declared[0]}"


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem)
def test_a_template_is_well_formed(path):
    template = yaml.safe_load(path.read_text())
    if path.stem == "config":
        return
    assert {"name", "description", "body"} <= template.keys()
    for part in template["body"]:
        assert part["type"] in ("textarea", "input", "markdown", "dropdown", "checkboxes")
        assert part["attributes"]["label"]


def test_the_version_stands_in_one_place_and_is_repeated_right():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == bype.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= citation.keys()
    assert "version" in PROJECT["project"]["dynamic"]
    number = bype.__version__.partition(".dev")[0]
    assert re.search(rf"^## {re.escape(number)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_every_extra_is_documented_and_every_phony_target_exists():
    text = "".join(p.read_text() for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    undocumented = [e for e in PROJECT["project"]["optional-dependencies"] if f"[{e}]" not in text]
    assert not undocumented
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split()
    assert not [t for t in phony if not re.search(rf"^{t}:", MAKEFILE, re.M)]


def test_the_source_distribution_holds_what_a_checkout_needs():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in ("src", "tests", "docs", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "Makefile", "constraints.txt"):
        assert name in included
        assert (ROOT / name).exists()


def test_only_one_file_of_the_tests_names_a_place_outside_of_their_folder():
    users = {
        str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob("*.py") if re.search(r"Path\(__file__", p.read_text())
    }
    outside = users - {"tests/checkout.py", "tests/golden/make.py"}
    assert not outside, "take ROOT from tests/checkout.py, or the fixture `root`"


def test_a_file_or_a_test_that_needs_a_checkout_is_skipped_without_one(monkeypatch, tmp_path):
    assert checkout.require() == ROOT
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    with pytest.raises(pytest.skip.Exception) as caught:
        checkout.require()
    assert caught.value.allow_module_level
    assert "needs a checkout" in str(caught.value)


def test_the_lowest_versions_are_those_of_the_package_and_its_extras(capsys):
    script = runpy.run_path(str(ROOT / "scripts" / "lowest.py"))
    assert script["lowest"](["a-b>=1.2", "c>=3"]) == ["a-b==1.2", "c==3"]
    with pytest.raises(SystemExit, match="expected NAME>=VERSION"):
        script["lowest"](["a==1"])
    extras = PROJECT["project"]["optional-dependencies"]
    script["main"](str(ROOT / "pyproject.toml"), *extras)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PROJECT["project"]["dependencies"]) + sum(map(len, extras.values()))
    with pytest.raises(SystemExit, match=r"expected extras of tables, .*, got nonsense"):
        script["main"](str(ROOT / "pyproject.toml"), "nonsense")


def test_make_help_has_a_line_for_every_target():
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert sorted(listed) == sorted(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())
    assert all(len(line) < 120 for line in done.stdout.splitlines())
