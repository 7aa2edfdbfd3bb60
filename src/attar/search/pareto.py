"""Which of many rows no other row beats, given what is to be small and what large."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from attar.errors import ConfigError, DataError, require

Direction = Literal["minimise", "maximise"]
Row = TypeVar("Row", bound=Mapping[str, Any])


def pareto_front(rows: Sequence[Row], objectives: Mapping[str, Direction]) -> list[Row]:
    """The rows that no other beats: none is as good in every objective and better in one.

    Of rows that are equal in every objective the first is taken.

    Args:
        rows: each a figure for every objective; an infinite one is the worst or the best there is.
        objectives: by the names of the figures.

    Returns:
        Those of the rows, from the best to the worst in the first objective.

    Raises:
        ConfigError: there is no objective, or a direction is unknown.
        DataError: a row lacks a figure, or has NaN, which is neither better nor worse.
    """
    require(bool(objectives), "objectives", dict(objectives), "at least one name")
    for name, direction in objectives.items():
        if direction not in ("minimise", "maximise"):
            raise ConfigError(f"{name} can be minimised or maximised; found {direction!r}")
    losses = [_losses(row, objectives) for row in rows]
    front: list[int] = []
    # In this order nobody is beaten by who comes later, and of equal rows the first comes first.
    for i in sorted(range(len(rows)), key=losses.__getitem__):
        if not any(_no_worse(losses[better], losses[i]) for better in front):
            front.append(i)
    return [rows[i] for i in front]


def _losses(row: Mapping[str, Any], objectives: Mapping[str, Direction]) -> tuple[float, ...]:
    """The figures, such that less is better."""
    signs = {"minimise": 1.0, "maximise": -1.0}
    for name in objectives:
        value = row.get(name)
        if not isinstance(value, int | float) or math.isnan(value):
            raise DataError(f"every row of a Pareto front needs a number for {name}; found {value}")
    return tuple(signs[direction] * row[name] for name, direction in objectives.items())


def _no_worse(left: tuple[float, ...], right: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True))
