"""How much a change at the beginning of a text changes of what follows."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.methods.equal_info.baselines import Ids, byte_ids
from attar.methods.equal_info.report import edit_distance, stability

TEXT = "Call me Ishmael, said the sailor, and sat down beside the fire in the inn. " * 40

symbols = st.lists(st.integers(0, 3), max_size=12)


def _slow(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The definition, as it is written in books."""

    @cache
    def between(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = one[i - 1] == other[j - 1]
        return min(between(i - 1, j) + 1, between(i, j - 1) + 1, between(i - 1, j - 1) + (not same))

    return between(len(one), len(other))


@given(symbols, symbols)
def test_edit_distance_is_its_definition(one: list[int], other: list[int]) -> None:
    found = edit_distance(np.array(one, np.int64), np.array(other, np.int64))
    assert found == _slow(tuple(one), tuple(other))


def test_a_known_distance() -> None:
    assert edit_distance(byte_ids("kitten"), byte_ids("sitting")) == 3


def test_bytes_change_only_where_the_text_does() -> None:
    found = stability(byte_ids, [TEXT])
    longest = max(map(len, TEXT.split()))
    assert 1 - longest / 190 <= found < 1


def test_ids_that_hang_on_the_first_byte_all_change() -> None:
    def shifted(text: str) -> Ids:
        ids = byte_ids(text)
        return ids + 1000 * ids[0]

    words = " ".join(chr(first) + "x" for first in range(ord("!"), ord("~")))
    assert stability(shifted, [words]) == 0


def test_text_without_spaces_is_stable_too() -> None:
    assert stability(byte_ids, ["ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 40]) > 0.8


@pytest.mark.parametrize("text", ["a", " ", "\n\n", "ไทย", "one two"])
def test_short_texts_have_a_stability_too(text: str) -> None:
    assert 0 <= stability(byte_ids, [text]) <= 1
