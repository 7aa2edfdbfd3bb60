"""Windows: what is written is read, listed strings are those of the coder, the paper's are not."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding.frequencies import integer_frequencies
from attar.coding.ngram import NgramModel, symbols_of
from attar.coding.windows import StopCoder, compile_windows
from attar.errors import CompatibilityError, ConfigError, DataError
from attar.methods.equal_info.coders import DelayCoder, PaperCoder, shortest_code
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.transformer import TransformerModel, train_transformer
from attar.portable.equal_info_windows import END, WindowDictionary, regroup
from scene import sources

FIXED = settings(max_examples=60, deadline=None)


@cache
def ngrams(alphabet: int = 256, order: int = 4) -> NgramModel:
    documents = [symbols_of(text, end=alphabet > 256) for text in sources(200_000)]
    return NgramModel.fit(documents, order=order, alphabet=alphabet, precision=16)


@cache
def listed(bits: int, alphabet: int = 256) -> WindowDictionary:
    return compile_windows(ngrams(alphabet), window_bits=bits)


def unseen() -> Any:
    return symbols_of(sources(600_000)[-1][:6000])


# ------------------------------------------------------------------------------------ byte models


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


# ---------------------------------------------------------------------------------- the stop coder


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


def test_pieces_of_a_long_text_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    import attar.portable.equal_info_windows as module

    whole = listed(12).encode(unseen())
    for size in (1, 3, 64, 1000):
        monkeypatch.setattr(module, "_PIECE", size)
        if size >= listed(12).lengths.max():
            assert listed(12).encode(unseen()).tolist() == whole.tolist()
    monkeypatch.setattr(module, "_PIECE", 64)
    assert listed(12).encode(unseen()).tolist() == whole.tolist()


def test_without_numba_the_walk_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import attar.portable.equal_info_windows as module

    text, whole = unseen()[:500], listed(12).encode(unseen()[:500])
    plain = WindowDictionary(listed(12).parent, listed(12).symbol, window_bits=12)
    monkeypatch.setattr(module, "_compiled", lambda: (module._fill_table, module._walk))
    assert plain.encode(text).tolist() == whole.tolist()


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


def test_a_damaged_dictionary_is_refused() -> None:
    parent = listed(10).parent.copy()
    parent[5] = 900
    with pytest.raises(ValueError, match="each after its parent's"):
        WindowDictionary(parent, listed(10).symbol, window_bits=10)
    with pytest.raises(ValueError, match="expected a dictionary of 4096 codes"):
        WindowDictionary(listed(10).parent, listed(10).symbol, window_bits=12)


def test_windows_too_long_to_list_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 20 bits"):
        compile_windows(ngrams(), window_bits=21)


_HASH = """
import sys; sys.path[:0] = {path!r}
from methods.test_equal_info_windows import ngrams
from attar.methods.equal_info import compile_windows
print(compile_windows(ngrams(), window_bits=12).digest.hex())
"""


def test_the_table_is_the_same_with_one_thread_and_with_two() -> None:
    import os

    found = {
        subprocess.run(
            [sys.executable, "-c", _HASH.format(path=[str(Path(__file__).parents[1])])],
            env=os.environ | {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for threads in ("1", "2")
    }
    assert found == {listed(12).digest.hex()}


# ------------------------------------------------------------------------------ the paper's coders


@FIXED
@given(low=st.integers(0, 2**30 - 1), width=st.integers(1, 2**20))
def test_the_shortest_code_lies_in_the_interval_and_no_shorter_one_does(
    low: int, width: int
) -> None:
    scale = 30
    width = min(width, 2**scale - low)
    bits, index = shortest_code(low, width, scale=scale)
    assert low * 2**bits <= index * 2**scale
    assert (index + 1) * 2**scale <= (low + width) * 2**bits
    for fewer in range(bits):
        first = -(-low * 2**fewer // 2**scale)
        assert (first + 1) * 2**scale > (low + width) * 2**fewer


def test_the_papers_greedy_windows_are_not_all_readable_and_the_coder_says_so() -> None:
    coder, text = PaperCoder(ngrams(), window_bits=16), unseen()[:2000]
    wrong, windows = coder.wrong(text)
    assert 0.05 < wrong / windows < 0.6
    assert coder.decode(coder.encode(text)).tolist() != text.tolist()


def test_delay_reads_all_it_writes_and_holds_less() -> None:
    text = unseen()[:2000]
    delay, paper, stop = (
        kind(ngrams(), window_bits=16) for kind in (DelayCoder, PaperCoder, StopCoder)
    )
    assert delay.wrong(text)[0] == 0
    assert delay.decode(delay.encode(text)).tolist() == text.tolist()
    counts = [len(coder.encode(text)) for coder in (stop, paper, delay)]
    assert counts == sorted(counts)


# --------------------------------------------------------------------------------------- the rest


@FIXED
@given(
    values=st.lists(st.integers(0, 2**12 - 1), max_size=40),
    to_bits=st.integers(1, 20),
)
def test_regrouped_bits_come_back(values: list[int], to_bits: int) -> None:
    grouped = regroup(np.asarray(values, np.int64), bits=12, to_bits=to_bits)
    assert len(grouped) == -(-len(values) * 12 // to_bits)
    back = regroup(grouped, bits=to_bits, to_bits=12)[: len(values)]
    assert back.tolist() == values


def test_a_small_transformer_is_trained_and_listed(tmp_path: Path) -> None:
    config = EqualInfoConfig(
        window_bits=10,
        model="transformer",
        hidden_size=32,
        num_hidden_layers=1,
        max_steps=30,
        per_device_train_batch_size=32,
        eos="in_window",
    )
    documents = [symbols_of(text, end=True) for text in sources(50_000)]
    model = train_transformer(documents, config=config, state_dir=tmp_path)
    found = model.frequencies(np.asarray([[32], [END]], np.uint16))
    assert found.shape == (2, 257)
    assert found.sum(axis=1).tolist() == [2**16] * 2
    dictionary = compile_windows(model, window_bits=10)
    text = unseen()
    assert dictionary.decode(dictionary.encode(text)).tolist() == text.tolist()
    assert len(dictionary.encode(text)) < len(text)


def test_a_model_that_is_not_over_bytes_is_refused() -> None:
    import tiny

    with pytest.raises(CompatibilityError, match="over bytes"):
        TransformerModel(tiny.model("llama"), alphabet=256, precision=16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_bits": 7}, "windows of 8 to 32 bits"),
        ({"window_bits": 33}, "windows of 8 to 32 bits"),
        ({"window_bits": 12, "token_bits": 13}, "ids of 1 to 12 bits"),
        ({"window_bits": 32}, "ids of 1 to 20 bits"),
        ({"order": 8}, "order 1 to 7"),
        ({"precision_bits": 9}, "precision of 10 to 24 bits"),
        ({"window_bits": 8, "eos": "in_window"}, "9 bits or more"),
        ({"window_bits": 24, "token_bits": 8, "model": "transformer"}, "of integers for windows"),
        ({"hidden_size": 40}, "multiple of 32"),
        ({"fit_bytes": 0}, "fit_bytes of 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EqualInfoConfig(**options)
