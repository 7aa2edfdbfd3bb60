"""Agreement between annotators, against published examples, sklearn and listing all pairs."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from attar.data.segments.cuts import Segmented
from attar.data.segments.formats import read_segments
from attar.data.segments.legal import legal
from attar.errors import DataError
from attar.evaluation.agreement import (
    Comparison,
    compare,
    decisions,
    krippendorffs_alpha,
    pairwise,
    total,
)


def cut(text: str) -> Segmented:
    return Segmented.of(text.split("·"))


def binary(values: str) -> Segmented:
    """A text with as many positions: 1 cuts, 0 does not, - is undecided."""
    offsets = range(1, len(values) + 1)
    return Segmented(
        "x" * (len(values) + 1),
        tuple(at for at in offsets if values[at - 1] == "1"),
        decided=tuple(at for at in offsets if values[at - 1] != "-") if "-" in values else None,
    )


positions = st.integers(1, 9).flatmap(
    lambda n: st.lists(st.text(alphabet="01-", min_size=n, max_size=n), min_size=2, max_size=4)
)


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("au·to·ma·tic", "au·tom·a·tic", 1 - 0.5 / 3),
        ("seg·men·ta·tion", "seg·ment·ation", 0.5),
        ("is", "is", None),
        ("fun", "f·un", 0.0),
    ],
)
def test_boundary_similarity_of_fourniers_examples(one: str, other: str, similarity) -> None:
    for a, b in ((one, other), (other, one)):
        assert compare(cut(a), cut(b)).boundary_similarity == similarity


def test_boundary_similarity_by_hand() -> None:
    # One shared, one transposed, one missed: (1 + 1/2) of 3.
    compared = compare(binary("100100010"), binary("100010000"))
    assert (compared.both, compared.near, compared.differing) == (1, 1, 3)
    assert compared.boundary_similarity == 0.5
    # Three in a row make one pair and one miss; a cut of both is no partner.
    assert compare(binary("01010"), binary("00100")).near == 1
    assert compare(binary("0110"), binary("0100")).near == 0


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(*[st.text("01", min_size=n, max_size=n)] * 2)))
def test_neighbours_are_paired_as_often_as_can_be(values: tuple[str, str]) -> None:
    a, b = values
    spare = [
        {at for at, v in enumerate(one) if v == "1" and other[at] == "0"}
        for one, other in ((a, b), (b, a))
    ]
    edges = [(x, y) for x in spare[0] for y in spare[1] if abs(x - y) == 1]
    most = max(
        len(some)
        for size in range(len(edges) + 1)
        for some in itertools.combinations(edges, size)
        if len({x for x, _ in some}) == len({y for _, y in some}) == size
    )
    assert compare(binary(a), binary(b)).near == most


def test_alpha_of_krippendorffs_example_of_two_observers() -> None:
    """Computing Krippendorff's Alpha-Reliability, 2011, example A: binary, no missing data."""
    one, other = binary("0100000010"), binary("1110010000")
    assert krippendorffs_alpha([[one, other]]) == pytest.approx(0.095, abs=5e-4)


@given(positions)
def test_alpha_by_listing_all_pairs_of_values(rows: list[str]) -> None:
    units = [[row[at] for row in rows if row[at] != "-"] for at in range(len(rows[0]))]
    units = [values for values in units if len(values) > 1]
    every = [value for values in units for value in values]
    observed = sum(
        (a != b) / (len(values) - 1)
        for values in units
        for a, b in itertools.permutations(values, 2)
    )
    expected = sum(a != b for a, b in itertools.permutations(every, 2))
    found = krippendorffs_alpha([[binary(row) for row in rows]])
    if not expected:
        assert found is None
    else:
        n = len(every)
        assert found == pytest.approx(1 - (observed / n) / (expected / (n * (n - 1))))


