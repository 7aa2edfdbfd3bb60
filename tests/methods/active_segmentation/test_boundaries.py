"""Queries of single positions: the most doubtful ones within the limits, by walking all of them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pools
from attar.data.segments.legal import legal
from attar.errors import ConfigError
from attar.methods.active_segmentation.arms import uid
from attar.methods.active_segmentation.boundaries import (
    Limits,
    Query,
    boundary_queries,
    random_queries,
)

READER = pools.Reader()


def plainly(texts, beliefs, budget, limits, asked) -> list[Query]:
    """The same without any short cut."""
    every = sorted(
        (abs(belief.cut_probabilities[offset - 1] - 0.5), number, offset)
        for number, belief in enumerate(beliefs)
        for offset in range(1, len(texts[number]))
    )
    taken: dict[int, list[int]] = {}
    first: dict[int, float] = {}
    windows: list[str] = []
    for doubt, number, offset in every:
        text = "\0\0" + texts[number] + "\0\0\0"
        places = legal(texts[number]).tolist()
        window = text[offset : offset + 5]
        own = taken.get(number, [])
        if (
            sum(map(len, taken.values())) < budget
            and offset in places
            and offset not in asked.get(uid(texts[number]), ())
            and windows.count(window) < limits.per_window
            and len(own) < limits.per_sentence
            and all(abs(places.index(a) - places.index(offset)) >= limits.apart for a in own)
        ):
            taken.setdefault(number, []).append(offset)
            first.setdefault(number, -2 * doubt)
            windows.append(window)
    return [Query(uid(texts[n]), tuple(sorted(taken[n])), first[n]) for n in taken]


@given(
    st.integers(0, 50),
    st.integers(1, 40),
    st.builds(Limits, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
)
def test_queries_are_those_of_the_definition(seed: int, budget: int, limits: Limits) -> None:
    texts = pools.texts(6, seed=seed, words=6)
    beliefs = READER.beliefs(texts)
    asked = {uid(texts[0]): legal(texts[0])[::2].tolist(), "other": [1]}
    found = boundary_queries(texts, beliefs, budget=budget, limits=limits, asked=asked)
    expected = plainly(texts, beliefs, budget, limits, asked)
    assert [(one.uid, one.positions) for one in found] == [
        (one.uid, one.positions) for one in expected
    ]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected])


@given(st.integers(0, 20), st.integers(1, 60))
def test_random_positions_keep_the_limits(seed: int, budget: int) -> None:
    texts = pools.texts(20, seed=seed)
    limits = Limits()
    found = random_queries(texts, budget=budget, generator=np.random.default_rng(seed))
    again = random_queries(texts, budget=budget, generator=np.random.default_rng(seed))
    assert found == again
    windows: Counter[str] = Counter()
    by_uid = {uid(text): text for text in texts}
    assert len({one.uid for one in found}) == len(found)
    for one in found:
        text = by_uid[one.uid]
        ranks = np.searchsorted(legal(text), one.positions)
        assert set(one.positions) <= set(legal(text).tolist())
        assert len(one.positions) <= limits.per_sentence
        assert (np.diff(ranks) >= limits.apart).all()
        windows.update(f"\0\0{text}\0\0\0"[at : at + 5] for at in one.positions)
    assert max(windows.values()) <= limits.per_window
    assert sum(len(one.positions) for one in found) <= budget


def test_a_pool_larger_than_a_sorted_part_is_walked_in_order() -> None:
    texts = pools.texts(300)
    beliefs = READER.beliefs(texts)
    few = boundary_queries(texts, beliefs, budget=5)
    many = boundary_queries(texts, beliefs, budget=400)
    assert [one.uid for one in few] == [one.uid for one in many[: len(few)]]
    scores = [one.score for one in many]
    assert scores == sorted(scores, reverse=True)


def test_equals_come_in_the_order_of_the_sentences() -> None:
    texts = ["กขคงจฉ", "ฌญฎฏฐฑ"]
    beliefs = [pools.belief([0.5] * 5)] * 2
    found = boundary_queries(texts, beliefs, budget=3)
    assert found == [Query(uid(texts[0]), (1, 4), 0.0), Query(uid(texts[1]), (1,), 0.0)]


def test_a_pool_without_positions_has_no_queries() -> None:
    assert boundary_queries([], [], budget=3) == []
    assert boundary_queries(["ก"], [pools.belief([])], budget=3) == []


@pytest.mark.parametrize("name", ["per_sentence", "apart", "per_window"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: 0})
