"""The byte model of counts: Witten and Bell's probabilities, the same after it was saved."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding.frequencies import integer_frequencies
from attar.coding.ngram import NgramModel
from attar.errors import DataError
from windows import ngrams, unseen

FIXED = settings(max_examples=60, deadline=None)


def brute(model_text: list[int], context: tuple[int, ...], order: int) -> np.ndarray:
    """Witten-Bell by its definition, in floats, of one document."""
    chances = np.full(256, 1 / 256)
    for length in range(min(len(context), order - 1) + 1):
        wanted = context[len(context) - length :]
        after = [
            model_text[i + length]
            for i in range(len(model_text) - length)
            if tuple(model_text[i : i + length]) == wanted
        ]
        if after:
            counts = np.bincount(after, minlength=256)
            kinds = (counts > 0).sum()
            chances = (counts + kinds * chances) / (len(after) + kinds)
    return chances


@FIXED
@given(context=st.lists(st.sampled_from(b"abrcd "), max_size=5))
def test_ngram_probabilities_are_witten_and_bells(context: list[int]) -> None:
    text = list(b"abracadabra abracadabra abba")
    model = NgramModel.fit([np.asarray(text, np.uint16)], order=4, alphabet=256, precision=24)
    found = model.frequencies(np.asarray([context], np.uint16).reshape(1, -1))
    wanted = integer_frequencies(brute(text, tuple(context), 4)[None], precision=24)
    # What rounding leaves goes to the likeliest symbol.
    assert np.sort(np.abs(found - wanted)[0])[:-1].max() <= 2


def test_no_ngram_spans_two_documents() -> None:
    pair = [np.asarray(list(text), np.uint16) for text in (b"ab", b"cd")]
    model = NgramModel.fit(pair, order=2, alphabet=256, precision=16)
    grams = [(key >> 9, key & 511) for key in model.keys[1].tolist()]
    assert grams == [tuple(b"ab"), tuple(b"cd")]


def test_no_text_no_counts() -> None:
    with pytest.raises(DataError, match="to count n-grams of, found 0"):
        NgramModel.fit([], order=2, alphabet=256, precision=16)


def test_counts_are_saved_and_loaded(tmp_path: Path) -> None:
    ngrams().save(tmp_path / "counts.safetensors")
    loaded = NgramModel.load(tmp_path / "counts.safetensors")
    prefixes = unseen()[:300].reshape(100, 3)
    assert (loaded.frequencies(prefixes) == ngrams().frequencies(prefixes)).all()
