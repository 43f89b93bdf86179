#!/usr/bin/env python3
"""Mutation testing: plants small faults, one at a time, and counts those that the tests of their room notice.

    python scripts/mutate.py [--mutants 160] [--seed 0] [--room NAME ...]

Each mutant changes one operator, number, condition or statement of one file. The tests of the file's room run in a copy
of the checkout, in a process forked from one that has imported torch, and stop at the first failure. A mutant that no
test fails under is a survivor: either a test is missing, or the change has no effect on behaviour.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
#: The files that are mutated, by room, and the tests that must notice.
ROOMS = {
    "distributions": ("distributions/*.py", "tests/distributions", "tests/networks", "tests/training/test_refit.py"),
    "priors": ("priors/*.py", "tests/priors", "tests/models/test_objectives.py"),
    "pseudocoreset": ("pseudocoreset/*.py", "tests/pseudocoreset"),
    "objectives": ("models/objectives.py", "tests/models/test_objectives.py", "tests/models/test_two_level.py"),
    "training": ("training/*.py", "tests/training"),
    "evaluation": ("evaluation/*.py", "tests/evaluation", "tests/runs/test_scoring.py"),
    "runs": ("runs/*.py", "tests/runs"),
    "files": ("core/files.py", "tests/core", "tests/runs"),
    "data": ("data/*.py", "tests/data"),
}
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
#: Parts of the syntax that hold types or messages, not behaviour.
SKIPPED = ("decorator_list", "annotation", "returns", "bases")


def places(node, path=()):
    """The paths from a node to those below it that have a mutant, in order."""
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert):  # messages, and what never happens
        return
    if not isinstance(node, ast.Module) and mutate(copy.deepcopy(node)) is not None:
        yield path
    for name, value in ast.iter_fields(node):
        many = isinstance(value, list)
        for i, below in enumerate(value if many else [value]):
            inside = not isinstance(node, ast.Module) or isinstance(below, ast.FunctionDef | ast.ClassDef)
            if isinstance(below, ast.AST) and inside and name not in SKIPPED:
                yield from places(below, (*path, (name, i if many else None)))


def mutate(node):
    """The node, changed, or None where it has no mutant."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        node.ops = [SWAPS[type(node.ops[0])]()]
    elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        # -1 mostly is an axis, which 1 is as well.
        return None if isinstance(node.operand, ast.Constant) else node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return ast.Pass()
    else:
        return None
    return node


def mutant(source, path):
    """The source with the node at `path` changed; its line; the node before and after."""
    tree = node = ast.parse(source)
    for name, i in path:
        parent, node = node, getattr(node, name) if i is None else getattr(node, name)[i]
    before, changed = ast.unparse(node), mutate(copy.deepcopy(node))
    setattr(parent, name, changed) if i is None else getattr(parent, name).__setitem__(i, changed)
    text = ast.unparse(ast.fix_missing_locations(tree))
    return text, node.lineno, *(part.split("\n")[0][:60] for part in (before, ast.unparse(changed)))


def run_tests(folder, tests, limit):
    """Runs tests in a forked process; returns the outcome and the seconds."""
    start = time.monotonic()
    if (pid := os.fork()) == 0:
        os.setsid()
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder / "src")
        sys.path.insert(0, str(folder / "src"))
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1), os.dup2(sink, 2)
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests])))
    while time.monotonic() - start < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return ("killed" if os.waitstatus_to_exitcode(status) else "survived"), time.monotonic() - start
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout", time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", action="append", choices=ROOMS)
    given = parser.parse_args()
    rooms = {room: sorted((ROOT / "src/bype").glob(ROOMS[room][0])) for room in given.room or ROOMS}
    every = [(r, f, path) for r, files in rooms.items() for f in files for path in places(ast.parse(f.read_text()))]
    chosen = random.Random(given.seed).sample(every, min(given.mutants, len(every)))
    torch.set_num_threads(1)
    survivors, limits = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bype"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", ".data", "__pycache__"))
        for room in dict.fromkeys(room for room, *_ in chosen):
            outcome, seconds = run_tests(folder, ROOMS[room][1:], 3600)
            if outcome != "survived":
                sys.exit(f"{room}: its tests fail without a mutant")
            limits[room] = 60 + 3 * seconds
        for n, (room, file, path) in enumerate(chosen, 1):
            text, line, before, after = mutant(file.read_text(), path)
            target = folder / file.relative_to(ROOT)
            target.write_text(text)
            outcome, seconds = run_tests(folder, ROOMS[room][1:], limits[room])
            target.write_text(file.read_text())
            where = f"{file.relative_to(ROOT)}:{line}"
            survivors += [where] if outcome == "survived" else []
            print(f"{n}/{len(chosen)} {outcome:8} {seconds:4.0f} s  {where}  {before}  ->  {after}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} noticed")


if __name__ == "__main__":
    main()
