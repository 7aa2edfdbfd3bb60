"""Where a word can begin."""

import gzip
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tests.data.segments.made_up import AWKWARD, LINE_ENDS, texts

from attar.data.segments import clusters, illegal, legal, read_segments

ANYTHING = texts(AWKWARD + LINE_ENDS) | st.text(max_size=20)
FOLLOWING = "ะัาำิีึืฺุูๅ็่้๊๋์ํ๎"


def by_the_book(text: str) -> list[bool]:
    """The three rules, one offset at a time."""
    ends = {0}
    for part in regex.findall(r"\X", text):
        ends.add(max(ends) + len(part))
    return [
        text[b] in FOLLOWING or "เ" <= text[b - 1] <= "ไ" or b not in ends
        for b in range(1, len(text))
    ]


@given(text=ANYTHING)
def test_the_rules_are_those_of_the_book(text: str) -> None:
    assert illegal(text).tolist() == by_the_book(text)
    assert illegal(text).shape == (max(len(text) - 1, 0),)
    assert legal(text).tolist() == [b for b in range(1, len(text)) if not illegal(text)[b - 1]]


@given(text=ANYTHING)
def test_clusters_joined_are_the_text(text: str) -> None:
    assert "".join(clusters(text)) == text
    assert len(legal(text)) <= max(len(clusters(text)) - 1, 0)


def test_every_character_of_thai_beside_a_consonant() -> None:
    for code in range(0x0E00, 0x0E80):
        for text in (f"ก{chr(code)}", f"{chr(code)}ก"):
            assert illegal(text).tolist() == by_the_book(text)


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        ("", []),
        ("ก", []),
        ("เก่ากำ", [4]),
        ("ก\u0e4d\u0e32", []),
        ("👩\u200d🚀👍🏽a", [3, 5]),
        ("🇹🇭🇹🇭", [2]),
        ("a\r\nb", [1, 3]),
        ("e\u0301a", [2]),
        ("ก\u200bข", [1, 2]),
        ("แก", []),
    ],
)
def test_examples(text: str, offsets: list[int]) -> None:
    assert legal(text).tolist() == offsets


def test_hardly_any_published_cut_is_illegal(shared_data: Path) -> None:
    rows = list(
        read_segments(shared_data / "thai" / "wisesight" / "wisesight-1000-samples-tokenised.label")
    )
    broken = sum(int(illegal(row.text)[cut - 1]) for row in rows for cut in row.cuts)
    assert (broken, sum(len(row.cuts) for row in rows)) == (2, 21_737)
    best = shared_data / "thai" / "best" / "article.txt.gz"
    with gzip.open(best, "rt", encoding="utf-8") as source:
        text = source.read(100_000).replace("|", "")
    assert 0.5 < len(legal(text)) / len(text) < 0.7
