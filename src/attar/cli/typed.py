"""What is typed, checked by the signature of its command before the command is imported.

Importing a command imports torch, which takes seconds; a mistyped option or value is told at once.
The signature is made from the source of the command and of the dataclasses of its options.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, wraps
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from cyclopts import App, MissingArgumentError, ValidationError

_SOURCES = Path(__file__).parents[2]


def check(app: App, command: Sequence[str], tokens: Sequence[str]) -> None:
    """Parse what is typed, and do nothing with it.

    Args:
        app: an empty one, which reads values as the real one does.
        command: its words, such as `draft`, `train`.
        tokens: all that is typed, the words first.

    Raises:
        AttarError, CycloptsError: what the command itself would raise for an option.
    """
    function = _Signatures().of(command)
    if function is None:
        return
    noun = app
    for word in command[:-1]:
        noun.command(noun := App(name=word))
    noun.command(function, name=command[-1])
    try:
        app.parse_args(list(tokens), exit_on_error=False, print_error=False)
    except MissingArgumentError:  # which may be there, under a name that is mistyped
        options = signature(function).parameters
        function.__kwdefaults__ = dict.fromkeys(options)
        function.__defaults__ = (None,) * len(options)
        with suppress(ValidationError):  # of these: where pydantic is loaded, it checks them
            app.parse_args(list(tokens), exit_on_error=False, print_error=False)
        raise


class _Signatures:
    """Signatures of commands, and what their annotations and defaults are made of."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Any] = {}

    def of(self, command: Sequence[str]) -> Callable[..., None] | None:
        """A function with the parameters of a command that does nothing; None where there is no
        such command, which is told later."""
        module = f"attar.cli.{command[0]}"
        word = "_".join(command[1:] or command)
        for name in (word, f"{word}_file", f"{word}_"):
            node = _definitions(module).get(name)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("attar.cli."):
                module = str(node.module)
                node = _definitions(module).get(name)
            if isinstance(node, ast.FunctionDef):
                node.body, node.decorator_list = node.body[:1], []  # its docstring
                with suppress(NameError):
                    return self._run(node, module, name)
        return None

    def _value(self, module: str, name: str) -> Any:
        """What a module calls so: its own where it is imported, else made from its source.

        Raises:
            NameError: it is a function, or comes from a library.
        """
        if module in sys.modules and name in vars(sys.modules[module]):
            return getattr(sys.modules[module], name)
        if (module, name) not in self._made:
            self._made[module, name] = NameError  # while it is being made, and where it cannot be
            self._made[module, name] = self._make(module, name)
        if self._made[module, name] is NameError:
            raise NameError(name)
        return self._made[module, name]

    def _make(self, module: str, name: str) -> Any:
        node = _definitions(module).get(name)
        match node:
            case ast.ImportFrom(module=str(origin)):
                first = next(a.name for a in node.names if name == (a.asname or a.name))
                if origin.startswith("attar."):
                    return self._value(origin, first)
                if _is_light(origin):
                    return getattr(import_module(origin), first)
            case ast.Import() if _is_light(name):
                return import_module(name)
            case ast.ClassDef(body=body):
                for method in body:
                    if isinstance(method, ast.FunctionDef):
                        _forget_types(method)
                return self._run(node, module, name)
            case ast.Assign() | ast.AnnAssign():
                return self._run(node, module, name)
        raise NameError(name)

    def _run(self, node: ast.stmt, module: str, name: str) -> Any:
        """Run one definition of a module, given what it names, as far as that can be made."""
        given: dict[str, Any] = {"__name__": module}
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id != name:
                with suppress(NameError):
                    given[part.id] = self._value(module, part.id)
        exec(compile(ast.Module([node], []), module, "exec"), given)
        made = given[name]
        if isinstance(made, type) and "__post_init__" in vars(made):
            made.__post_init__ = _as_far_as_known(made.__post_init__)  # pyright: ignore[reportAttributeAccessIssue]
        return made


def _forget_types(method: ast.FunctionDef) -> None:
    """What a method takes and gives may come from a library."""
    method.returns = None
    for part in ast.walk(method.args):
        if isinstance(part, ast.arg):
            part.annotation = None


def _as_far_as_known(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """A check of options that ends at what only the imported command knows."""

    @wraps(check)
    def checked(options: Any) -> None:
        with suppress(NameError):
            check(options)

    return checked


def _is_light(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names | {"cyclopts"}


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """The statements of a module's source that give its names their values."""
    path = _SOURCES.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {name: node for node in tree.body for name in _names(node)}


def _names(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names)
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            yield name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=[ast.Tuple(elts=parts)]):
            yield from (part.id for part in parts if isinstance(part, ast.Name))
