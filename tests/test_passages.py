"""Passages: a sample of fixed size that comes from everywhere and holds the text as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.data.passages import spread


def by_character(text: str) -> list[int]:
    return list(map(ord, text))


@given(
    texts=st.lists(st.text(max_size=60), max_size=8),
    tokens=st.integers(2, 200),
    passage=st.integers(1, 50),
)
def test_passages_are_parts_of_the_texts_and_keep_to_the_limit(
    texts: list[str], tokens: int, passage: int
) -> None:
    found = spread(texts, by_character, tokens=tokens, passage=passage)
    assert sum(1 + len(part) for part in found) <= max(tokens, 0)
    assert all(found)
    position, stream = 0, "\0".join(texts)
    for part in found:  # in order and without overlap
        position = stream.index(part, position) + len(part)
    everything = [text for text in texts if text]
    if sum(1 + len(text) for text in everything) <= tokens:
        assert found == everything


@pytest.mark.parametrize("documents", [1, 4, 50])
def test_passages_come_from_everywhere_and_start_at_lines(documents: int) -> None:
    lines = [f"line {i} of the text\n" for i in range(1000)]
    each = 1000 // documents
    texts = ["".join(lines[i : i + each]) for i in range(0, 1000, each)]
    found = spread(texts, by_character, tokens=2000, passage=100)
    assert sum(1 + len(part) for part in found) == pytest.approx(2000, abs=100)
    assert all("line ".startswith(part[:5]) for part in found)
    seen = {int(part.split()[1]) // 50 for part in found if len(part) > 20}
    assert seen == set(range(20))


def test_a_passage_goes_on_into_the_next_document() -> None:
    texts = [f"{i:03d}" for i in range(400)]
    found = spread(texts, by_character, tokens=400, passage=100)
    assert sum(1 + len(part) for part in found) == 400
    assert set(found) <= set(texts)


def test_tokens_longer_than_expected_give_short_passages_not_slow_ones() -> None:
    text = " " * 100_000
    calls: list[int] = []

    def words(part: str) -> list[int]:
        calls.append(len(part))
        return [0] * -(-len(part) // 1000)

    found = spread([text], words, tokens=50, passage=10)
    assert found
    assert sum(1 + len(words(part)) for part in found) <= 50
    assert max(calls[1:-1]) < len(text)
