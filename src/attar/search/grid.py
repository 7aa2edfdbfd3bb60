"""Exact search of a grid: the best of all points, or those that no other point beats.

A grid is the product of its axes. It is looked at in blocks of an open mesh: one array for each
axis, and a score computes from them only what they share. Ten million points take a second or so,
and memory for one block. Results do not depend on how large the blocks are.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.errors import ConfigError, require
from attar.search.statistics import Array

Axes = Sequence[Sequence[int]]
Mesh = tuple[NDArray[np.int64], ...]
"""One array for each axis, with as many dimensions as there are axes: they broadcast to a block."""
Figure = Callable[[Mesh], Array]
"""A figure of every point of a mesh, in a shape that broadcasts to that of the mesh."""

#: points of a block: few enough for their figures to stay in the cache of a processor
CHUNK = 1 << 18


@dataclass(frozen=True)
class ScoredPoint:
    """A point of a grid.

    Attributes:
        values: one of each axis.
        figures: its score, or what it loses in each objective.
    """

    values: tuple[int, ...]
    figures: tuple[float, ...]


def best_points(
    axes: Axes,
    score: Figure,
    *,
    excess: Figure | None = None,
    then: Figure | None = None,
    count: int = 1,
    chunk: int = CHUNK,
) -> list[ScoredPoint]:
    """The points with the highest scores, best first. Of equal points that which comes first in
    the grid is better, where the last axis runs fastest.

    Args:
        axes: the values of every axis.
        score: of a point; minus infinity leaves it out.
        excess: by how much a point overruns its limits; above zero leaves it out.
        then: ranks points of the same score; the higher, the better.
        count: how many points; there are fewer where limits leave fewer.
        chunk: the most points of a block.

    Raises:
        ConfigError: an axis is empty, `count` or `chunk` is below 1, or a figure is NaN.
    """
    require(count >= 1, "count", count, "1 or more")
    lengths = _lengths(axes)
    # columns: score, rank among equals, place in the grid
    best = np.empty((0, 3))
    for start, mesh in _blocks(axes, chunk):
        shape = np.broadcast_shapes(*(axis.shape for axis in mesh))
        scores = _flat(score, mesh, shape=shape, excess=excess)
        floor = best[-1, 0] if len(best) == count else -np.inf
        top = scores.max()
        if top < floor or top == -np.inf:
            continue
        if scores.size > count:
            floor = max(floor, np.partition(scores, -count)[-count])
        places = np.flatnonzero((scores >= floor) & (scores > -np.inf))
        ranks = np.zeros(len(places))
        if then is not None:
            ranks = np.broadcast_to(_checked(then(mesh)), shape).reshape(-1)[places]
        rows = np.column_stack([scores[places], ranks, start + places])
        best = np.concatenate([best, rows])
        best = best[np.lexsort((best[:, 2], -best[:, 1], -best[:, 0]))][:count]
    return [ScoredPoint(_point(axes, int(row[2]), lengths), (float(row[0]),)) for row in best]


def front_points(
    axes: Axes,
    losses: Callable[[Mesh], Sequence[Array]],
    *,
    excess: Figure | None = None,
    chunk: int = CHUNK,
) -> list[ScoredPoint]:
    """The points that no other beats: none loses as little in every objective and less in one. Of
    points that are equal in all the first is taken.

    Args:
        axes: the values of every axis.
        losses: of a point, one for each objective; infinity in one leaves it out.
        excess: by how much a point overruns its limits; above zero leaves it out.
        chunk: the most points of a block.

    Returns:
        The front, from the least to the most of the first objective.

    Raises:
        ConfigError: an axis is empty, `chunk` is below 1, or a figure is NaN.
    """
    lengths = _lengths(axes)
    front: Array | None = None
    front_places = np.empty(0, dtype=np.int64)
    for start, mesh in _blocks(axes, chunk):
        shape = np.broadcast_shapes(*(axis.shape for axis in mesh))
        columns = [np.broadcast_to(_checked(each), shape).reshape(-1) for each in losses(mesh)]
        allowed = np.isfinite(np.add.reduce(columns))
        if excess is not None:
            allowed &= np.broadcast_to(_checked(excess(mesh)), shape).reshape(-1) <= 0
        places = np.flatnonzero(allowed)
        rows = np.stack([column[places] for column in columns], axis=1)
        places = places + start
        if front is not None:  # those that came before are first, and so they win draws
            rows = np.concatenate([front, rows])
            places = np.concatenate([front_places, places])
        kept = non_dominated(rows)
        front, front_places = rows[kept], places[kept]
    assert front is not None
    return [
        ScoredPoint(_point(axes, int(place), lengths), tuple(map(float, row)))
        for place, row in zip(front_places, front, strict=True)
    ]


def non_dominated(losses: Array) -> NDArray[np.int64]:
    """The rows of `(N, D)` that no other beats, sorted by their figures; of equal ones the first.

    Args:
        losses: the less, the better, in every column; finite.
    """
    # In this order nobody is beaten by who comes later, and of equal rows the first comes first.
    order = np.lexsort(losses.T[::-1])
    rows = losses[order]
    if losses.shape[1] == 2:  # then who loses less in the second column than all before stays
        least = np.minimum.accumulate(rows[:, 1])
        fresh = np.ones(len(rows), dtype=bool)
        fresh[1:] = rows[1:, 1] < least[:-1]
        return order[fresh]
    # Who has the least sum is beaten by nobody, and leaves only those that it does not beat.
    low, high = rows.min(axis=0, initial=np.inf), rows.max(axis=0, initial=-np.inf)
    sums = ((rows - low) / np.where(high > low, high - low, 1.0)).sum(axis=1)
    kept: list[int] = []
    left = np.arange(len(rows))
    while len(left):
        least = sums.argmin()
        kept.append(int(left[least]))
        stays = (rows < rows[least]).any(axis=1)
        left, rows, sums = left[stays], rows[stays], sums[stays]
    return order[np.sort(np.array(kept, dtype=np.int64))]


def _blocks(axes: Axes, chunk: int) -> Iterator[tuple[int, Mesh]]:
    """Blocks of the grid in its order, each with the place of its first point."""
    require(chunk >= 1, "chunk", chunk, "1 or more")
    columns = [np.asarray(axis, dtype=np.int64) for axis in axes]
    # The last axes stay whole as long as they fit; the one before them is cut into slices.
    split = len(columns) - 1
    whole = 1
    while split > 0 and whole * len(columns[split]) <= chunk:
        whole *= len(columns[split])
        split -= 1
    step = max(1, chunk // whole)
    leading = [len(column) for column in columns[:split]]
    for outer in range(math.prod(leading)):
        places = np.unravel_index(outer, leading) if leading else ()
        heads = [column[[at]] for column, at in zip(columns, places, strict=False)]
        for begin in range(0, len(columns[split]), step):
            parts = [*heads, columns[split][begin : begin + step], *columns[split + 1 :]]
            yield (outer * len(columns[split]) + begin) * whole, np.ix_(*parts)


def _lengths(axes: Axes) -> tuple[int, ...]:
    fine = bool(axes) and all(len(axis) for axis in axes)
    require(fine, "axes", [len(axis) for axis in axes], "at least one, each with a value")
    return tuple(len(axis) for axis in axes)


def _flat(score: Figure, mesh: Mesh, *, shape: tuple[int, ...], excess: Figure | None) -> Array:
    """Scores of a block in its order, minus infinity where a limit is overrun."""
    scores = _checked(score(mesh))
    if excess is not None:
        scores = np.where(_checked(excess(mesh)) > 0, -np.inf, scores)
    return np.broadcast_to(scores, shape).reshape(-1)


def _checked(figures: Array) -> Array:
    """Figures as they are.

    Raises:
        ConfigError: one is NaN.
    """
    figures = np.asarray(figures, dtype=np.float64)
    if np.isnan(figures).any():
        raise ConfigError("a figure of a point must be a number; found NaN: check what computes it")
    return figures


def _point(axes: Axes, place: int, lengths: tuple[int, ...]) -> tuple[int, ...]:
    at = np.unravel_index(place, lengths)
    return tuple(int(axis[int(i)]) for axis, i in zip(axes, at, strict=True))
