"""Framed streams: damage stays where it is, and is told."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding.bitstream import Chunk, End, Header, read_chunks, read_header
from attar.errors import DataError


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
