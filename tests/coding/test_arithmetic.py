"""The arithmetic coder: bits that come back, as few as the model needs."""

from typing import Any

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.coding.arithmetic import decode, encode
from attar.coding.frequencies import cumulative, integer_frequencies
from attar.errors import DataError


def adaptive(alphabet: int) -> Any:
    """Counts of what came so far, each symbol once beforehand."""

    def next_cdf(seen: list[int]) -> list[int]:
        counts = np.bincount(np.asarray(seen, np.int64), minlength=alphabet) + 1
        return [0, *np.cumsum(counts).tolist()]

    return next_cdf


@given(symbols=st.lists(st.integers(0, 5), max_size=200), zeros=st.integers(0, 20))
def test_arithmetic_code_comes_back_also_with_zeros_after_it(
    symbols: list[int], zeros: int
) -> None:
    bits = encode(symbols, adaptive(6))
    assert decode(bits + [0] * zeros, adaptive(6), length=len(symbols)) == symbols


def test_arithmetic_code_is_as_short_as_the_model_and_as_constriction() -> None:
    rng = np.random.default_rng(0)
    chances = np.asarray([0.7, 0.2, 0.05, 0.04, 0.01])
    frequencies = integer_frequencies(chances[None], precision=16)
    symbols = rng.choice(5, size=20_000, p=chances).astype(np.int32)
    sums = cumulative(frequencies)[0].tolist()
    bits = encode(symbols.tolist(), lambda _: sums)
    assert decode(bits, lambda _: sums, length=len(symbols)) == symbols.tolist()
    ideal = -np.log2(frequencies[0] / 2**16)[symbols].sum()
    assert ideal <= len(bits) <= ideal + 2
    coder: Any = constriction.stream.queue.RangeEncoder()  # pyright: ignore[reportAttributeAccessIssue]
    model = constriction.stream.model.Categorical(frequencies[0] / 2**16, perfect=True)  # pyright: ignore[reportAttributeAccessIssue]
    coder.encode(symbols, model)
    assert abs(coder.num_bits() - len(bits)) <= 64


def test_a_symbol_without_a_share_is_refused() -> None:
    with pytest.raises(DataError, match="a share for symbol 1, found 4 to 4 of 4"):
        encode([0, 1], lambda _: [0, 4, 4])
    with pytest.raises(DataError, match="expected a symbol of 0 to 1, found 2"):
        encode([2], lambda _: [0, 4, 8])


def test_sums_may_be_of_numpy() -> None:
    sums = cumulative(integer_frequencies(np.asarray([[3.0, 1.0, 2.0]]), precision=16))[0]
    symbols = [0, 1, 2, 2, 1, 0] * 40
    bits = encode(symbols, lambda _: sums)  # pyright: ignore[reportArgumentType]
    assert decode(bits, lambda _: sums, length=len(symbols)) == symbols  # pyright: ignore[reportArgumentType]
