"""The exceptions that Attar raises for mistakes that a user can correct.

Every message is one sentence or two that say what was expected, what was found, where it came from
and what to do. The command line prints the message without a traceback and leaves with the class's
`exit_code`.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

#: controls, marks of direction, ends of lines and paragraphs, and halves of surrogates
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

#: characters of a value that an error shows
_SHOWN = 300
#: of the largest whole number that is written out
_BITS = 1000


def printable(text: object) -> str:
    """A name of somebody else's as it can be shown: what would move the cursor, colour the
    terminal or turn the direction of writing becomes an escape, as in Python's `repr`.
    """
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], str(text))


class AttarError(Exception):
    """Base of all errors that Attar raises on purpose: the run failed."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(re.sub(r"\s*\n\s*", " ", super().__str__()))


class ConfigError(AttarError):
    """An option, a recipe or an output folder cannot be used as given."""

    exit_code = 2


class TrainingDivergedError(ConfigError):
    """The loss or a weight became infinite or NaN: going on would repeat it."""


class DataError(AttarError):
    """Text, tokens or a stored record cannot be read or does not fit."""

    exit_code = 2


class BudgetError(AttarError):
    """A budget is malformed or out of reach."""

    exit_code = 2


class CompatibilityError(AttarError):
    """A model, a tokenizer or a unit of a model is not one that Attar can treat."""

    exit_code = 2


class ResourceError(AttarError):
    """The machine ran out of disk or memory: the input is right, and what was finished stays."""


class MissingExtraError(AttarError):
    """An optional dependency is needed; the message names the extra that installs it."""

    exit_code = 2


def shown(value: object) -> str:
    """A value in a sentence: as in Python's `repr`, broken off where it is long."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _BITS:
        return f"a whole number of {value.bit_length()} bits"  # Python refuses to write it out
    try:
        text = repr(value)
    except ValueError:  # such a number, in a list
        text = f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def require(fine: bool, name: str, value: object, expected: str) -> None:
    """Refuse a value.

    Raises:
        ConfigError: it is not `fine`; says what was expected.
    """
    if not fine:
        raise ConfigError(f"{name} must be {expected}; found {shown(value)}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that names what is spelt most like a word; empty where nothing is."""
    near = get_close_matches(word.lower(), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def finite(value: object) -> bool:
    """Whether this is a number, and neither infinite nor NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def expect(fine: bool, name: str, found: object, expected: str) -> None:
    """Refuse a stored value that is not as it should be.

    Raises:
        DataError: not `fine`.
    """
    if not fine:
        raise DataError(f"{name} must be {expected}; found {shown(found)}")


def check_types(options: Any, *, inherited: bool = True) -> None:
    """Refuse a dataclass of options whose values are not of the types of their fields: the first
    line of its `__post_init__`, for who makes it in Python.

    Args:
        options: the dataclass.
        inherited: look at the fields of the classes above, too.

    Raises:
        ConfigError: one is not, or is a number that is infinite or NaN.
    """
    kind = type(options)
    for name, hint in _hints(kind) if inherited else kind.__annotations__.items():
        value = getattr(options, name)
        if not _test(hint)(value):
            require(False, name, value, described(hint))


@cache
def _hints(kind: type) -> tuple[tuple[str, Any], ...]:
    """The type of each field of a dataclass."""
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in fields(kind))


@cache
def _test(hint: Any) -> Callable[[Any], bool]:
    """What tells whether a value is of a type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        tests = [_test(one) for one in inner]
        return lambda value: any(test(value) for test in tests)
    if origin is Literal:
        return lambda value: isinstance(value, str) and value in inner
    if origin is tuple:
        of_each = _test(inner[0])
        return lambda value: isinstance(value, tuple | list) and all(map(of_each, value))
    if hint is float:
        return finite
    if hint is Path:
        return lambda value: isinstance(value, str | Path)
    if hint is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    kind = origin or hint
    return lambda value: hint is Any or isinstance(value, kind)


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Path: "a path",
    Mapping: "a mapping",
}


def described(hint: Any) -> str:
    """A type of an option for people."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(described(one) for one in inner if one is not type(None))
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is tuple:
        return f"a list, each {described(inner[0])}"
    return _KINDS.get(origin or hint, f"a {getattr(hint, '__name__', hint)}")
