"""A tokenizer beside others: what a changed word changes of what follows, and little text."""

import zlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.evaluation.tokenizers import (
    Ids,
    byte_ids,
    edit_distance,
    first_words_changed,
    gzip_ids,
    stability,
)

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


def test_stability_is_the_mean_share_that_stays() -> None:
    pairs = [("ab cd", "xb cd"), ("same", "same"), ("ab", "xyzw")]
    assert stability(byte_ids, pairs) == pytest.approx((4 / 5 + 1 + 0) / 3)


def test_ids_that_hang_on_the_first_byte_all_change() -> None:
    def shifted(text: str) -> Ids:
        ids = byte_ids(text)
        return ids + 1000 * ids[0]

    words = " ".join(chr(first) + "x" for first in range(ord("!"), ord("~")))
    assert stability(shifted, first_words_changed([words])) == 0


def test_changed_texts_are_passages_from_all_over_after_two_words_of_the_text() -> None:
    numbered = " ".join(f"{at:05}" for at in range(2000))
    pairs = first_words_changed([numbered])
    begins = []
    for one, other in pairs:
        word, _, rest = one.partition(" ")
        another, _, same = other.partition(" ")
        assert rest == same
        assert word != another
        assert {word, another} < set(numbered.split())
        assert rest in numbered
        assert 190 <= len(rest) < 200
        begins.append(int(rest[:5]))
    assert len(pairs) == 50
    assert begins[0] < 10
    assert begins[-1] > 1900
    assert begins == sorted(set(begins))


@pytest.mark.parametrize("text", ["", " ", "\n\n", "a", "word word word", "ไทย"])
def test_texts_of_few_words_are_changed_too(text: str) -> None:
    assert all(one != other for one, other in first_words_changed([text]))


def test_text_without_spaces_is_kept() -> None:
    text = "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 40
    for one, other in first_words_changed([text]):
        assert one[-180:] == other[-180:]
        assert one[-180:] in text
        assert one != other


def test_gzip_is_read_without_what_is_the_same_for_all() -> None:
    packed = gzip_ids("some text of which nothing is known").astype(np.uint8).tobytes()
    assert zlib.decompress(packed, wbits=-15) == b"some text of which nothing is known"
