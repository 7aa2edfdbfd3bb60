"""The options that a command takes, read from its source.

Importing a command imports torch, which takes seconds; a mistyped option is told at once.
"""

import ast
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

_SOURCES = Path(__file__).parents[2]
#: names that differ from those of their parameters, and those of every command
_RENAMED = {"json_to": "json"}
_ALWAYS = {"help", "version", "config"}
#: what follows these may begin with a hyphen
_TAKES_HYPHENS = ("--json", "--prompts")


def unknown_option(command: Sequence[str], tokens: Sequence[str]) -> str | None:
    """What is wrong with the first option that a command does not have; None where it has all.

    Args:
        command: its words, such as `draft`, `train`.
        tokens: all that is typed.
    """
    if (own := _options(command)) is None:
        return None
    known = _ALWAYS | own
    for before, token in zip(["", *tokens], tokens, strict=False):
        if token == "--":
            break
        typed = token.partition("=")[0].lower().replace("_", "-")
        name = typed.removeprefix("--")
        bare = name.removeprefix("no-").removeprefix("empty-").partition(".")[0]
        if not typed.startswith("--") or before in _TAKES_HYPHENS or {name, bare} & known:
            continue
        near = get_close_matches(name, sorted(known), n=1)
        return f"Unknown option: {token.partition('=')[0]}." + "".join(
            f" Did you mean --{one}?" for one in near
        )
    return None


def _options(command: Sequence[str]) -> set[str] | None:
    """The names of a command's options, without hyphens before them; None where there is no such
    command, which is told later."""
    tree = _source(f"attar.cli.{command[0]}")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    function = functions.get(command[-1]) or functions.get(f"{command[-1]}_file")
    if function is None:
        return None
    arguments, names = function.args, set[str]()
    for argument in arguments.args + arguments.kwonlyargs:
        names.add(_RENAMED.get(argument.arg, argument.arg))
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if isinstance(default, ast.Call) and isinstance(default.func, ast.Name):
            names |= set(_fields(tree, default.func.id))
    return {name.replace("_", "-") for name in names}


def _fields(tree: ast.Module, name: str) -> Iterator[str]:
    """The fields of a dataclass that a module defines or imports."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for base in node.bases:
                yield from _fields(tree, base.id if isinstance(base, ast.Name) else "")
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    yield from _fields(_source(node.module), alias.name)


def _source(module: str) -> ast.Module:
    path = _SOURCES.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))
