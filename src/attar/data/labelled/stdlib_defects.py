"""`python-stdlib:defect`: does this function have a bug that was planted?

One half of the functions of each split got one bug each: a wrong operator, two arguments swapped, a
number that is off by one, a condition negated, or another variable of the same function in the
place of the right one; the other half is as it was. Only functions that a bug fits are taken, no
function is in both halves, and both halves are written by `ast.unparse`.

How hard it is, with the library of Python 3.11 (5,300 rows of train, 500 of validation and 300 of
test): the larger class is 50%; a logistic regression on words and operators gets 53% to 56% of
validation and 50% to 51% of test, having learnt 74% to 88% of train.
"""

import ast
import random
from collections.abc import Callable, Iterator
from functools import partial

from datasets import Dataset

from attar.data.labelled.functions import Function, stdlib_functions
from attar.data.labelled.rewrites import negated
from attar.data.text import SPLITS

_OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_ANY_ORDER = frozenset({"max", "min", "gcd", "lcm", "union", "print", "isdisjoint"})
"""Functions whose arguments may be swapped."""

Change = Callable[[], None]


def defect_tables() -> dict[str, Dataset]:
    """The columns text and label of each split."""
    rows: dict[str, list[dict[str, str]]] = {name: [] for name in SPLITS}
    for function in sorted(stdlib_functions(), key=lambda f: f.seed):
        code = with_defect(function)
        if code is not None:
            split = rows[function.split]
            planted = len(split) % 2 == 0
            text, label = (code, "defect") if planted else (function.code, "fine")
            split.append({"text": text, "label": label})
    return {name: Dataset.from_list(found) for name, found in rows.items()}


def with_defect(function: Function) -> str | None:
    """The function with one bug, of a kind drawn among those that fit; None where none does."""
    draw = random.Random(function.seed)
    tree = function.tree
    kinds = [[*find(tree)] for find in (_operators, _arguments, _numbers, _conditions)]
    kinds.append([*_variables(tree, function.names, draw)])
    kinds = [changes for changes in kinds if changes]
    if not kinds:
        return None
    draw.choice(draw.choice(kinds))()
    return ast.unparse(ast.fix_missing_locations(tree))


def _operators(tree: ast.AST) -> Iterator[Change]:
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in _OTHER:
                yield partial(setattr, node, "op", _OTHER[type(op)]())
            case ast.Compare(ops=[op]) if type(op) in _OTHER:
                yield partial(setattr, node, "ops", [_OTHER[type(op)]()])


def _arguments(tree: ast.AST) -> Iterator[Change]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        first, second, *rest = node.args
        starred = any(isinstance(a, ast.Starred) for a in (first, second))
        if called not in _ANY_ORDER and not starred and ast.dump(first) != ast.dump(second):
            yield partial(setattr, node, "args", [second, first, *rest])


def _numbers(tree: ast.AST) -> Iterator[Change]:
    """One more, or one less where that is not below zero."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            for value in {node.value + 1, max(node.value - 1, 0)} - {node.value}:
                yield partial(setattr, node, "value", value)


def _conditions(tree: ast.AST) -> Iterator[Change]:
    for node in ast.walk(tree):
        conditional = isinstance(node, ast.If | ast.While | ast.IfExp)
        if conditional and not isinstance(node.test, ast.Constant):
            yield partial(setattr, node, "test", negated(node.test))


def _variables(tree: ast.AST, names: tuple[str, ...], draw: random.Random) -> Iterator[Change]:
    if len(names) < 2:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            other = draw.choice([name for name in names if name != node.id])
            yield partial(setattr, node, "id", other)
