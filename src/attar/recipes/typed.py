"""What is typed or stands in a recipe, in the type of its option: one reading for both."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import cyclopts

from attar.errors import ConfigError, described


def as_type(hint: Any, words: Sequence[Any]) -> Any:
    """Words, as texts or tokens of the command line, in the type of their option.

    cyclopts alone would round 1.5 to a whole number and refuse 2e3 for one.

    Raises:
        ValueError: a word does not fit; cyclopts' own error is another.
    """
    kinds = {hint, *get_args(hint)}
    if int in kinds and float not in kinds:
        words = [_whole(word) for word in words]
    return cyclopts.convert(hint, words)


def _whole(word: Any) -> Any:
    text = word if isinstance(word, str) else word.value
    try:
        number = float(text)
    except ValueError:  # not a number at all, which cyclopts reports
        return word
    if not number.is_integer():
        raise ValueError(f"expected a whole number, found {text}")
    return word if text.lstrip("+-").isdigit() else str(int(number))


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
