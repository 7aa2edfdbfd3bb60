"""Points of learning curves: what a model scores, and what the labels that it learned from cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from attar.errors import require
from attar.evaluation.resampling import f1_of

AXES = ("sentences", "characters", "decisions", "words", "corrections", "seconds")
Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """What the labels of an arm cost, on every axis."""

    sentences: float = 0
    characters: float = 0
    decisions: float = 0
    """Legal offsets that were judged."""
    words: float = 0
    corrections: float = 0
    """Offsets that the annotators changed in what they were shown."""
    seconds: float = 0

    def on(self, axis: str) -> float:
        """One of them.

        Raises:
            ConfigError: no such axis.
        """
        require(axis in AXES, "axis", axis, f"one of {', '.join(AXES)}")
        return float(getattr(self, axis))


@dataclass(frozen=True)
class Point:
    """One model of one arm."""

    arm: str
    costs: Costs
    scores: Mapping[str, float]
    """By metric, between 0 and 1; `word_f1` among them."""
    epoch: int = 0
    batch: int = 0
    counts: Counts | None = field(default=None, compare=False, repr=False)
    """(N, 3): right, predicted and gold words of each test sentence."""
    documents: tuple[str, ...] = field(default=(), repr=False)
    """That each test sentence is from; an empty name, or none at all, where that is not known."""
    test: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """The `uid` of each test sentence, to find those that several points have in common."""
    refits: tuple[float, ...] = ()
    """Word F1 of models that were fitted to resamples of the annotated sentences."""

    @property
    def word_f1(self) -> float:
        """The score that intervals are about."""
        return self.scores["word_f1"]


def comparable(points: Sequence[Point]) -> list[Point]:
    """The same points, counted within each epoch over the test sentences that they have in common.

    The test set grows while people label it, and with the corpus. A point that was scored on fewer
    than half of the sentences of the newest keeps its score, but has no counts.

    Args:
        points: oldest first; those without the `uid` of their test sentences stay as they are.
    """
    found = list(points)
    for epoch in {point.epoch for point in points}:
        where = [i for i, p in enumerate(points) if p.epoch == epoch and p.test]
        if len({points[i].test for i in where}) < 2:
            continue
        newest = points[where[-1]].test
        enough = [i for i in where if 2 * len(points[i].test) >= len(newest)]
        common = sorted(set(newest).intersection(*(points[i].test for i in enough)))
        for i in where:
            found[i] = _on(points[i], common if i in enough else [])
    return found


def _on(point: Point, test: Sequence[str]) -> Point:
    """A point as if only these of its test sentences had been there, in their order."""
    if point.counts is None or not test:
        return replace(point, counts=None, documents=(), test=())
    place = {uid: number for number, uid in enumerate(point.test)}
    order = [place[uid] for uid in test]
    counts = point.counts[order]
    return replace(
        point,
        counts=counts,
        scores={**point.scores, "word_f1": float(f1_of(counts.sum(axis=0)[None])[0])},
        documents=tuple(point.documents[number] for number in order) if point.documents else (),
        test=tuple(test),
    )
