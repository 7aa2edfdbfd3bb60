"""Passages: a sample of fixed size that comes from everywhere and holds the text as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.data.passages import sample_passages


def by_character(text: str) -> list[int]:
    return list(map(ord, text))


@given(
    texts=st.lists(st.text(st.sampled_from("ab\n") | st.characters(), max_size=600), max_size=8),
    tokens=st.integers(1, 900),
)
def test_passages_are_parts_of_the_texts_and_keep_to_the_limit(
    texts: list[str], tokens: int
) -> None:
    found = sample_passages(texts, by_character, tokens=tokens)
    cost = sum(1 + len(part) for part in found)
    assert cost <= tokens
    assert all(found)
    position, stream = 0, "\0".join(texts)
    for part in found:  # in order and without overlap
        position = stream.index(part, position) + len(part)
    everything = [text for text in texts if text]
    whole = sum(1 + len(text) for text in everything)
    assert found == everything if whole <= tokens else cost >= tokens - 1


def test_passages_by_hand() -> None:
    """Ten passages of 256 characters, of 32 lines of 8: room for four, in the order of 0, 8, 4, 2
    (their digits reversed), and for one line of passage 6."""
    lines = [f"{i:07d}\n" for i in range(320)]
    of = ["".join(lines[i * 32 : (i + 1) * 32]) for i in range(10)]
    found = sample_passages(["".join(lines)], by_character, tokens=4 * 257 + 9)
    assert found == [of[0], of[2], of[4], lines[6 * 32], of[8]]


@pytest.mark.parametrize("documents", [1, 4, 50, 1000])
def test_passages_come_from_everywhere_and_start_at_lines(documents: int) -> None:
    lines = [f"line {i:03d} of the text\n" for i in range(1000)]
    each = 1000 // documents
    texts = ["".join(lines[i : i + each]) for i in range(0, 1000, each)]
    found = sample_passages(texts, by_character, tokens=6000)
    assert 5999 <= sum(1 + len(part) for part in found) <= 6000
    assert all("line ".startswith(part[:5]) for part in found)
    seen = {int(part.split()[1]) // 100 for part in found if len(part) > 20}
    assert seen == set(range(10))


def test_dense_text_has_its_share() -> None:
    """Of two halves, one takes a token a character and the other one in eight: by characters they
    are read alike."""
    texts = ["".join(f"{i:06d} {name}\n" for i in range(5000)) for name in ("dense", "light")]

    def encode(part: str) -> list[int]:
        return [0] * sum(8 if "dense" in line else 1 for line in part.splitlines())

    found = sample_passages(texts, encode, tokens=8000)
    dense, light = (sum(len(p) for p in found if name in p) for name in ("dense", "light"))
    assert dense == pytest.approx(light, rel=0.2)


def test_a_text_without_lines_is_read_everywhere_too() -> None:
    text = "".join(chr(ord("a") + i // 4000) for i in range(40_000))
    found = sample_passages([text], by_character, tokens=10_000)
    assert sum(1 + len(part) for part in found) == 10_000
    assert set("".join(found)) == set("abcdefghij")


def test_only_what_is_taken_is_read_again() -> None:
    texts = ["word " * 50_000] * 40
    read: list[int] = []

    def words(part: str) -> list[str]:
        read.append(len(part))
        return part.split()

    sample_passages(texts, words, tokens=1000)
    # one text, to see whether all fit, then little more than the sample
    assert sum(read) < len(texts[0]) + 40_000
