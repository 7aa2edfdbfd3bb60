"""A tokenizer beside others: what a changed word changes of what follows, and little text."""

import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError
from attar.evaluation.tokenizer_baselines import Ids, byte_ids, gzip_ids
from attar.evaluation.tokenizers import (
    edit_distance,
    evaluate_tokenizer,
    first_words_changed,
    score_table,
    stability,
)
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import make_tokenizer
from attar.report.record import Run

TEXT = "Call me Ishmael, said the sailor, and sat down beside the fire in the inn. " * 40


symbols = st.lists(st.integers(0, 3), max_size=12)


def _slow(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The definition, as it is written in books."""

    @cache
    def between(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = one[i - 1] == other[j - 1]
        return min(between(i - 1, j) + 1, between(i, j - 1) + 1, between(i - 1, j - 1) + (not same))

    return between(len(one), len(other))


@given(symbols, symbols)
def test_edit_distance_is_its_definition(one: list[int], other: list[int]) -> None:
    found = edit_distance(np.array(one, np.int64), np.array(other, np.int64))
    assert found == _slow(tuple(one), tuple(other))


def test_a_known_distance() -> None:
    assert edit_distance(byte_ids("kitten"), byte_ids("sitting")) == 3


def test_stability_is_the_mean_share_that_stays() -> None:
    pairs = [("ab cd", "xb cd"), ("same", "same"), ("ab", "xyzw")]
    assert stability(byte_ids, pairs) == pytest.approx((4 / 5 + 1 + 0) / 3)


def test_ids_that_depend_on_the_first_byte_all_change() -> None:
    def shifted(text: str) -> Ids:
        ids = byte_ids(text)
        return ids + 1000 * ids[0]

    words = " ".join(chr(first) + "x" for first in range(ord("!"), ord("~")))
    assert stability(shifted, first_words_changed([words])) == 0


def test_changed_texts_are_passages_from_all_over_after_two_words_of_the_text() -> None:
    numbered = " ".join(f"{at:05}" for at in range(2000))
    pairs = first_words_changed([numbered])
    begins = []
    for one, other in pairs:
        word, _, rest = one.partition(" ")
        another, _, same = other.partition(" ")
        assert rest == same
        assert word != another
        assert {word, another} < set(numbered.split())
        assert rest in numbered
        assert 190 <= len(rest) < 200
        begins.append(int(rest[:5]))
    assert len(pairs) == 50
    assert begins[0] < 10
    assert begins[-1] > 1900
    assert begins == sorted(set(begins))


@pytest.mark.parametrize("text", ["", " ", "\n\n", "a", "word word word", "ไทย"])
def test_texts_of_few_words_are_changed_too(text: str) -> None:
    assert all(one != other for one, other in first_words_changed([text]))


def test_text_without_spaces_is_kept() -> None:
    text = "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 40
    for one, other in first_words_changed([text]):
        assert one[-180:] == other[-180:]
        assert one[-180:] in text
        assert one != other


def test_gzip_is_read_without_what_is_the_same_for_all() -> None:
    packed = gzip_ids("some text of which nothing is known").astype(np.uint8).tobytes()
    assert zlib.decompress(packed, wbits=-15) == b"some text of which nothing is known"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = EqualInfoConfig(window_bits=9, order=2, precision_bits=12)
    make_tokenizer([TEXT], config=config).save_pretrained(tmp_path / "t")
    (tmp_path / "a.txt").write_text(TEXT * 5, encoding="utf-8")
    return tmp_path


def test_the_verb_compares_and_verifies(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = evaluate_tokenizer(
        folder / "t", folder / "a.txt", baselines=["bytes"], verify=True, output_dir=folder / "run"
    )
    rows = run.details["rows"]
    assert [row["name"] for row in rows] == ["equal-info", "bytes", "bpe"]
    assert all(0 < row["stability"] < 1 and row["bytes"] == rows[0]["bytes"] for row in rows)
    assert run.details["verified"]["strings"] == 2**9
    assert Run.load(folder / "run").details == run.details
    assert "bytes only, figures are rough" in caplog.text
    table = score_table(run)
    assert all(row["name"] in table for row in rows)
    assert "verified" not in evaluate_tokenizer(folder / "t", folder / "a.txt").details


def test_baselines_and_bytes_that_are_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="expected baselines among bytes, bpe"):
        evaluate_tokenizer(folder / "t", folder / "a.txt", baselines=["huffman"])
    with pytest.raises(ConfigError, match="max_bytes must be 1 or more; found 0"):
        evaluate_tokenizer(folder / "t", folder / "a.txt", max_bytes=0)
