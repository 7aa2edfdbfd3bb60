"""Entropy coding: integers that add up, bits that come back, damage that stays where it is."""

import zlib
from typing import Any

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding.arithmetic import decode, encode
from attar.coding.bitstream import Chunk, End, Header, read_chunks, read_header
from attar.coding.frequencies import cumulative, integer_frequencies, share
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


# ---------------------------------------------------------------------------------------- streams


def chunk(index: int, windows: int = 5) -> Chunk:
    payload = bytes(range(index, index + 2 * windows))
    return Chunk(index, windows, 40, zlib.crc32(payload), payload)


def stream(chunks: int = 3) -> bytes:
    parts = [chunk(i).to_bytes() for i in range(chunks)]
    return b"".join([Header(16, b"d" * 32).to_bytes(), *parts, End(chunks, 120).to_bytes()])


def test_a_stream_comes_back() -> None:
    data = stream()
    assert read_header(data, name="it") == Header(16, b"d" * 32)
    assert list(read_chunks(data, window_bits=16)) == [chunk(0), chunk(1), chunk(2), End(3, 120)]


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, len(stream()) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_one_chunk_at_most_and_never_passes_unseen(
    place: int, bit: int
) -> None:
    data = bytearray(stream())
    data[place] ^= 1 << bit
    try:
        read_header(bytes(data), name="it")
    except DataError:
        return
    found = list(read_chunks(bytes(data), window_bits=16))
    whole = [part for part in found if isinstance(part, Chunk) and part.intact]
    lost = len(whole) < 3 or found[-1] != End(3, 120)
    assert lost
    assert len(whole) >= 2
    assert all(part == chunk(part.index) for part in whole)


@given(cut=st.integers(44, len(stream()) - 1))
def test_a_stream_that_was_cut_off_has_no_end(cut: int) -> None:
    found = list(read_chunks(stream()[:cut], window_bits=16))
    assert not any(isinstance(part, End) for part in found)


def test_bytes_that_are_missing_cost_their_chunk_only() -> None:
    data = stream()
    place = data.index(chunk(1).payload)
    found = list(read_chunks(data[:place] + data[place + 3 :], window_bits=16))
    assert [part.index for part in found if isinstance(part, Chunk) and part.intact] == [0, 2]
    assert found[-1] == End(3, 120)


def test_other_files_and_versions_are_refused() -> None:
    with pytest.raises(DataError, match=r"begins with b'PK"):
        read_header(b"PK\3\4" + bytes(100), name="a.zip")
    damaged = bytearray(stream())
    damaged[10] ^= 1
    with pytest.raises(DataError, match="is damaged; take another copy"):
        read_header(bytes(damaged), name="a.eqiw")
