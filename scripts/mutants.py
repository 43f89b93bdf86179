"""The mutants of a file: its functions with one operator, number, condition or statement changed."""

import ast
import copy
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
# Names that only say how much is held or done at once: results agree for all of their values.
SIZES = re.compile(r"(HELD_\w+|PAIR_ELEMENTS|NOISE_ELEMENTS|IWAE_\w+|TILE|TILES|CHUNK|BLOCK|chunk|per_pass)")


def no_behaviour(node):
    """Whether a node is a message, an overload, sets or is a size of a tile, or asks for a GPU, which tests lack."""
    if isinstance(node, ast.Expr | ast.FunctionDef):
        calls = [node.value] if isinstance(node, ast.Expr) else node.decorator_list
        return any(getattr(getattr(c, "func", c), "id", "") in ("report", "overload") for c in calls)
    if isinstance(node, ast.Compare) and "cuda" in (getattr(n, "value", None) for n in node.comparators):
        return True
    if isinstance(node, ast.Assign | ast.Compare | ast.BinOp):
        nodes = [*getattr(node, "targets", []), *(n for n in ast.walk(node) if getattr(n, "id", "").isupper())]
        return any(SIZES.fullmatch(getattr(n, "id", "")) for n in nodes)
    return isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert)


def places(file):
    """The paths from a file's module to the nodes that have a mutant, in order."""
    return list(below(ast.parse(file.read_text()), ()))


def below(node, path):
    """The paths from a node to those below it that have a mutant, in order."""
    if no_behaviour(node):
        return
    if path and mutate(copy.deepcopy(node)):
        yield path
    for name, value in ast.iter_fields(node):
        many = isinstance(value, list)
        for i, child in enumerate(value if many else [value]):
            inside = isinstance(child, ast.AST if path else ast.FunctionDef | ast.ClassDef)
            if inside and name not in ("decorator_list", "annotation", "returns", "bases"):
                yield from below(child, (*path, (name, i if many else None)))


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
    """The file's text with the node at `path` changed, a line that says where and how, and the node's line number."""
    tree = node = ast.parse(file.read_text())
    for name, i in path:
        parent, node = node, getattr(node, name) if i is None else getattr(node, name)[i]
    changed = mutate(copy.deepcopy(node))
    setattr(parent, name, changed) if i is None else getattr(parent, name).__setitem__(i, changed)
    line = f"{file.relative_to(ROOT)}:{node.lineno}:{node.col_offset}  {ast.unparse(node)}  ->  {ast.unparse(changed)}"
    return ast.unparse(tree), " ".join(line.split()), f"{file.relative_to(ROOT)}:{node.lineno}"
