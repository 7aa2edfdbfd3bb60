"""Functions of the standard library as syntax trees, for tasks made of them, and their names."""

import ast
import symtable
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from attar.data.text import hash_of, stdlib_files

LINES = 4
"""Of the body of a function, at least, without its docstring."""
LONGEST_FUNCTION = 1_500
"""Characters of a function."""
_HELD_OUT = 0.1
"""Share of the files that validation and test have each."""
_REFLECTION = frozenset({"dir", "eval", "exec", "locals", "vars"})
"""Builtins that see the names of a function."""


@dataclass(frozen=True)
class Function:
    """A function or method without its docstring, as `ast.unparse` writes it."""

    file: str
    """Path of its file in the standard library."""
    split: str
    code: str
    method: bool
    names: tuple[str, ...]
    """Those that can be renamed: `own_names`."""

    @property
    def tree(self) -> ast.FunctionDef | ast.AsyncFunctionDef:
        """Parsed anew, so that it can be changed."""
        return parse_function(self.code)

    @property
    def seed(self) -> int:
        """Settles what is drawn for it, on every machine."""
        return hash_of(f"{self.file}\0{self.code}")


def parse_function(code: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The tree of a text with one function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's escapes
        node = ast.parse(code).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return node


def stdlib_functions() -> list[Function]:
    """Functions and methods of the standard library of `LINES` lines or more and at most
    `LONGEST_FUNCTION` characters, in the order of files and lines.

    The split depends on the path of the file alone. Of functions that differ in nothing but the
    names that they define only the first is kept, so that none of them is in two splits.
    """
    functions: list[Function] = []
    seen: set[str] = set()
    for file, _, text in stdlib_files():
        place = hash_of(f"functions\0{file}") / 2**64
        held_out = "validation" if place < 1 - _HELD_OUT else "test"
        split = "train" if place < 1 - 2 * _HELD_OUT else held_out
        for node, method in _nodes(text):
            code = ast.unparse(node)
            if code.count("\n") < LINES or len(code) > LONGEST_FUNCTION:
                continue
            names = own_names(node)
            rename(node, {name: f"_{i}" for i, name in enumerate(names)})
            node.name = "_"
            plain = ast.unparse(node)
            if plain not in seen:
                seen.add(plain)
                functions.append(Function(file, split, code, method, tuple(names)))
    return functions


def _nodes(text: str) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for top in tree.body:
        within = top.body if isinstance(top, ast.ClassDef) else ()
        for node in (top, *within):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for inner in ast.walk(node):
                    _drop_docstring(inner)
                node.decorator_list = []
                yield node, node is not top


def _drop_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        said = node.body[0]
        if (
            isinstance(said, ast.Expr)
            and isinstance(said.value, ast.Constant)
            and isinstance(said.value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]


# ------------------------------------------------------------------------------------------ names


def own_names(tree: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Parameters and local names of a function that can be renamed without changing what it does,
    in the order of their first use; `self` and `cls` are left to it.

    A name stays that is a global or builtin one in any scope of the function, that an import binds,
    that a class in the function has, or that a call in the function gives by keyword. None can be
    renamed in a function that looks at its names at run time.
    """
    order: dict[str, None] = {}
    fixed = {"self", "cls"}
    nodes = [*ast.walk(tree)]
    lambdas = any(isinstance(n, ast.Lambda) for n in nodes)
    defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in nodes:
        match node:
            case ast.Name(id=name):
                order[name] = None
                if name in _REFLECTION:
                    return []
            case ast.arg(arg=name):
                order[name] = None
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                fixed.update((n.asname or n.name).partition(".")[0] for n in names)
            case ast.Global(names=names):
                fixed.update(names)
            case ast.ClassDef(name=name):
                fixed.add(name)
                fixed.update(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            case ast.Call(func=called, keywords=keywords):
                name = getattr(called, "attr", getattr(called, "id", None))
                if lambdas or name is None or name in defined:  # perhaps a call of its own function
                    fixed.update(k.arg for k in keywords if k.arg)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                order[name] = None
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                order[name] = None
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if node is not tree:
                order[name] = None
    local, foreign = _resolved(ast.unparse(tree))
    return [
        name
        for name in order
        if name in local and name not in foreign and name not in fixed and name[:2] != "__"
    ]


def _resolved(code: str) -> tuple[set[str], set[str]]:
    """Names that are local to a scope of the code's function, and those global to one."""
    local: set[str] = set()
    foreign: set[str] = set()
    try:
        tables = symtable.symtable(code, "function", "exec").get_children()
    except (SyntaxError, ValueError):  # a nonlocal name of a function around it
        return local, foreign
    while tables:
        table = tables.pop()
        tables.extend(table.get_children())
        for symbol in table.get_symbols():
            if symbol.is_global():
                foreign.add(symbol.get_name())
            elif symbol.is_local():
                local.add(symbol.get_name())
    return local, foreign


def used_names(tree: ast.AST) -> set[str]:
    """All names in a tree, those of attributes and keywords too."""
    used: set[str] = set()
    for node in ast.walk(tree):
        for field in ("id", "arg", "name", "attr", "asname", "rest"):
            if isinstance(name := getattr(node, field, None), str):
                used.add(name)
    return used


def rename(tree: ast.FunctionDef | ast.AsyncFunctionDef, names: Mapping[str, str]) -> None:
    """Put new names for old ones in place; attributes, keywords and imports stay."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name):
                node.id = names.get(name, name)
            case ast.arg(arg=name):
                node.arg = names.get(name, name)
            case ast.Nonlocal(names=listed):
                node.names = [names.get(name, name) for name in listed]
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                node.name = names.get(name, name)
            case ast.MatchStar(name=str(name)):
                node.name = names.get(name, name)
            case ast.MatchMapping(rest=str(name)):
                node.rest = names.get(name, name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if node is not tree:
                node.name = names.get(name, name)


def common_names(functions: Iterable[Function], *, least: int = 5) -> list[str]:
    """Names that at least so many functions define, sorted."""
    counts = Counter(name for function in functions for name in function.names)
    return sorted(name for name, count in counts.items() if count >= least and len(name) > 1)
