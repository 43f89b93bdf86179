"""What import-linter cannot say of the package: nobody imports its door, streams differ, modules hold no state."""

import ast
import itertools
from pathlib import Path

import pytest

import bype
from bype.core.seeds import Stream

SOURCE = Path(bype.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_imports_the_door(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert all(alias.name != "bype" for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module != "bype" or all((SOURCE / alias.name).is_dir() for alias in node.names)


def test_rooms_only_hand_names_on():
    for init in SOURCE.glob("*/__init__.py"):
        assert len(init.read_text().splitlines()) < 60, init
        kinds = {type(node) for node in ast.parse(init.read_text()).body}
        assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}, init


def test_random_streams_differ_and_stand_in_one_place():
    for one, other in itertools.combinations(Stream, 2):
        assert abs(one - other) > 999_000, "no two seeds below 999,000 share a stream"
    offsets = [
        path
        for path in FILES
        if path.name != "seeds.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Add)
        and isinstance(node.right, ast.Constant)
        and isinstance(node.right.value, int)
        and node.right.value > 999_999
    ]
    assert not offsets


def _mutable(value):
    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") in (
        "list",
        "dict",
        "set",
        "deque",
        "defaultdict",
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_hold_no_mutable_state(path):
    """No `global`, and no collection under a lower-case name at the top; tables in capitals are constants."""
    tree = ast.parse(path.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _mutable(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)):
                assert name.isupper() or name == "__all__", (path, name)
