"""Counts of words and cuts, against pythainlp's."""

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythainlp.benchmarks import word_tokenization

from attar.data.segments.cuts import Segmented, cuts_of
from attar.errors import DataError
from attar.evaluation.segmentation import (
    Counts,
    boundary_f1,
    boundary_precision,
    boundary_recall,
    count,
    exact_match,
    oov_recall,
    total,
    word_f1,
)

theirs: ModuleType = word_tokenization
CHARACTERS = st.sampled_from("กขา่เ x")


@st.composite
def pairs(draw):
    """A text with its cuts, and others."""
    text = draw(st.text(CHARACTERS, min_size=1, max_size=14))
    inner = st.sets(st.integers(1, max(len(text) - 1, 1)))
    one, other = (tuple(sorted(c for c in draw(inner) if c < len(text))) for _ in range(2))
    return Segmented(text, one), Segmented(text, other)


@given(pairs())
def test_counts_are_those_of_pythainlp(pair):
    gold, found = pair
    stats = theirs.compute_stats("|".join(gold.tokens), "|".join(found.tokens))["word_level"]
    ours = count(gold, found.cuts)
    assert ours.tp == stats["correctly_tokenized_words"]
    assert ours.predicted == stats["total_words_in_sample"]
    assert ours.gold == stats["total_words_in_ref_sample"]


@given(pairs())
def test_without_whitespace_too(pair):
    gold, found = pair
    lines = [theirs.preprocessing("|".join(one.tokens)).strip("|") for one in pair]
    ours = count(gold, found.cuts, whitespace=False)
    if not lines[0]:
        assert ours.gold == ours.predicted == ours.tp == 0
        return
    stats = theirs.compute_stats(*lines)["word_level"]
    assert ours.tp == stats["correctly_tokenized_words"]
    assert ours.predicted == stats["total_words_in_sample"]
    assert ours.gold == stats["total_words_in_ref_sample"]


@given(pairs())
def test_laws(pair):
    gold, found = pair
    one, other = count(gold, found.cuts), count(found, gold.cuts)
    assert (one.tp, one.predicted, one.gold) == (other.tp, other.gold, other.predicted)
    assert boundary_precision(one) == boundary_recall(other)
    itself = count(gold, gold.cuts)
    assert word_f1(itself) == 1
    assert exact_match(itself) == 1
    assert (one.exact == 1) == (gold.cuts == found.cuts)
    assert total([one, other]) == Counts(*(a + b for a, b in zip(one, other, strict=True)))


def test_by_hand():
    gold = Segmented.of(["ไป", "โรง", "เรียน", " ", "xx"])
    found = cuts_of(["ไป", "โรงเรียน", " ", "x", "x"])
    ours = count(gold, found, known={"ไป", "โรง"})
    assert ours[:3] == (2, 5, 5)
    assert ours[3:6] == (3, 4, 4)
    assert (ours.oov, ours.oov_found) == (2, 0)
    assert word_f1(ours) == pytest.approx(2 / 5)
    assert boundary_f1(ours) == pytest.approx(3 / 4)
    assert oov_recall(count(gold, gold.cuts, known={"ไป"})) == 1
    # a cut inside what a reader sees as one character is no boundary that counts
    odd = count(Segmented("กาxx", (1, 2)), (1, 3))
    assert odd[3:6] == (0, 1, 1)


def test_nothing_is_no_division():
    nothing = total([])
    assert nothing == Counts()
    assert word_f1(nothing) == boundary_f1(nothing) == exact_match(nothing) == 0
    assert count(Segmented("", ()), ()).exact == 1
    with pytest.raises(DataError, match="every position decided"):
        count(Segmented("กข", (), decided=()), ())
