"""Pairs of texts as an encoder-decoder reads and writes them."""

import gzip
import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from attar.data.data import Data
from attar.data.pairs import Pairs, load_pairs, load_texts
from attar.errors import ConfigError, DataError
from letters import SOURCES, TARGETS, words


@pytest.mark.parametrize("end", [True, False])
def test_a_batch_by_hand(end: bool) -> None:
    pairs = Pairs(SOURCES, TARGETS, words(end=end))
    batch = pairs.batch([1, 0])
    assert batch["input_ids"].tolist() == [[6, 2, 0, 0], [3, 4, 5, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[5, 6, 7, 8, 2], [4, 2, -100, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[0, 5, 6, 7, 8], [0, 4, 2, 0, 0]]
    assert batch["rows"].tolist() == [1, 0]
    assert pairs.counts(batch) == {"rows": 2, "tokens": 2 + 4 + 5 + 2, "labels": 7}
    assert pairs.tokens_per_row == (4 + 2 + 2 + 5 + 3 + 3) / 3
    assert pairs.length(1) == 7


def test_the_decoder_starts_with_what_it_is_told() -> None:
    batch = Pairs(SOURCES, TARGETS, words(), decoder_start_token_id=9).batch([0])
    assert batch["decoder_input_ids"].tolist() == [[9, 4]]


def test_pairs_that_are_empty_or_too_long_are_left_out() -> None:
    pairs = Pairs(["a b c", "d", " ", "e"], ["b", "c d e f", "a", ""], words(), context=4)
    assert pairs.left_out == 3
    assert pairs.batch([0])["input_ids"].tolist() == [[3, 4, 5, 2]]
    with pytest.raises(DataError, match="1 to 1 tokens, found none among 1"):
        Pairs(["a b"], ["c d"], words(), context=2)


def test_fingerprints_tell_pairs_apart() -> None:
    same = Pairs(SOURCES, TARGETS, words())
    assert same.fingerprint() == Pairs(SOURCES, TARGETS, words()).fingerprint()
    others = [
        Pairs(TARGETS, SOURCES, words()),
        Pairs(SOURCES, TARGETS, words(), decoder_start_token_id=2),
        same.select([0, 2]),
        same.select([1, 0, 2]),
    ]
    found = {other.fingerprint() for other in others}
    assert len(found) == 4
    assert same.fingerprint() not in found
    assert len(others[2]) == 2


def test_what_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(DataError, match="a target for each of 3 sources, found 2"):
        Pairs(SOURCES, TARGETS[:2], words())
    with pytest.raises(ConfigError, match="with a padding token"):
        Pairs(SOURCES, TARGETS, words(pad_token=None))
    with pytest.raises(ConfigError, match="end of a text"):
        Pairs(SOURCES, TARGETS, words(end=False, eos_token=None))
    with pytest.raises(ConfigError, match="context"):
        Pairs(SOURCES, TARGETS, words(), context=1)


def test_pairs_of_a_file_and_of_a_data_set(tmp_path: Path) -> None:
    rows = [{"en": f"a {x}", "de": f"b {x}"} for x in "abcdefghij" * 4]
    file = tmp_path / "pairs.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    data = Data(file, text_column="en", pair_column="de")
    texts = {split: load_texts(data, split=split) for split in ("train", "validation", "test")}
    for sources, targets in texts.values():
        assert [s.replace("a ", "b ", 1) for s in sources] == targets
    assert sum(len(sources) for sources, _ in texts.values()) == 40
    assert not set(texts["train"][0]) & set(texts["test"][0])
    held_out = Dataset.from_dict({"source": SOURCES, "target": TARGETS})
    sets = DatasetDict({"train": held_out, "validation": held_out.select([2]), "test": held_out})
    assert len(load_pairs(sets, words())) == 3
    batch = load_pairs(sets, words(), split="validation").batch([0])
    assert batch["labels"].tolist() == [[3, 3, 2]]


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    table = Dataset.from_dict({"en": SOURCES, "de": TARGETS})
    with pytest.raises(DataError, match=r"'source' and 'target' in .* found the columns en, de"):
        load_pairs(table, words())
    numbers = Dataset.from_dict({"source": SOURCES, "target": [1, 2, 3]})
    with pytest.raises(DataError, match="found int '1' in row 1"):
        load_pairs(numbers, words())
    with pytest.raises(ConfigError, match="split"):
        load_pairs(table, words(), split="dev")
