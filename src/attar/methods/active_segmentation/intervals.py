"""How sure a score is: intervals from other test sentences, and from other annotated ones.

Sentences of one document are alike, so the test interval draws whole documents. Where fewer than
`FEW_DOCUMENTS` are known, their draws vary too little, or not at all; the wider of the intervals by
documents and by sentences counts then (Cameron, Gelbach & Miller 2008 on few clusters).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.evaluation.resampling import f1_of, interval, multinomial_weights, resampled
from attar.methods.active_segmentation.points import Point

Floats = NDArray[np.float64]
FEW_DOCUMENTS = 20


@dataclass(frozen=True)
class Interval:
    """A number and how far the truth may lie from it, at a level of confidence."""

    value: float
    test: float
    """Half of the width that the choice of test sentences gives."""
    training: float | None
    """Half of the width that the choice of annotated sentences gives; None: not measured."""

    @property
    def both(self) -> float:
        """The root of the sum of their squares."""
        return math.hypot(self.test, self.training or 0.0)

    @property
    def low(self) -> float:
        """Its lower end."""
        return self.value - self.both

    @property
    def high(self) -> float:
        """Its upper end."""
        return self.value + self.both

    @property
    def covers_zero(self) -> bool:
        """Whether it says nothing about the sign."""
        return self.low <= 0 <= self.high

    def to_dict(self) -> dict[str, float | None]:
        """Plain JSON."""
        return asdict(self) | {"both": self.both, "low": self.low, "high": self.high}


def intervals(
    points: Sequence[Point],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Interval]:
    """The interval of each point's word F1. All points must be scored on the same sentences, which
    are drawn by whole documents where these are known.

    Args:
        points: of one epoch.
        level: of confidence.
        resamples: of the test sentences.
        seed: of these.

    Raises:
        DataError: a point has no counts, or they are of other sentences.
    """
    if not points:
        return []
    draws = f1_resampled(points, resamples=resamples, seed=seed)
    return [
        Interval(
            point.word_f1,
            max(half_width(drawn[place], level) for drawn in draws),
            t_width(np.array(point.refits), level) if len(point.refits) > 1 else None,
        )
        for place, point in enumerate(points)
    ]


def f1_resampled(points: Sequence[Point], *, resamples: int, seed: int) -> list[Floats]:
    """Word F1 of each point under the same R weights of the test sentences: one `(P, R)`, drawn by
    documents, and where these are few another, drawn by sentences. The wider one counts.

    Raises:
        DataError: a point has no counts, or they are of other sentences.
    """
    tables = [point.counts for point in points if point.counts is not None]
    documents = {point.documents for point in points if point.documents}
    sizes = {len(table) for table in tables} | {len(names) for names in documents}
    if len(tables) < len(points) or len(sizes) != 1 or len(documents) > 1:
        raise DataError(
            "expected points with counts of the same test sentences; measure all of them on one "
            "test set"
        )
    groups = _groups(documents.pop() if documents else (), count=len(tables[0]))
    few = groups is not None and len({*groups}) < FEW_DOCUMENTS
    draws = []
    for drawn_by in (groups, None) if few else (groups,):
        weights = multinomial_weights(
            len(tables[0]), resamples=resamples, seed=seed, groups=drawn_by
        )
        draws.append(np.stack([resampled(table, f1_of, weights=weights) for table in tables]))
    return draws


def half_width(drawn: Floats, level: float) -> float:
    """Half of the distance between the percentiles of a bootstrap, `(R,)`."""
    low, high = interval(drawn, level=level)
    return (high - low) / 2


def t_width(values: Floats, level: float) -> float:
    """Half-width for a standard deviation that is known from few refits."""
    from scipy.stats import t

    spread = float(np.std(values, ddof=1))
    return float(t.ppf((1 + level) / 2, len(values) - 1)) * spread


def _groups(documents: Sequence[str], *, count: int) -> list[str | int] | None:
    """What is drawn together; a sentence whose document is not known is drawn by itself. None: no
    two sentences are known to be of one document."""
    found = [name or place for place, name in enumerate(documents)]
    return found if len({*found}) < count and found else None
