#!/usr/bin/env python3
"""Mutation testing: plants small faults, one at a time, and counts those that the tests of their room notice.

Each mutant changes one operator, number, condition or statement. The tests of its room run in a copy of the checkout
and stop at the first failure: first those that run the changed line, the fastest first, then the others in their files;
all of the room where none runs it. Where none fails, either a test is missing or the change has no effect on behaviour.
The file of results, and the one of the tests' lines, which says what test runs which line, let an interrupted run go
on; remove both after changing code or tests.
`mutants.py` says what a mutant is.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import coverage
import pytest
from mutants import mutant, places

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {  # the files that are mutated, and the tests that must notice
    "distributions": ("distributions/*.py", "tests/distributions", "tests/networks", "tests/training/test_refit.py"),
    "priors": ("priors/*.py", "tests/priors", "tests/models/test_objectives.py"),
    "pseudocoreset": ("pseudocoreset/*.py", "tests/pseudocoreset"),
    "objectives": ("models/objectives.py", "tests/models/test_objectives.py", "tests/models/test_two_level.py"),
    "training": ("training/*.py", "tests/training"),
    "evaluation": ("evaluation/*.py", "tests/evaluation", "tests/runs/test_scoring.py"),
    "runs": ("runs/*.py", "tests/runs", "tests/core/test_files_order.py"),
    "files": ("core/files.py", "tests/core", "tests/runs"),
    "data": ("data/*.py", "tests/data"),
}
DEFAULTS = ("tests/core/test_defaults.py",)  # for every room
PRELOADED = ("torch", "scipy.stats", "sklearn.ensemble", "matplotlib.pyplot", "pandas", "typer", "rich.progress")


class Recorder:
    """A plugin that writes down the seconds of each test, and the tests that run each line."""

    def __init__(self, file):
        self.file, self.seconds = file, defaultdict(float)
        self.coverage = coverage.Coverage(data_file=None, source=[str(ROOT / "src/bype")])
        self.coverage.start()

    def pytest_runtest_logstart(self, nodeid):
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self):
        self.coverage.stop()
        data, lines = self.coverage.get_data(), {}
        for file in map(Path, data.measured_files()):
            for line, tests in data.contexts_by_lineno(str(file)).items():
                lines[f"{file.relative_to(ROOT)}:{line}"] = [test for test in tests if test]
        self.file.write_text(json.dumps({"seconds": self.seconds, "lines": lines}))


class Order:
    """A plugin that runs the given tests first, and the fastest first."""

    def __init__(self, first, seconds):
        self.first, self.seconds = set(first), seconds

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: (item.nodeid not in self.first, self.seconds.get(item.nodeid, 0)))


def child(folder, tests, plugin, *given):
    """Runs tests, in a separate process that has imported what takes long."""
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path.insert(0, str(folder / "src"))
    os.environ |= {"PYTHONPATH": sys.path[0], "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    os._exit(pytest.main([*options, *(str(folder / t) for t in tests)], plugins=[plugin(*given)]))


def run(limit, *given):
    """The outcome of `child`."""
    process = multiprocessing.get_context("fork").Process(target=child, args=given)
    process.start()
    process.join(limit)
    if (code := process.exitcode) is None:
        os.killpg(process.pid, 9)
    return {None: "timeout", pytest.ExitCode.OK: "survived", pytest.ExitCode.TESTS_FAILED: "killed"}.get(code, "broken")


def work(todo, known, results):
    """Runs mutants in a copy of the checkout, and appends their outcomes to the file of results."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bype"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", ".data", "__pycache__"))
        for key, (room, file, path) in todo:
            target, (text, _, line) = folder / file.relative_to(ROOT), mutant(file, path)
            target.write_text(text)
            first = [test for test in known["lines"].get(line, ()) if test.startswith(ROOMS[room][1:])]
            tests = sorted({test.partition("::")[0] for test in first}) or (*ROOMS[room][1:], *DEFAULTS)
            outcome = run(900, folder, tests, Order, first, known["seconds"])
            target.write_text(file.read_text())
            with results.open("a") as f:
                print(json.dumps([key, outcome]), file=f)
            print(f"{outcome:8}  {key}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"mutants": 160, "seed": 0, "jobs": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--room", action="append", choices=ROOMS)
    parser.add_argument("--results", type=Path, default=ROOT / ".mutants.jsonl")
    given = parser.parse_args()
    rooms = {room: sorted((ROOT / "src/bype").glob(ROOMS[room][0])) for room in given.room or ROOMS}
    every = [(r, f, path) for r, files in rooms.items() for f in files for path in places(f)]
    chosen = {mutant(*c[1:])[1]: c for c in random.Random(given.seed).sample(every, min(given.mutants, len(every)))}
    for name in PRELOADED:
        importlib.import_module(name)
    tests = sorted({t for room in rooms for t in (*ROOMS[room][1:], *DEFAULTS)})
    if not (record := given.results.with_suffix(".tests.json")).exists() and (
        run(3600, ROOT, tests, Recorder, record) != "survived"
    ):
        record.unlink(missing_ok=True)
        sys.exit("the tests fail without a mutant")
    given.results.touch()
    known = dict(map(json.loads, given.results.read_text().splitlines()))
    todo = [item for item in chosen.items() if item[0] not in known]
    jobs = [(todo[n :: given.jobs], json.loads(record.read_text()), given.results) for n in range(given.jobs)]
    jobs = [multiprocessing.get_context("fork").Process(target=work, args=job) for job in jobs]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    known = dict(map(json.loads, given.results.read_text().splitlines()))
    print(f"{sum(known[key] != 'survived' for key in chosen)} of {len(chosen)} noticed")


if __name__ == "__main__":
    main()
