"""What the curves of a project say in sentences."""

import numpy as np

from attar.annotate.figures import curves_of
from attar.methods.active_segmentation.points import Costs, Point
from attar.methods.active_segmentation.study import Study


def point(arm: str, cost: float, right: float, *, test: int) -> Point:
    """A model with so many of ten words right in each test sentence; 0 sentences: not counted."""
    counts = np.tile([right, 10.0, 10.0], (test, 1)) if test else None
    names = tuple(f"d{place // 5}" for place in range(test))
    score = {"word_f1": right / 10}
    return Point(arm, Costs(*[cost] * 6), score, counts=counts, documents=names)


def test_a_point_without_counts_hides_no_verdict() -> None:
    early = [point(arm, 50, 3, test=0) for arm in ("active", "random")]
    later = [
        point(arm, cost, right, test=40)
        for arm, right in (("active", 8), ("random", 7))
        for cost in (100, 200)
    ]
    found = curves_of([*early, *later], Study()).verdicts()
    assert found == curves_of(later, Study()).verdicts()
    assert [round(gap["value"], 6) for gap in found] == [0.1] * 4
    assert {gap["start"] for gap in found} == {100}
