"""Frequencies: integers that add up, and cells dealt out in proportion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.coding.frequencies import integer_frequencies, share
from attar.errors import ConfigError, DataError

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=2, max_size=40).filter(lambda w: sum(w) > 0)


@given(weights=WEIGHTS, precision=st.integers(8, 24))
def test_frequencies_are_positive_and_add_up(weights: list[float], precision: int) -> None:
    found = integer_frequencies(np.asarray([weights]), precision=precision)
    assert found.min() >= 1
    assert found.sum() == 2**precision
    assert found[0].argmax() == int(np.argmax(weights))


def test_frequencies_of_integers_and_floats_agree() -> None:
    counts = np.asarray([[3, 0, 5, 8], [1, 1, 1, 1]])
    of_floats = integer_frequencies(counts / counts.sum(axis=1, keepdims=True), precision=12)
    assert (integer_frequencies(counts, precision=12) == of_floats).all()


@pytest.mark.parametrize("bad", [[0.0, 0.0], [1.0, float("nan")], [1.0, -1.0]])
def test_damaged_probabilities_are_refused(bad: list[float]) -> None:
    with pytest.raises(DataError, match="finite, not negative"):
        integer_frequencies(np.asarray([bad]), precision=16)


def test_a_precision_too_small_for_the_alphabet_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a precision of 10 to 24 bits"):
        integer_frequencies(np.ones((1, 256)), precision=9)


@given(
    weights=WEIGHTS,
    cells=st.lists(st.integers(0, 2**32), min_size=1, max_size=5),
)
def test_shares_add_up_and_are_near_to_proportion(weights: list[float], cells: list[int]) -> None:
    frequencies = integer_frequencies(np.asarray([weights]), precision=16)
    rows = np.repeat(frequencies, len(cells), axis=0)
    dealt = share(np.asarray(cells), rows, precision=16)
    assert (dealt >= 0).all()
    assert dealt.sum(axis=1).tolist() == cells
    exact = np.asarray(cells)[:, None] * rows / 2**16
    assert (np.abs(dealt - exact) < 1 + 1e-6 * exact).all()


def test_of_equal_remainders_the_first_symbols_are_served() -> None:
    frequencies = np.full((1, 8), 2**13)
    assert share(np.asarray([3]), frequencies, precision=16).tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
