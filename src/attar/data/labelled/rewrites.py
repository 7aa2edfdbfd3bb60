"""Other ways to write the same Python function: every rewrite leaves what it does as it was.

Only where that can be told from the text: operators may be anything that a class defines, so a
comparison is turned round only between names and constants, `x += 1` is written out for numbers
alone, and statements change places only where neither sees the other.
"""

import ast
import random
from collections.abc import Sequence

_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
"""`a != b` need not be `not a == b` for a class of its own making, but is for those that hold to
what the language asks of them."""
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_SHARE = 0.7
"""Of the places where a rewrite fits that are rewritten."""


def rewrite(
    tree: ast.FunctionDef | ast.AsyncFunctionDef, *, seed: int, spare: Sequence[str] = ()
) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Write a function in another way, in place.

    Args:
        tree: the function.
        seed: settles which of the rewrites are made.
        spare: names that do not occur in it, for variables that are new.
    """
    draw = random.Random(seed)
    local = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _is_stored(n)}
    local |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    rewriter = _Rewriter(draw, list(spare), own=local)
    guarded = any(isinstance(n, ast.Try | ast.TryStar | ast.With) for n in ast.walk(tree))
    shared = any(isinstance(n, ast.Global | ast.Nonlocal | _SCOPES) for n in _inner(tree))
    if not guarded and not shared:
        _reorder(tree, draw, local=local)
    rewriter.generic_visit(tree)
    ast.fix_missing_locations(tree)
    return tree


_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


def _inner(tree: ast.AST) -> list[ast.AST]:
    return [node for node in ast.walk(tree) if node is not tree]


def _is_stored(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


def negated(test: ast.expr) -> ast.expr:
    """The opposite of a condition."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    match test:
        case ast.Compare(ops=[op]) if opposite := _OPPOSITE.get(type(op)):
            return ast.Compare(test.left, [opposite()], test.comparators)
    return ast.UnaryOp(ast.Not(), test)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def is_plain(node: ast.expr) -> bool:
    """Whether an expression is a name or a constant, so that to evaluate it does nothing else."""
    return isinstance(node, ast.Name | ast.Constant)


