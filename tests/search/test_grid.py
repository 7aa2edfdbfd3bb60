"""Exact search of a grid is brute force, whatever the size of its blocks."""

import itertools
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError
from attar.search.grid import Mesh, best_points, front_points, non_dominated
from attar.search.pareto import Direction, pareto_front

AXES = st.lists(
    st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), min_size=1, max_size=4
)
#: a few values only, so that there are many draws
TABLE = st.lists(st.integers(0, 6), min_size=10, max_size=10)
CHUNKS = st.integers(1, 300)


def figure(mesh: Mesh, table: list[int]) -> np.ndarray:
    """Any figure of a point: a sum over its axes, each looked up in a table."""
    return np.asarray(sum(np.array(table)[(axis + 3 * at) % 10] for at, axis in enumerate(mesh)))


def one(point: tuple[int, ...], table: list[int]) -> int:
    return sum(table[(value + 3 * at) % 10] for at, value in enumerate(point))


@given(AXES, TABLE, TABLE, TABLE, CHUNKS, st.integers(1, 12))
def test_the_best_are_those_of_brute_force_whatever_the_chunk(
    axes: list[list[int]],
    score: list[int],
    then: list[int],
    limit: list[int],
    chunk: int,
    count: int,
) -> None:
    found = best_points(
        axes,
        lambda mesh: figure(mesh, score),
        excess=lambda mesh: figure(mesh, limit) - 9,
        then=lambda mesh: figure(mesh, then),
        count=count,
        chunk=chunk,
    )
    kept = [p for p in itertools.product(*axes) if one(p, limit) <= 9]
    ranked = sorted(kept, key=lambda p: (-one(p, score), -one(p, then)))  # stable: first is best
    assert [point.values for point in found] == ranked[:count]
    assert [point.figures for point in found] == [(one(p, score),) for p in ranked[:count]]


@given(AXES, st.lists(TABLE, min_size=1, max_size=4), TABLE, CHUNKS)
def test_the_front_is_that_of_rows_whatever_the_chunk(
    axes: list[list[int]], tables: list[list[int]], limit: list[int], chunk: int
) -> None:
    found = front_points(
        axes,
        lambda mesh: [figure(mesh, table) for table in tables],
        excess=lambda mesh: figure(mesh, limit) - 9,
        chunk=chunk,
    )
    rows: list[dict[str, Any]] = [
        {"point": p, **{str(at): one(p, table) for at, table in enumerate(tables)}}
        for p in itertools.product(*axes)
        if one(p, limit) <= 9
    ]
    objectives: dict[str, Direction] = {str(at): "minimise" for at in range(len(tables))}
    front = pareto_front(rows, objectives)
    assert [point.values for point in found] == [row["point"] for row in front]
    figures = [tuple(row[name] for name in objectives) for row in front]
    assert [point.figures for point in found] == figures


@given(st.lists(st.tuples(*[st.floats(-1e300, 1e300)] * 3), max_size=30))
def test_nobody_beats_who_stays_and_somebody_beats_who_does_not(
    rows: list[tuple[float, float, float]],
) -> None:
    losses = np.array(rows, dtype=np.float64).reshape(-1, 3)
    kept = set(non_dominated(losses).tolist())
    for at, row in enumerate(rows):
        beaten = any(
            all(a <= b for a, b in zip(other, row, strict=True)) and (other != row or i < at)
            for i, other in enumerate(rows)
            if i != at
        )
        assert (at in kept) != beaten


def test_infinite_scores_and_losses_leave_points_out() -> None:
    axes = [[0, 1, 2]]
    out = best_points(axes, lambda mesh: np.where(mesh[0] == 2, -np.inf, mesh[0]), count=9)
    assert [point.values for point in out] == [(1,), (0,)]
    assert best_points(axes, lambda mesh: np.full(3, -np.inf)) == []
    front = front_points(axes, lambda mesh: [np.where(mesh[0] == 0, np.inf, mesh[0])])
    assert [point.values for point in front] == [(1,)]
    assert front_points(axes, lambda mesh: [np.full(3, np.inf)] * 3) == []


def test_an_empty_axis_no_points_and_nan_are_refused() -> None:
    for axes, count, chunk in (([[1], []], 1, 8), ([], 1, 8), ([[1]], 0, 8), ([[1]], 1, 0)):
        with pytest.raises(ConfigError, match=r"axes|count|chunk"):
            best_points(axes, lambda mesh: mesh[0] * 1.0, count=count, chunk=chunk)
    with pytest.raises(ConfigError, match="NaN"):
        best_points([[1, 2]], lambda mesh: np.where(mesh[0] == 2, math.nan, 0.0))


def test_ten_million_points_take_the_memory_of_one_block() -> None:
    axes = [list(range(220))] * 3
    tracemalloc.start()
    try:
        found = best_points(axes, lambda mesh: -(mesh[0] + mesh[1] * 1.0 + mesh[2]), count=3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [point.values for point in found] == [(0, 0, 0), (0, 0, 1), (0, 1, 0)]
    assert peak < 30e6  # all points at once: 85 MB for each figure
