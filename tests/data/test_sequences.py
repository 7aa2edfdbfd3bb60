"""Pieces of text for encoders: nothing is lost, and masks depend on seed and row alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import (
    BertTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    T5Tokenizer,
)

from attar.data.sequences import IGNORED, Sequences, load_sequences
from attar.errors import ConfigError, DataError

LETTERS = "abcdefghijklmnop"


def bert() -> PreTrainedTokenizerBase:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS)]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})


def roberta() -> PreTrainedTokenizerBase:
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *LETTERS, *(f"Ġ{c}" for c in LETTERS)]
    merges: Any = [("Ġ", c) for c in LETTERS]
    return RobertaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges)


def t5() -> PreTrainedTokenizerBase:
    words = ["<pad>", "</s>", "<unk>", "▁", *LETTERS, *(f"▁{c}" for c in LETTERS)]
    return T5Tokenizer(vocab=[(word, -float(i)) for i, word in enumerate(words)], extra_ids=0)


TOKENIZERS = {"bert": bert(), "roberta": roberta(), "t5": t5()}
every_tokenizer = pytest.mark.parametrize("name", list(TOKENIZERS))


def texts(count: int = 40, *, seed: int = 0) -> list[str]:
    """Documents of 0 to 59 words of a letter or two."""
    rng = np.random.default_rng(seed)
    return [
        " ".join("".join(rng.choice(list(LETTERS), rng.integers(1, 3))) for _ in range(length))
        for length in rng.integers(0, 60, count)
    ]


TEXTS = texts()


def mask_id(tokenizer: PreTrainedTokenizerBase) -> int:
    assert isinstance(tokenizer.mask_token_id, int)
    return tokenizer.mask_token_id


@every_tokenizer
def test_the_pieces_of_a_document_are_the_document(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    source = Sequences(iter(TEXTS), tokenizer, context=16, mask_probability=0)
    framed: Any = tokenizer("a")["input_ids"]
    plain: Any = tokenizer("a", add_special_tokens=False)["input_ids"]
    specials = len(framed) - len(plain)
    whole = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    room, row = 16 - specials, 0
    for ids in filter(None, whole):
        for start in range(0, len(ids), room):
            batch = source.batch([row])
            piece = ids[start : start + room]
            assert source.length(row) == len(piece) + specials <= 16
            # the special tokens are those that the tokenizer puts around a text
            before = tokenizer.cls_token_id
            head = [] if before is None else [before]
            assert batch["input_ids"][0].tolist() == [*head, *piece, framed[-1]]
            assert batch["attention_mask"].all()
            row += 1
    assert row == len(source)
    assert source.tokens_per_row == pytest.approx(
        np.mean([source.length(row) for row in range(len(source))])
    )


@every_tokenizer
def test_a_batch_of_whole_documents_is_what_the_tokenizer_makes(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    kept = [text for text in TEXTS if text]
    source = Sequences(TEXTS, tokenizer, context=200, mask_probability=0)
    assert len(source) == len(kept)
    want = tokenizer(kept, padding=True, return_tensors="pt")
    found = source.batch(range(len(source)))
    assert set(found) == {*want, "rows"}
    assert ("token_type_ids" in found) == (name == "bert")
    for column, values in want.items():
        assert torch.equal(found[column], values), column


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_masks_are_those_of_bert(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    options: dict[str, Any] = {"context": 40, "duplicates": 30}
    source = Sequences(TEXTS, tokenizer, mask_probability=0.15, **options)
    plain = Sequences(TEXTS, tokenizer, mask_probability=0, **options)
    rows = range(len(source))
    batch, before = source.batch(rows), plain.batch(rows)["input_ids"]
    ids, labels, real = batch["input_ids"], batch["labels"], batch["attention_mask"].bool()
    chosen = labels != IGNORED
    assert "labels" not in plain.batch(rows)
    assert torch.equal(labels[chosen], before[chosen])
    assert torch.equal(ids[~chosen], before[~chosen])
    special = torch.tensor(tokenizer.all_special_ids)
    assert not torch.isin(before[chosen], special).any()
    ordinary = (~torch.isin(before, special) & real).sum(1)
    assert chosen.sum(1).tolist() == [max(1, round(0.15 * n)) for n in ordinary.tolist()]
    masked = ids[chosen].eq(mask_id(tokenizer))
    same = ids[chosen].eq(before[chosen])
    other = ids[chosen][~masked & ~same]
    count = int(chosen.sum())
    assert count > 4000
    # a token drawn at random is now and then the one that stood there
    share = 0.1 / (len(tokenizer) - len(special))
    for part, expected in ((masked, 0.8), (same, 0.1 + share), (~masked & ~same, 0.1 - share)):
        error = 4 * (expected * (1 - expected) / count) ** 0.5
        assert float(part.sum()) / count == pytest.approx(expected, abs=error)
    assert not torch.isin(other, special).any()
    assert len(other.unique()) > 0.8 * (len(tokenizer) - len(special))
    # every place is as likely as any other
    places = (chosen[:, 1:] & (ordinary == 38)[:, None]).sum(0)[:38].double()
    assert places.std() < 2 * places.mean() ** 0.5


@given(seed=st.integers(0, 99), data=st.data())
def test_a_row_is_the_same_in_every_batch(seed: int, data: st.DataObject) -> None:
    source = Sequences(TEXTS, TOKENIZERS["bert"], context=16, seed=seed, duplicates=2)
    rows = data.draw(st.lists(st.integers(0, len(source) - 1), min_size=1, max_size=5))
    batch = source.batch(rows)
    assert batch["rows"].tolist() == rows
    assert batch["input_ids"].shape[1] == max(map(source.length, rows))
    for at, row in enumerate(rows):
        alone, length = source.batch([row]), source.length(row)
        for name, values in batch.items():
            if name != "rows":
                assert torch.equal(values[at, :length], alone[name][0])
        assert (batch["input_ids"][at, length:] == 0).all()
        assert (batch["attention_mask"][at, length:] == 0).all()
        assert (batch["labels"][at, length:] == IGNORED).all()


def test_seed_and_duplicate_change_the_mask_and_nothing_else() -> None:
    def labels(source: Sequences, start: int = 0) -> torch.Tensor:
        return source.batch(range(start, start + pieces))["labels"]

    one, other = (Sequences(TEXTS, TOKENIZERS["bert"], duplicates=2, seed=s) for s in (0, 1))
    again = Sequences(TEXTS, TOKENIZERS["bert"], duplicates=2, seed=0)
    pieces = len(one) // 2
    assert torch.equal(labels(one), labels(again))
    for changed in (labels(other), labels(one, pieces)):
        assert (changed != labels(one)).any()
    prints = {
        source.fingerprint()
        for source in (
            one,
            again,
            other,
            Sequences(TEXTS, TOKENIZERS["bert"], seed=0),
            Sequences(TEXTS[:-1], TOKENIZERS["bert"], duplicates=2),
            Sequences(TEXTS, TOKENIZERS["bert"], duplicates=2, context=127),
            Sequences(TEXTS, TOKENIZERS["bert"], duplicates=2, mask_probability=0.2),
            Sequences(TEXTS, TOKENIZERS["bert"], duplicates=2, max_predictions=3),
            one.select(range(5)),
        )
    }
    assert len(prints) == 7  # a context that no piece reaches makes the same rows


def test_counts_are_those_of_the_batch() -> None:
    source = Sequences(TEXTS, TOKENIZERS["bert"], context=16, max_predictions=2)
    rows = range(len(source))
    batch = source.batch(rows)
    lengths = [source.length(row) for row in rows]
    labels = (batch["labels"] != IGNORED).sum(1)
    assert source.counts(batch) == {
        "rows": len(rows),
        "tokens": sum(lengths),
        "pairs": sum(n * n for n in lengths),
        "labels": int(labels.sum()),
    }
    assert labels.max() == 2
    assert labels.min() == 1
    plain = Sequences(TEXTS, TOKENIZERS["bert"], context=16, mask_probability=0)
    assert plain.counts(plain.batch(rows))["labels"] == 0


def test_some_rows_keep_their_masks() -> None:
    source = Sequences(TEXTS, TOKENIZERS["bert"], context=16)
    some = source.select([7, 3, 20]).select([2, 0])
    found, want = some.batch([0, 1]), source.batch([20, 7])
    assert len(some) == 2
    for name in ("input_ids", "labels", "attention_mask"):
        assert torch.equal(found[name], want[name])
    assert some.tokens_per_row == (source.length(20) + source.length(7)) / 2


def test_a_row_without_ordinary_tokens_is_left_as_it_is() -> None:
    source = Sequences(["? ! ?", "a b"], TOKENIZERS["bert"])
    batch = source.batch([0, 1])
    assert batch["input_ids"][0].tolist() == [2, 1, 1, 1, 3]
    assert (batch["labels"][0] == IGNORED).all()
    assert (batch["labels"][1] != IGNORED).sum() == 1


def test_text_of_a_split(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["bert"]
    splits = {"train": TEXTS, "validation": texts(seed=1), "test": texts(seed=2)}
    data = DatasetDict({split: Dataset.from_dict({"text": t}) for split, t in splits.items()})
    for split, documents in splits.items():
        found = load_sequences(data, tokenizer, split=split, context=16, seed=3)
        want = Sequences(documents, tokenizer, context=16, seed=3)
        assert found.fingerprint() == want.fingerprint()
    with pytest.raises(ConfigError, match="split must be one of train, validation, test"):
        load_sequences(data, tokenizer, split="dev")
    with pytest.raises(DataError, match="no file or folder"):
        load_sequences(tmp_path / "none.txt", tokenizer)


def test_a_tokenizer_need_not_know_any_letter() -> None:
    raw = Tokenizer(models.BPE({"[PAD]": 0, "z": 1}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]")
    source = Sequences(["a", "az"], tokenizer, mask_probability=0)
    assert source.batch([0])["input_ids"].tolist() == [[1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 2}, "context must be at least 3, for one token and the special"),
        ({"mask_probability": 1.0}, "mask_probability must be 0 or more, and below 1"),
        ({"mask_probability": -0.1}, "mask_probability"),
        ({"max_predictions": 0}, "max_predictions must be at least 1"),
        ({"duplicates": 0}, "duplicates must be at least 1"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sequences(TEXTS, TOKENIZERS["bert"], **options)


def test_what_cannot_be_masked_or_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="'T5Tokenizer' has none; set it to 0"):
        Sequences(TEXTS, TOKENIZERS["t5"])
    with pytest.raises(DataError, match="without a single token"):
        Sequences(["", " "], TOKENIZERS["bert"])