class _Rewriter(ast.NodeTransformer):
    """Expressions and lists of statements, the innermost first."""

    def __init__(self, draw: random.Random, spare: list[str], *, own: set[str]) -> None:
        self._draw, self._spare, self._own = draw, spare, own

    def _now(self) -> bool:
        return self._draw.random() < _SHARE

    # ------------------------------------------------------------------------------ expressions

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """`a < b` as `b > a`; `a != b` as `not a == b`."""
        self.generic_visit(node)
        if len(node.ops) != 1:
            return node
        mirrored = _MIRRORED.get(type(node.ops[0]))
        right = node.comparators[0]
        if mirrored and is_plain(node.left) and is_plain(right) and self._now():
            return ast.Compare(right, [mirrored()], [node.left])
        if isinstance(node.ops[0], ast.NotEq | ast.IsNot | ast.NotIn) and self._now():
            return ast.UnaryOp(ast.Not(), negated(node))
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        """`not a == b` as `a != b`; `not (a or b)` as `not a and not b`."""
        inside = node.operand
        if isinstance(node.op, ast.Not) and isinstance(inside, ast.BoolOp) and self._now():
            other = ast.And() if isinstance(inside.op, ast.Or) else ast.Or()
            node = ast.BoolOp(other, [ast.UnaryOp(ast.Not(), v) for v in inside.values])  # pyright: ignore
            self.generic_visit(node)
            return node
        if isinstance(node.op, ast.Not) and isinstance(inside, ast.Compare):
            self.generic_visit(inside)
            opposite = negated(inside)
            return opposite if isinstance(opposite, ast.Compare) and self._now() else node
        self.generic_visit(node)
        return node

    def visit_List(self, node: ast.List) -> ast.expr:
        """`[]` as `list()`."""
        self.generic_visit(node)
        empty = not node.elts and isinstance(node.ctx, ast.Load)
        return self._called("list", []) if empty and self._may("list") else node

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        """`{}` as `dict()`."""
        self.generic_visit(node)
        return self._called("dict", []) if not node.keys and self._may("dict") else node

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        """`[x for x in y]` as `list((x for x in y))`."""
        self.generic_visit(node)
        waits = any(isinstance(n, ast.Await) for n in ast.walk(node))
        waits = waits or any(g.is_async for g in node.generators)
        if waits or not self._may("list"):
            return node
        return self._called("list", [ast.GeneratorExp(node.elt, node.generators)])

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """`range(n)` as `range(0, n)`; `dict()` and `list()` as `{}` and `[]`."""
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name) or node.keywords or node.func.id in self._own:
            return node
        until = node.args[0] if len(node.args) == 1 else None
        if node.func.id == "range" and until and not isinstance(until, ast.Starred) and self._now():
            return ast.Call(node.func, [ast.Constant(0), until], [])
        if node.func.id in ("list", "dict") and not node.args and self._now():
            return ast.List([], ast.Load()) if node.func.id == "list" else ast.Dict([], [])
        return node

    def _may(self, builtin: str) -> bool:
        return builtin not in self._own and self._now()

    def _called(self, builtin: str, arguments: list[ast.expr]) -> ast.expr:
        return ast.Call(ast.Name(builtin, ast.Load()), arguments, [])

    # ------------------------------------------------------------------------------- statements

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """As it is."""
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        """As it is."""
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        """`x += 1` as `x = x + 1`."""
        self.generic_visit(node)
        target, value = node.target, node.value
        if isinstance(target, ast.Name) and _is_number(value) and self._now():
            before = ast.Name(target.id, ast.Load())
            return ast.Assign([target], ast.BinOp(before, node.op, value))
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        """`x = x + 1` as `x += 1`; `x = a if c else b` as an if statement."""
        self.generic_visit(node)
        target = node.targets[0]
        if len(node.targets) > 1 or not isinstance(target, ast.Name):
            return node
        value = node.value
        if isinstance(value, ast.IfExp) and self._now():
            yes, no = (
                ast.Assign([ast.Name(target.id, ast.Store())], v)
                for v in (value.body, value.orelse)
            )
            return ast.If(value.test, [yes], [no])
        if isinstance(value, ast.BinOp) and _is_number(value.right):
            same = isinstance(value.left, ast.Name) and value.left.id == target.id
            if same and self._now():
                return ast.AugAssign(target, value.op, value.right)
        return node

    def visit_Return(self, node: ast.Return) -> ast.stmt | list[ast.stmt]:
        """`return` as `return None`; `return f(x)` by way of a variable."""
        self.generic_visit(node)
        value = node.value
        if value is None:
            return ast.Return(ast.Constant(None)) if self._now() else node
        if isinstance(value, ast.Constant) and value.value is None:
            return ast.Return(None) if self._now() else node
        if isinstance(value, ast.IfExp) and self._now():
            return ast.If(value.test, [ast.Return(value.body)], [ast.Return(value.orelse)])
        if not is_plain(value) and self._spare and self._draw.random() < _SHARE / 2:
            name = self._spare[0]
            return [ast.Assign([ast.Name(name, ast.Store())], value), _returned(name)]
        return node

    def visit_While(self, node: ast.While) -> ast.stmt:
        """`while True` as `while 1`, and the other way round."""
        self.generic_visit(node)
        test = node.test
        if isinstance(test, ast.Constant) and test.value in (True, 1) and self._now():
            node.test = ast.Constant(1 if test.value is True else True)
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Lists of statements after what is in them; annotations stay."""
        returns = getattr(node, "returns", None)
        if returns is not None:
            node.returns = None  # pyright: ignore[reportAttributeAccessIssue]
        super().generic_visit(node)
        if returns is not None:
            node.returns = returns  # pyright: ignore[reportAttributeAccessIssue]
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and block:
                setattr(node, field, self._block(block))
        return node

    def _block(self, block: list[ast.stmt]) -> list[ast.stmt]:
        """Early ends of a block as if and else, and the other way round; branches swapped."""
        block = list(block)
        for i in range(len(block) - 1, -1, -1):
            node = block[i]
            if not isinstance(node, ast.If):
                continue
            ends = isinstance(node.body[-1], _ENDS)
            chain = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
            if ends and not node.orelse and i + 1 < len(block) and self._now():
                node.orelse, block = block[i + 1 :], block[: i + 1]
            elif ends and node.orelse and not chain and self._now():
                block = [*block[: i + 1], *node.orelse, *block[i + 1 :]]
                node.orelse = []
                continue
            if node.orelse and not chain and self._now():
                node.test, node.body, node.orelse = negated(node.test), node.orelse, node.body
            elif not node.orelse and len(node.body) == 1 and self._now():
                block[i] = _split(node)
        return block


def _returned(name: str) -> ast.stmt:
    return ast.Return(ast.Name(name, ast.Load()))


def _split(node: ast.If) -> ast.If:
    """`if a and b` as one if within another."""
    test = node.test
    if not isinstance(test, ast.BoolOp) or not isinstance(test.op, ast.And):
        return node
    last = test.values[1] if len(test.values) == 2 else ast.BoolOp(ast.And(), test.values[1:])
    return ast.If(test.values[0], [ast.If(last, node.body, [])], [])


def _reorder(tree: ast.AST, draw: random.Random, *, local: set[str]) -> None:
    """Change the places of neighbouring assignments that do not see each other."""
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            block = getattr(node, field, None)
            if not isinstance(block, list):
                continue
            for i in range(len(block) - 1):
                if _independent(block[i], block[i + 1], local) and draw.random() < _SHARE:
                    block[i], block[i + 1] = block[i + 1], block[i]


def _independent(one: ast.stmt, other: ast.stmt, local: set[str]) -> bool:
    """Whether two assignments to names give the same in either order: one of them, at least, reads
    nothing but constants and other local names, and so neither fails nor sees what a call does."""
    if not (isinstance(one, ast.Assign) and isinstance(other, ast.Assign)):
        return False
    targets = [*one.targets, *other.targets]
    if not all(isinstance(t, ast.Name) for t in targets):
        return False
    written = [{t.id for t in s.targets if isinstance(t, ast.Name)} for s in (one, other)]
    read = [{n.id for n in ast.walk(s.value) if isinstance(n, ast.Name)} for s in (one, other)]
    within = any(isinstance(n, ast.NamedExpr) for s in (one, other) for n in ast.walk(s))
    still = [_is_still(s.value, local) for s in (one, other)]
    apart = not written[0] & (written[1] | read[1]) and not written[1] & read[0]
    return apart and not within and any(still)


def _is_still(value: ast.expr, local: set[str]) -> bool:
    if isinstance(value, ast.Tuple | ast.List):
        return all(_is_still(v, local) for v in value.elts)
    if isinstance(value, ast.Dict):
        return not value.keys
    return isinstance(value, ast.Constant) or (isinstance(value, ast.Name) and value.id in local)
