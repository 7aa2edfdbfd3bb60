"""Learning curves: what a model scores over what its labels cost, and how sure that is.

A score is uncertain for two reasons. Another test set would give another number: the test interval,
from multinomial weights of the test sentences. And other sentences of the same kind, annotated,
would give another model: the training interval, from models refitted to resamples of the annotated
sentences. For an arm whose sentences a model chose, the second is conditional on that choice. Both
are reported, and the root of the sum of their squares.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.methods.active_segmentation.intervals import (
    Interval,
    f1_resampled,
    half_width,
    intervals,
    t_width,
)
from attar.methods.active_segmentation.points import AXES, Costs, Point


@dataclass(frozen=True)
class Difference(Interval):
    """The mean distance between two curves over the costs that both reach."""

    axis: str
    start: float
    end: float


def difference(
    ours: Sequence[Point],
    other: Sequence[Point],
    *,
    axis: str = "characters",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """How much higher one curve lies than another at equal cost, on average: the difference of the
    areas below them over the range that both cover, divided by its width.

    Both intervals are of the difference itself: every resample weighs the same test sentences for
    all points, by whole documents where these are known, and the k-th refits of all points share
    the k-th resample.

    Args:
        ours: points of one arm and one epoch, two at least.
        other: of another arm in the same epoch.
        axis: of the costs.
        level: of confidence.
        resamples: of the test sentences.
        seed: of these.

    Raises:
        DataError: the points are of several epochs, or the curves have no costs in common.
    """
    if len({point.epoch for point in (*ours, *other)}) != 1:
        raise DataError(
            "expected curves of one epoch, found points of several (or none); scores of different "
            "guidelines or test sets cannot be compared: recompute both arms in the new epoch"
        )
    first, second = _by_cost(ours, axis), _by_cost(other, axis)
    start = max(first[0].costs.on(axis), second[0].costs.on(axis))
    end = min(first[-1].costs.on(axis), second[-1].costs.on(axis))
    if not start < end:
        raise DataError(
            f"the curves have no {axis} in common: one covers {first[0].costs.on(axis):.0f} to "
            f"{first[-1].costs.on(axis):.0f}, the other {second[0].costs.on(axis):.0f} to "
            f"{second[-1].costs.on(axis):.0f}; annotate more for the smaller arm"
        )

    def gap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        upper = mean_height(a, costs=_costs(first, axis), start=start, end=end)
        return upper - mean_height(b, costs=_costs(second, axis), start=start, end=end)

    value = gap(_scores(first)[:, None], _scores(second)[:, None])[0]
    draws = f1_resampled([*first, *second], resamples=resamples, seed=seed)
    test = max(half_width(gap(d[: len(first)], d[len(first) :]), level) for d in draws)
    count = min(len(point.refits) for point in (*first, *second))
    training = None
    if count > 1:
        refits = [np.array([point.refits[:count] for point in line]) for line in (first, second)]
        training = t_width(gap(*refits), level)
    return Difference(float(value), test, training, axis, start, end)


def mean_height(
    scores: NDArray[np.float64], *, costs: NDArray[np.float64], start: float, end: float
) -> NDArray[np.float64]:
    """The area below a curve of straight lines between two costs, divided by their distance.

    Args:
        scores: (P, R), R curves over the same costs.
        costs: (P,), rising.
        start: from this cost, at least the first.
        end: to this one, at most the last.

    Returns:
        (R,).
    """
    inner = costs[(costs > start) & (costs < end)]
    at = np.concatenate([[start], inner, [end]])
    right = np.clip(np.searchsorted(costs, at, side="left"), 1, len(costs) - 1)
    left = right - 1
    share = ((at - costs[left]) / (costs[right] - costs[left]))[:, None]
    heights = scores[left] * (1 - share) + scores[right] * share
    widths = np.diff(at)[:, None]
    return ((heights[1:] + heights[:-1]) / 2 * widths).sum(0) / (end - start)


def cost_to_reach(
    points: Sequence[Point], value: float, *, axis: str = "characters"
) -> float | None:
    """What it costs to reach a word F1: on straight lines between the points of the closest curve
    that never falls (isotonic regression), so that one lucky point does not count as reached.

    Returns:
        The cost of the first point if that is as good already; None if it is never reached.
    """
    from scipy.optimize import isotonic_regression

    line = _by_cost(points, axis)
    costs, heights = _costs(line, axis), isotonic_regression(_scores(line)).x
    if heights[-1] < value:
        return None
    if heights[0] >= value:
        return float(costs[0])
    place = int(np.argmax(heights >= value))
    low, high = heights[place - 1], heights[place]
    share = (value - low) / (high - low)
    return float(costs[place - 1] + share * (costs[place] - costs[place - 1]))


def saving(
    ours: Sequence[Point], other: Sequence[Point], *, axis: str = "characters"
) -> float | None:
    """How many times the cost of ours the other arm needs for our last score; None where it does
    not get there, or where it starts there.
    """
    best = _by_cost(ours, axis)[-1]
    reached = min(best.word_f1, float(max(_scores(other))))
    mine = cost_to_reach(ours, reached, axis=axis)
    theirs = cost_to_reach(other, reached, axis=axis)
    first = _by_cost(other, axis)[0]
    if not mine or theirs is None or theirs <= first.costs.on(axis):
        return None
    return theirs / mine


def rows(points: Sequence[Point], *, level: float = 0.95, seed: int = 0) -> list[dict[str, Any]]:
    """The points as flat rows for a table or a file, with their intervals where they have counts.

    `points_of` makes points of them again, without the counts.
    """
    found: list[dict[str, Any]] = []
    bands: list[Interval | None] = [None] * len(points)
    for epoch in {point.epoch for point in points}:
        where = [i for i, p in enumerate(points) if p.epoch == epoch and p.counts is not None]
        for i, band in zip(
            where, intervals([points[i] for i in where], level=level, seed=seed), strict=True
        ):
            bands[i] = band
    for point, band in zip(points, bands, strict=True):
        row = {"arm": point.arm, "epoch": point.epoch, "batch": point.batch}
        row |= asdict(point.costs) | dict(point.scores)
        if band is not None:
            row |= {
                "low": band.low,
                "high": band.high,
                "test_half_width": band.test,
                "training_half_width": band.training,
            }
        found.append(row)
    return found


def points_of(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The points that `rows` wrote, as far as costs and scores go."""
    apart = {"arm", "epoch", "batch", "low", "high", "test_half_width", "training_half_width"}
    found = []
    for row in rows:
        costs = {name: float(row.get(name) or 0) for name in AXES}
        scores = {k: float(v) for k, v in row.items() if k not in apart and k not in AXES}
        found.append(
            Point(
                arm=str(row["arm"]),
                epoch=int(row["epoch"]),
                batch=int(row["batch"]),
                costs=Costs(**costs),
                scores=scores,
            )
        )
    return found


def _by_cost(points: Sequence[Point], axis: str) -> list[Point]:
    line = sorted(points, key=lambda point: (point.costs.on(axis), point.batch))
    distinct = [a for a, b in pairwise(line) if a.costs.on(axis) < b.costs.on(axis)]
    line = [*distinct, *line[-1:]]  # of several models for the same cost, the last
    if len(line) < 2:
        raise DataError(
            f"a curve needs two points of different {axis}, found {len(line)}; annotate and train "
            "once more"
        )
    return line


def _costs(line: Sequence[Point], axis: str) -> NDArray[np.float64]:
    return np.array([point.costs.on(axis) for point in line])


def _scores(line: Sequence[Point]) -> NDArray[np.float64]:
    return np.array([point.word_f1 for point in line])
