"""Windows: what is written is read, and listed strings are those of the coder."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import processes
from attar.coding.windows import StopCoder, compile_windows
from attar.errors import ConfigError
from windows import listed, ngrams, unseen

FIXED = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(("bits", "alphabet"), [(9, 257), (10, 256), (12, 256), (12, 257)])
def test_the_strings_are_all_different_and_begin_with_strings(bits: int, alphabet: int) -> None:
    dictionary = listed(bits, alphabet)
    strings = [tuple(dictionary.decode([code]).tolist()) for code in range(2**bits)]
    assert len(set(strings)) == 2**bits
    assert {string[:-1] for string in strings} <= {(), *strings}
    assert {(byte,) for byte in range(alphabet)} <= set(strings)


@pytest.mark.parametrize("alphabet", [256, 257])
def test_every_string_is_its_own_longest_match(alphabet: int) -> None:
    dictionary = listed(12, alphabet)
    assert all(
        dictionary.encode(dictionary.decode([code])).tolist() == [code] for code in range(2**12)
    )


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_listed_strings_are_those_of_the_coder(bits: int) -> None:
    coder, text = StopCoder(ngrams(), window_bits=bits), unseen()
    assert coder.encode(text).tolist() == listed(bits).encode(text).tolist()
    codes = np.random.default_rng(0).integers(0, 2**bits, 500)
    assert coder.decode(codes).tolist() == listed(bits).decode(codes).tolist()


@pytest.mark.parametrize("bits", [12, 24, 32])
def test_the_stop_coder_reads_every_window_as_it_was_written(bits: int) -> None:
    coder, text = StopCoder(ngrams(), window_bits=bits), unseen()[:2000]
    wrong, windows = coder.wrong(text)
    assert (wrong, windows) == (0, len(coder.encode(text)))
    assert coder.decode(coder.encode(text)).tolist() == text.tolist()


@FIXED
@given(data=st.binary(max_size=300), bits=st.sampled_from([8, 10, 12]))
def test_any_bytes_come_back(data: bytes, bits: int) -> None:
    dictionary = listed(bits)
    symbols = np.frombuffer(data, np.uint8)
    assert dictionary.decode(dictionary.encode(symbols)).astype(np.uint8).tobytes() == data


def test_a_flipped_window_changes_its_own_text_only() -> None:
    dictionary, text = listed(12), unseen()
    codes = dictionary.encode(text)
    changed = codes.copy()
    changed[40] ^= 1
    before, after = (dictionary.decode(part).tolist() for part in (codes, changed))
    start = int(dictionary.sizes(codes[:40]).sum())
    assert before[:start] == after[:start]
    assert (
        before[start + dictionary.lengths[codes[40]] :]
        == (after[start + dictionary.lengths[changed[40]] :])
    )


def test_longer_windows_hold_more_and_so_does_the_largest_remainder() -> None:
    text = unseen()
    sizes = [len(text) * 8 / (len(listed(b).encode(text)) * b) for b in (8, 10, 12)]
    assert sizes == sorted(sizes)


def test_windows_too_long_to_list_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 20 bits"):
        compile_windows(ngrams(), window_bits=21)


def _digest(threads: int) -> bytes:
    torch.set_num_threads(threads)
    return compile_windows(ngrams(), window_bits=12).digest


def test_the_table_is_the_same_with_one_thread_and_with_two() -> None:
    assert torch.get_num_threads() == 1
    assert processes.elsewhere(_digest, 2) == listed(12).digest
