"""Which choices matter, in a search that has nothing to do with models."""

import pytest

from attar.errors import DataError
from attar.search.importance import ScoredChoices, importance, silent
from bakery import CAKES, taste


def baked(level: float = 0.0) -> list[ScoredChoices]:
    return [
        ScoredChoices(CAKES.words(values), level + taste(values))
        for values in CAKES.enumerate_all()
    ]


def test_known_effects_are_ordered_and_sum_to_one() -> None:
    shares = importance([baked(), baked(5.0)], choices=list(CAKES))
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == "dough"
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert importance([baked()], choices=list(CAKES)) == importance([baked()], choices=list(CAKES))


def test_what_says_nothing_is_left_out() -> None:
    few, flat = baked()[:7], [ScoredChoices(one.chosen, 0.5) for one in baked()]
    one = [ScoredChoices({"dough": "short"}, 0.1 * i) for i in range(9)]
    assert silent(baked()) is None
    assert silent(few) == "7 finished trials, fewer than 8"
    assert silent(flat) == "equal scores"
    assert silent(one) == "the same choices in all trials"
    alone = importance([baked()], choices=list(CAKES))
    assert importance([few, baked(), flat, one], choices=list(CAKES)) == alone
    with pytest.raises(DataError, match="found 7 finished trials, fewer than 8 and equal scores"):
        importance([few, flat], choices=list(CAKES))
    with pytest.raises(DataError, match="found no trial"):
        importance([], choices=list(CAKES))
