"""The walks through the table: in pieces, without numba, and from a damaged file."""

import runpy
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.portable import equal_info_windows as windows
from attar.portable.equal_info_windows import WindowDictionary, regroup
from windows import listed, unseen

FIXED = settings(max_examples=60, deadline=None)


def test_pieces_of_a_long_text_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = listed(12).encode(unseen())
    for size in (1, 3, 64, 1000):
        monkeypatch.setattr(windows, "PIECE", size)
        if size >= listed(12).lengths.max():
            assert listed(12).encode(unseen()).tolist() == whole.tolist()
    monkeypatch.setattr(windows, "PIECE", 64)
    assert listed(12).encode(unseen()).tolist() == whole.tolist()


def test_without_numba_the_walk_is_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text, whole = unseen()[:500], listed(12).encode(unseen()[:500])
    monkeypatch.setitem(sys.modules, "numba", None)  # importing it fails
    module = runpy.run_path(str(windows.__file__), run_name="a copy that travelled")
    plain = module["WindowDictionary"](listed(12).parent, listed(12).symbol, window_bits=12)
    assert plain.encode(text).tolist() == whole.tolist()
    assert "numba is not installed" in caplog.text


def test_a_damaged_dictionary_is_refused() -> None:
    parent = listed(10).parent.copy()
    parent[5] = 900
    with pytest.raises(ValueError, match="each after its parent's"):
        WindowDictionary(parent, listed(10).symbol, window_bits=10)
    with pytest.raises(ValueError, match="expected a dictionary of 4096 codes"):
        WindowDictionary(listed(10).parent, listed(10).symbol, window_bits=12)


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
