"""Successive halving: who goes on, and that a killed run goes on where it was."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError, DataError
from attar.search.halving import successive_halving


@given(
    scores=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    keep=st.sampled_from([0.25, 0.5, 0.7]),
)
def test_the_best_of_each_rung_go_on(scores: list[int], keep: float) -> None:
    asked: list[tuple[int, float]] = []

    def score(one: int, budget: float) -> float:
        asked.append((one, budget))
        return scores[one] * budget

    rungs = successive_halving(range(len(scores)), score, rungs=(1, 2, 4), keep=keep)
    assert len(asked) == len(set(asked)) == sum(len(rung.scored) for rung in rungs)
    left = set(range(len(scores)))
    for rung in rungs:
        assert {one for one, _ in rung.scored} == left
        values = [value for _, value in rung.scored]
        assert values == sorted(values, reverse=True)
        assert all(value == scores[one] * rung.budget for one, value in rung.scored)
        count = -int(-keep * len(left) // 1)
        left = {one for one, _ in rung.scored[:count]}
    assert scores[rungs[-1].scored[0][0]] == max(scores)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    asked: list[tuple[str, float]] = []

    def score(one: str, budget: float) -> float:
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.append((one, budget))
        return len(one) + budget

    names, state = ["a", "bbb", "cc"], tmp_path / "scores.json"
    with pytest.raises(KeyboardInterrupt):
        successive_halving(names, score, rungs=(1, 2), state=state)
    known = len(asked)
    asked.clear()
    rungs = successive_halving(names, score, rungs=(1, 2), state=state)
    assert known + len(asked) == 5
    assert rungs[-1].scored[0] == ("bbb", 5)
    asked.clear()
    assert successive_halving(names, score, rungs=(1, 2), state=state) == rungs
    assert asked == []


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    def score(one: str, budget: float) -> float:
        return float("nan")

    for rungs in ((), (2, 1), (0, 1), (1, 1)):
        with pytest.raises(ConfigError, match="rungs must be budgets above zero"):
            successive_halving(["a"], score, rungs=rungs)
    with pytest.raises(ConfigError, match="candidates must be at least one"):
        successive_halving([], score, rungs=(1,))
    with pytest.raises(ConfigError, match="keep must be between 0 and 1"):
        successive_halving(["a"], score, rungs=(1,), keep=1.0)
    with pytest.raises(DataError, match="the score of a 1 must be a finite number"):
        successive_halving(["a"], score, rungs=(1,))
    state = tmp_path / "scores.json"
    state.write_text(json.dumps([1]))
    with pytest.raises(DataError, match="are damaged"):
        successive_halving(["a"], score, rungs=(1,), state=state)


def test_budgets_that_hardly_differ_are_told_apart() -> None:
    rungs = successive_halving("ab", lambda name, budget: budget, rungs=[1_000_000, 1_000_001])
    assert [rung.scored[0][1] for rung in rungs] == [1_000_000, 1_000_001]
