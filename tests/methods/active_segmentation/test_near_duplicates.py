"""n-grams and near duplicates equal what sets of strings give."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pools
from attar.errors import ConfigError
from attar.methods.active_segmentation.near_duplicates import NearDuplicates
from attar.methods.active_segmentation.ngrams import embedded, ngram_vectors, shingles

short = st.text(alphabet="กา เ", min_size=1, max_size=14)


def grams(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(len(text) - size + 1)]


def jaccard(one: str, other: str) -> float:
    a, b = (set(grams(text, 5)) or {text} for text in (one, other))
    return len(a & b) / len(a | b)


@given(st.lists(short, max_size=8))
def test_shingles_are_the_distinct_5_grams_of_each_text(texts: list[str]) -> None:
    hashes, owners = shingles(texts)
    together = {
        (owner, gram) for owner, text in enumerate(texts) for gram in grams(text, 5) or [text]
    }
    assert Counter(owners.tolist()) == Counter(owner for owner, _ in together)
    assert len(set(hashes.tolist())) == len({gram for _, gram in together})
    for owner, text in enumerate(texts):
        own = hashes[owners == owner]
        assert (np.diff(own.astype(object)) > 0).all()
        np.testing.assert_array_equal(own, shingles([text])[0])


@given(st.lists(short, min_size=1, max_size=6))
def test_cosines_of_vectors_are_those_of_counted_n_grams(texts: list[str]) -> None:
    vectors = ngram_vectors(texts)
    cosines = (vectors @ vectors.T).toarray()
    counts = [Counter(gram for size in range(2, 6) for gram in grams(text, size)) for text in texts]
    for a, one in enumerate(counts):
        for b, other in enumerate(counts):
            dot = sum(one[gram] * other[gram] for gram in one)
            norm = np.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in other.values()))
            assert cosines[a, b] == pytest.approx(dot / norm if norm else 0, abs=1e-5)


def test_no_texts_have_no_vectors() -> None:
    assert ngram_vectors([]).shape == (0, 2**18)
    assert embedded([]).shape == (0, 256)
    assert ngram_vectors(["ก", ""]).nnz == 0
    assert shingles([])[0].shape == (0,)


def test_embedding_keeps_distances() -> None:
    texts = pools.texts(40)
    exact = ngram_vectors(texts, bits=15)
    near = embedded(texts)
    assert near.shape == (40, 256)
    np.testing.assert_allclose(near @ near.T, (exact @ exact.T).toarray(), atol=0.3)


@given(st.lists(short, min_size=2, max_size=12), st.sampled_from((0.5, 0.6, 0.75, 0.8, 1.0)))
def test_it_finds_what_comparing_all_pairs_finds(texts: list[str], threshold: float) -> None:
    found = NearDuplicates(threshold)
    for place, text in enumerate(texts):
        before = texts[:place]
        match = found.match(text)
        similar = [jaccard(text, other) for other in before]
        assert (match is not None) == any(value >= threshold for value in similar)
        if match is not None:
            assert jaccard(text, before[int(match)]) == max(similar)
        found.add([str(place)], [text])


def test_texts_taken_up_at_once_or_one_by_one_are_the_same() -> None:
    texts = pools.texts(120, words=5)
    together, single = NearDuplicates(0.6), NearDuplicates(0.6)
    together.add([str(place) for place in range(100)], texts[:100])
    for place in range(100):
        single.add([str(place)], [texts[place]])
    found = [together.match(text) for text in texts[100:]]
    assert found == [single.match(text) for text in texts[100:]]
    assert any(found)


def test_a_text_is_not_compared_with_itself() -> None:
    found = NearDuplicates(0.8)
    found.add([], [])
    found.add(["a"], ["ฉันรักแมวมาก"])
    assert found.match("ฉันรักแมวมาก") == "a"
    assert found.match("ฉันรักแมวมาก", uid="a") is None


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        NearDuplicates(threshold)