@given(positions)
def test_kappa_is_cohens(rows: list[str]) -> None:
    a, b = rows[:2]
    both = [(x, y) for x, y in zip(a, b, strict=True) if "-" not in (x, y)]
    compared = compare(binary(a), binary(b))
    assert compared.positions == len(both)
    assert compared.differing == sum(x != y for x, y in both)
    if len({value for pair in both for value in pair}) < 2:
        assert compared.kappa is None
    else:
        assert compared.kappa == pytest.approx(cohen_kappa_score(*zip(*both, strict=True)))
        assert compared.observed == pytest.approx(1 - compared.differing / len(both))
    assert compare(binary(b), binary(a)).kappa == compared.kappa


@given(positions)
def test_sums_are_of_the_texts_laid_together(rows: list[str]) -> None:
    halves = [compare(binary(rows[0]), binary(row)) for row in rows[1:]]
    summed = total(halves)
    assert summed.texts == len(rows) - 1
    assert summed.positions == sum(half.positions for half in halves)
    assert summed.near == sum(half.near for half in halves)
    assert total([]) == Comparison()


def test_only_legal_positions_count() -> None:
    text = "เดินน้ำ"
    places = legal(text).tolist()
    assert places == [3, 4]
    one, other = Segmented(text, (1, 4)), Segmented(text, (4,))
    assert decisions(one).tolist() == [0, 1]
    compared = compare(one, other)
    assert (compared.positions, compared.differing) == (2, 0)
    assert compared.word_f1 == pytest.approx(2 * 1 / 5)
    # Legal positions next to each other are neighbours whatever lies between.
    assert compare(Segmented("กำข", ()), Segmented("กำข", (2,))).near == 0
    assert compare(Segmented("กขำค", (1,)), Segmented("กขำค", (3,))).near == 1


def test_words_of_texts_that_are_decided_in_part_do_not_count() -> None:
    whole, part = Segmented("กขค", (1,)), Segmented("กขค", (1,), decided=(1,))
    assert compare(whole, whole).word_f1 == 1
    assert compare(whole, part).word_f1 is None
    assert compare(whole, part).positions == 1


def test_nothing_says_nothing() -> None:
    nothing = Comparison()
    assert nothing.observed is nothing.kappa is nothing.word_f1 is None
    assert nothing.boundary_similarity is None
    assert krippendorffs_alpha([]) is None
    assert krippendorffs_alpha([[binary("01")]]) is None


def test_annotators_are_compared_two_by_two() -> None:
    rows = [
        {"b": binary("10"), "a": binary("11")},
        {"a": binary("01"), "b": binary("01"), "c": binary("00")},
        {"c": binary("11")},
    ]
    found = pairwise(rows)
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found["a", "b"] == total(
        [compare(binary("11"), binary("10")), compare(binary("01"), binary("01"))]
    )
    assert found["a", "b"].first == 1
    assert found["a", "c"].texts == 1


def test_answers_about_different_texts_are_refused() -> None:
    for check in (
        lambda: compare(cut("a·b"), cut("a·c")),
        lambda: krippendorffs_alpha([[cut("a·b"), cut("a·c")]]),
    ):
        with pytest.raises(DataError, match="answers about the same text"):
            check()


def test_two_rounds_of_wisesight(shared_data: Path) -> None:
    """160 texts were segmented again among 1,000: 159 have the same characters."""
    folder = shared_data / "thai/wisesight"
    rounds = [
        {row.text: row for row in read_segments(folder / f"wisesight-{n}-samples-tokenised.label")}
        for n in (160, 1000)
    ]
    same = [text for text in rounds[0] if text in rounds[1]]
    compared = total(compare(rounds[0][text], rounds[1][text]) for text in same)
    assert compared.texts == 159
    # One of 8,277 that the rules for Thai allow lies inside an emoji.
    assert (compared.positions, compared.differing) == (8276, 23)
    assert compared.observed == pytest.approx(0.9972, abs=5e-5)
    assert compared.kappa == pytest.approx(0.9944, abs=5e-5)
    assert compared.word_f1 == pytest.approx(0.9930, abs=5e-5)
    alpha = krippendorffs_alpha([[rounds[0][text], rounds[1][text]] for text in same])
    assert alpha == pytest.approx(0.9944, abs=1e-3)
