"""What is typed or stands in a recipe, in the type of its option: one reading for both."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import cyclopts

from attar.errors import ConfigError, described


def as_type(hint: Any, words: Sequence[Any]) -> Any:
    """Words, as texts or tokens of the command line, in the type of their option.

    cyclopts alone would round 1.5 to a whole number, refuse 2e3 for one, and take the commas of
    `0,1` for a part of a value.

    Raises:
        ValueError: a word does not fit; cyclopts' own error is another.
    """
    tokens = [cyclopts.Token(value=word) if isinstance(word, str) else word for word in words]
    kinds = {*_kinds(hint)}
    if tuple in kinds and kinds & {int, float, Literal}:  # in no value of which there is a comma
        tokens = [
            token.evolve(value=part.strip())
            for token in tokens
            for part in token.value.split(",")
            if part.strip()
        ]
    if int in kinds and float not in kinds:
        tokens = [token.evolve(value=_whole(token.value)) for token in tokens]
    return cyclopts.convert(hint, tokens)


def _kinds(hint: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    yield get_origin(hint) or hint
    if get_origin(hint) is not Literal:
        for inner in get_args(hint):
            yield from _kinds(inner)


def _whole(text: str) -> str:
    try:
        number = float(text)
    except ValueError:  # not a number at all, which cyclopts reports
        return text
    if not number.is_integer():
        raise ValueError(f"expected a whole number, found {text}")
    return text if text.lstrip("+-").isdigit() else str(int(number))


def from_recipe(value: Any, hint: Any, *, name: str) -> Any:
    """A recipe's value as the command line would read it.

    Raises:
        ConfigError: it does not fit; `name` says where it stands.
    """
    if isinstance(value, Mapping) or value == []:
        return value or ()
    words = [str(word) for word in (value if isinstance(value, list) else [value])]
    try:
        return as_type(hint, words)
    except (ValueError, cyclopts.CycloptsError):
        raise ConfigError(f"{name} must be {described(hint)}; found {value!r}") from None
