"""The exceptions that Attar raises for mistakes that a user can correct.

Every message is one sentence or two that say what was expected, what was found, where it came from
and what to do. The command line prints the message without a traceback and leaves with the class's
`exit_code`.
"""

import math


class AttarError(Exception):
    """Base of all errors that Attar raises on purpose: the run failed."""

    exit_code = 1


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


def require(fine: bool, name: str, value: object, expected: str) -> None:
    """Refuse a value.

    Raises:
        ConfigError: it is not `fine`; says what was expected.
    """
    if not fine:
        raise ConfigError(f"{name} must be {expected}; found {value!r}")


def finite(value: object) -> bool:
    """Whether this is a number, and neither infinite nor NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def expect(fine: bool, name: str, found: object, expected: str) -> None:
    """Refuse a stored value that is not as it should be.

    Raises:
        DataError: not `fine`.
    """
    if not fine:
        raise DataError(f"{name} must be {expected}; found {found!r}")
