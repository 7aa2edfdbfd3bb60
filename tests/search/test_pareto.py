"""The front of named objectives is that of brute force, and the one that charts draw."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError, DataError
from attar.report import charts
from attar.search.pareto import Direction, pareto_front

GRID = st.integers(0, 4)
ROWS = st.lists(st.fixed_dictionaries({"loss": GRID, "ms": GRID, "bleu": GRID}), max_size=15)
THREE: dict[str, Direction] = {"loss": "minimise", "ms": "minimise", "bleu": "maximise"}


def beats(p: dict[str, int], q: dict[str, int]) -> bool:
    no_worse = p["loss"] <= q["loss"] and p["ms"] <= q["ms"] and p["bleu"] >= q["bleu"]
    return no_worse and p != q


def as_tuple(row: dict[str, int]) -> tuple[int, ...]:
    return tuple(row[name] for name in THREE)


@given(ROWS)
def test_the_front_is_that_of_brute_force(rows: list[dict[str, int]]) -> None:
    front = pareto_front(rows, THREE)
    best = [row for row in rows if not any(beats(other, row) for other in rows)]
    assert {as_tuple(row) for row in front} == {as_tuple(row) for row in best}
    assert len({as_tuple(row) for row in front}) == len(front)
    assert [row["loss"] for row in front] == sorted(row["loss"] for row in front)
    assert pareto_front(front, THREE) == front


@given(ROWS)
def test_a_maximum_is_the_minimum_of_the_negative(rows: list[dict[str, int]]) -> None:
    front = pareto_front(rows, {"loss": "minimise", "bleu": "maximise"})
    turned = [{**row, "bleu": -row["bleu"]} for row in rows]
    lowest = pareto_front(turned, {"loss": "minimise", "bleu": "minimise"})
    assert [{**row, "bleu": -row["bleu"]} for row in lowest] == front


@given(ROWS)
def test_it_is_the_front_that_charts_draw(rows: list[dict[str, int]]) -> None:
    drawn = charts.pareto_front([charts.Point("", row["ms"], row["loss"]) for row in rows])
    front = pareto_front(rows, {"ms": "minimise", "loss": "minimise"})
    assert [(p.x, p.y) for p in drawn] == [(row["ms"], row["loss"]) for row in front]


def test_of_equal_rows_the_first_is_taken() -> None:
    rows = [{"name": name, "ms": 1.0} for name in "abc"] + [{"name": "d", "ms": 2.0}]
    assert [row["name"] for row in pareto_front(rows, {"ms": "minimise"})] == ["a"]
    assert [row["name"] for row in pareto_front(rows, {"ms": "maximise"})] == ["d"]


def test_infinite_is_the_worst_and_nan_is_refused() -> None:
    rows = [{"score": -math.inf, "ms": 1.0}, {"score": 2.0, "ms": 1.0}]
    both: dict[str, Direction] = {"score": "maximise", "ms": "minimise"}
    assert pareto_front(rows, both) == rows[1:]
    for value in (math.nan, None, "fast"):
        with pytest.raises(DataError, match=f"a number for ms; found {value}"):
            pareto_front([*rows, {"score": 1.0, "ms": value}], both)
    wrong: Any = {"ms": "max"}
    with pytest.raises(ConfigError, match="ms can be minimised or maximised; found 'max'"):
        pareto_front(rows, wrong)
    with pytest.raises(ConfigError, match="at least one"):
        pareto_front(rows, {})
