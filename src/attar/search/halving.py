"""Successive halving: many candidates get a little, the best of them more (Jamieson and Talwalkar
2016, arXiv 1502.07943)."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from attar import artefacts
from attar.errors import DataError, require
from attar.foreign import read_json

C = TypeVar("C")


@dataclass(frozen=True)
class Rung(Generic[C]):
    """What the candidates of a round scored.

    Attributes:
        budget: of each of them.
        scored: candidates and scores, best first; of equal ones the earlier given.
    """

    budget: float
    scored: tuple[tuple[C, float], ...]


def successive_halving(
    candidates: Sequence[C],
    score: Callable[[C, float], float],
    *,
    rungs: Sequence[float],
    keep: float = 0.5,
    key: Callable[[C], str] = str,
    state: Path | None = None,
) -> list[Rung[C]]:
    """Score all candidates at the first rung, and at each further one those that were best.

    Args:
        candidates: at least one.
        score: of a candidate for a budget, such as its accuracy after so many epochs; the higher,
            the better.
        rungs: budgets, rising.
        keep: share of the candidates that goes on, rounded up.
        key: names a candidate in `state`; different ones differently.
        state: JSON file of the scores that are known, from which a run that was killed goes on;
            None: it starts over.

    Returns:
        The rungs; the best candidate is the first of the last one.

    Raises:
        ConfigError: no candidate, rungs that do not rise, or a share out of range.
        DataError: a score is not a number, or the state is damaged.
    """
    require(len(candidates) > 0, "candidates", len(candidates), "at least one")
    rising = list(rungs) == sorted(set(rungs)) and len(rungs) > 0 and rungs[0] > 0
    require(rising, "rungs", list(rungs), "budgets above zero, each larger than the one before")
    require(0 < keep < 1, "keep", keep, "between 0 and 1")
    known = _Known(state)
    left, done = list(candidates), list[Rung[C]]()
    for budget in rungs:
        scores = [known.or_else(f"{key(c)} {budget:.12g}", partial(score, c, budget)) for c in left]
        order = sorted(range(len(left)), key=lambda i: -scores[i])
        done.append(Rung(budget, tuple((left[i], scores[i]) for i in order)))
        left = [left[i] for i in sorted(order[: math.ceil(keep * len(left))])]
    return done


class _Known:
    """Scores that are known, in a file as they come."""

    def __init__(self, file: Path | None) -> None:
        self._file, self._scores = file, dict[str, Any]()
        if file is not None and file.exists():
            self._scores = read_json(file, "the scores so far")
            if not isinstance(self._scores, dict):
                raise DataError(f"the scores so far in {file} are damaged; delete it to start over")

    def or_else(self, name: str, score: Callable[[], float]) -> float:
        """The score of this name; computed where it is not known."""
        if name not in self._scores:
            found = float(score())
            if not math.isfinite(found):
                raise DataError(f"the score of {name} must be a finite number; found {found}")
            self._scores[name] = found
            if self._file is not None:
                artefacts.write_text(self._file, json.dumps(self._scores))
        return float(self._scores[name])
