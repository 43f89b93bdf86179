#!/usr/bin/env python3
"""Mutation testing: plants small faults, one at a time, and counts those that the tests of their room notice.

Each mutant changes one operator, number, condition or statement. The tests of its room run in a copy of the checkout
and stop at the first failure. Where none fails, either a test is missing or the change has no effect on behaviour. The
file of results lets an interrupted run go on; remove it after changing code or tests.
"""

import argparse
import ast
import contextlib
import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
# Names that only say how much is held or done at once: results agree for all of their values.
SIZES = re.compile(r"(HELD_\w+|PAIR_ELEMENTS|NOISE_ELEMENTS|IWAE_\w+|TILE|TILES|CHUNK|BLOCK|chunk|per_pass)")


def no_behaviour(node):
    """Whether a node is a message, an overload, or sets or is a size of a tile."""
    if isinstance(node, ast.Expr | ast.FunctionDef):
        calls = [node.value] if isinstance(node, ast.Expr) else node.decorator_list
        return any(getattr(getattr(c, "func", c), "id", "") in ("report", "overload") for c in calls)
    if isinstance(node, ast.Assign | ast.Compare | ast.BinOp):
        nodes = [*getattr(node, "targets", []), *(n for n in ast.walk(node) if getattr(n, "id", "").isupper())]
        return any(SIZES.fullmatch(getattr(n, "id", "")) for n in nodes)
    return isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert)


def places(node, path=()):
    """The paths from a node to those below it that have a mutant, in order."""
    if no_behaviour(node):
        return
    if path and mutate(copy.deepcopy(node)):
        yield path
    for name, value in ast.iter_fields(node):
        many = isinstance(value, list)
        for i, below in enumerate(value if many else [value]):
            inside = isinstance(below, ast.AST if path else ast.FunctionDef | ast.ClassDef)
            if inside and name not in ("decorator_list", "annotation", "returns", "bases"):
                yield from places(below, (*path, (name, i if many else None)))


def mutate(node):
    """The node, changed, or None where it has no mutant."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        node.ops = [SWAPS[type(node.ops[0])]()]
    elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        return None if isinstance(node.operand, ast.Constant) else node.operand  # -1 mostly is an axis, as is 1
    elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return ast.Pass()
    else:
        return None
    return node


def mutant(file, path):
    """The file's text with the node at `path` changed, and a line that says where and how."""
    tree = node = ast.parse(file.read_text())
    for name, i in path:
        parent, node = node, getattr(node, name) if i is None else getattr(node, name)[i]
    changed = mutate(copy.deepcopy(node))
    setattr(parent, name, changed) if i is None else getattr(parent, name).__setitem__(i, changed)
    line = f"{file.relative_to(ROOT)}:{node.lineno}:{node.col_offset}  {ast.unparse(node)}  ->  {ast.unparse(changed)}"
    return ast.unparse(tree), " ".join(line.split())


def run_tests(folder, room, source, limit=900):
    """Runs the tests of a room, those that mention most of what the source defines first; returns the outcome."""
    names = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    files = [f for t in ROOMS[room][1:] for f in (sorted((folder / t).glob("test_*.py")) or [folder / t])]
    files.sort(key=lambda f: -sum(word in names for word in re.findall(r"\w+", f.read_text())))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *files]
    env = os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return "killed" if process.wait(limit) else "survived"
        return os.killpg(process.pid, 9) or "timeout"


def work(todo, results):
    """Runs mutants in a copy of the checkout, and appends their outcomes to the file of results."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bype"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", ".data", "__pycache__"))
        for key, (room, file, path) in todo:
            target = folder / file.relative_to(ROOT)
            target.write_text(mutant(file, path)[0])
            outcome = run_tests(folder, room, source := file.read_text())
            target.write_text(source)
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
    every = [(r, f, path) for r, files in rooms.items() for f in files for path in places(ast.parse(f.read_text()))]
    chosen = {mutant(*c[1:])[1]: c for c in random.Random(given.seed).sample(every, min(given.mutants, len(every)))}
    known = dict(map(json.loads, given.results.read_text().splitlines())) if given.results.exists() else {}
    if not known and any(run_tests(ROOT, r, "", 3600) != "survived" for r in {c[0] for c in chosen.values()}):
        sys.exit("the tests fail without a mutant")
    todo = [item for item in chosen.items() if item[0] not in known]
    with ThreadPoolExecutor(given.jobs) as jobs:
        list(jobs.map(lambda n: work(todo[n :: given.jobs], given.results), range(given.jobs)))
    known = dict(map(json.loads, given.results.read_text().splitlines()))
    print(f"{sum(known[key] != 'survived' for key in chosen)} of {len(chosen)} noticed")


if __name__ == "__main__":
    main()
