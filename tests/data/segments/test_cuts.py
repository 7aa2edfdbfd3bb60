"""Cuts and words say the same."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.segments.made_up import AWKWARD, LINE_ENDS, rows, texts

from attar.data.segments import Segmented, check, cuts_of, tokens_of
from attar.data.segments.cuts import cuts_of_spans, spans_of
from attar.errors import DataError


@given(row=rows(AWKWARD + LINE_ENDS))
def test_words_joined_are_the_text(row: Segmented) -> None:
    assert "".join(row.tokens) == row.text
    assert "" not in row.tokens
    assert cuts_of(row.tokens) == row.cuts
    assert Segmented.of(row.tokens) == row
    assert [row.text[a:b] for a, b, _ in spans_of(row)] == [word for _, _, word in spans_of(row)]
    assert [word for _, _, word in spans_of(row)] == row.tokens == tokens_of(row.text, row.cuts)


@given(row=rows(), seed=st.randoms(use_true_random=False))
def test_words_are_spans_in_any_order(row: Segmented, seed: Random) -> None:
    spans = [(start, end) for start, end, _ in spans_of(row)]
    seed.shuffle(spans)
    assert cuts_of_spans(spans, text=row.text, where="here") == (row.cuts, 0)
    left = spans[1:]  # the gap is a word again
    assert cuts_of_spans(left, text=row.text, where="here")[0] == (row.cuts if left else ())


@given(text=texts(), offset=st.integers(-3, 40))
def test_an_offset_is_taken_where_it_lies_inside(text: str, offset: int) -> None:
    if 0 < offset < len(text):
        assert Segmented(text, (offset,)).cuts == (offset,)
    else:
        with pytest.raises(DataError, match=r"rise within 1 and"):
            Segmented(text, (offset,))


@pytest.mark.parametrize(
    ("text", "cuts", "said"),
    [
        ("กขค", (2, 1), "found 1 after 2"),
        ("กขค", (1, 1), "found 1 after 1"),
        ("กขค", (0,), "found 0"),
        ("กขค", (3,), "rise within 1 and 2 in the row, found 3"),
        ("กขค", (1.0,), r"whole numbers as cuts in the row, found \[1.0\]"),
        ("ก\ud83dข", (), "half a surrogate pair at offset 1"),
    ],
)
def test_a_wrong_offset_is_told(text: str, cuts: tuple[int, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        check(text, cuts, where="the row")


def test_more_that_is_refused() -> None:
    with pytest.raises(DataError, match=r"decided offsets that rise"):
        Segmented("กข", (), decided=(2,))
    with pytest.raises(DataError, match=r"found word 2 empty"):
        Segmented.of(["ก", "", "ข"])
    with pytest.raises(DataError, match=r"one from 1 to 3 though another ends at 2"):
        cuts_of_spans([(1, 3), (0, 2)], text="กขค", where="here")
    for span in ((1, 1), (-1, 2), (2, 4)):
        with pytest.raises(DataError, match=r"spans within 0 and 3 in here"):
            cuts_of_spans([span], text="กขค", where="here")


def test_nothing_is_nothing() -> None:
    assert Segmented("", ()).tokens == []
    assert cuts_of([]) == ()
    assert Segmented.raw("กข").decided == ()
