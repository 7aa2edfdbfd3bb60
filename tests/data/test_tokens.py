"""Blocks of ids and the BPE tokenizer: nothing lost, any text back, one sentence for bad input."""

import json
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import processes
from attar.data.tokens import pack, train_bpe
from attar.errors import ConfigError, DataError
from characters import letters_behind_bos

LINES = "".join(f"line {i}: the quick brown fox, ü and 字\r\n" for i in range(4000))
CODE = "def f(x):\n    if x > 10:\n        return x * 2\n    return 0\n\n\n" * 30


def frame(texts: list[str]) -> Dataset:
    return Dataset.from_dict({"text": texts})


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_bpe(frame([CODE, LINES[:3000]]), vocab_size=300, context=16)


# --------------------------------------------------------------------------------------- pack


@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=30), context=st.integers(1, 9))
def test_blocks_joined_are_the_documents_joined(tokenizer, texts, context) -> None:
    stream: list[int] = []
    for text in filter(None, texts):
        stream += [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    whole = len(stream) // context * context
    if whole == 0:
        with pytest.raises(DataError, match="at least one block"):
            pack(frame(texts), tokenizer, context=context)
        return
    blocks = pack(frame(texts), tokenizer, context=context)["input_ids"]
    assert {len(block) for block in blocks} == {context}
    assert [token for block in blocks for token in block] == stream[:whole]


def test_documents_and_blocks_begin_with_the_bos_of_the_tokenizer() -> None:
    tokenizer = letters_behind_bos()
    a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("abcd", "efg"))
    blocks = pack(frame(["abcd", "efg"]), tokenizer, context=4)["input_ids"][:]
    stream = [1, *a, 2, 1, *b, 2]
    assert blocks == [stream[:4], [1, *stream[5:8]]]


def test_no_tail_is_lost_between_batches(tokenizer) -> None:
    texts = [f"document {i}" for i in range(2500)]
    encoded = tokenizer(texts)["input_ids"]
    stream = [token for ids in encoded for token in (*ids, tokenizer.eos_token_id)]
    blocks = pack(frame(texts), tokenizer, context=997)["input_ids"]
    assert [token for block in blocks for token in block] == stream[: len(blocks) * 997]
    assert len(blocks) == len(stream) // 997


def test_packing_is_quiet_and_plain(tokenizer, caplog, capfd) -> None:
    blocks = pack(frame([CODE * 10]), tokenizer, context=16)
    assert blocks.column_names == ["input_ids"]
    assert str(blocks.with_format("torch")[0]["input_ids"].dtype) == "torch.int64"
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_the_cache_knows_what_it_holds(tokenizer) -> None:
    documents = frame([CODE])
    first = pack(documents, tokenizer, context=8)
    tokenizer("x", truncation=True, max_length=1)  # leaves its state in the tokenizer
    again = pack(documents, tokenizer, context=8)
    assert again.cache_files == first.cache_files != []
    assert again["input_ids"][:] == first["input_ids"][:]
    other = train_bpe(frame([CODE]), vocab_size=290, context=16)
    for changed in (
        pack(documents, other, context=8),
        pack(documents, tokenizer, context=4),
        pack(frame([CODE + "x"]), tokenizer, context=8),
    ):
        assert changed.cache_files != first.cache_files


def test_a_tokenizer_without_a_separator_or_for_another_model_is_refused(tokenizer) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(DataError, match="EOS, SEP or BOS"):
        pack(frame([CODE]), bare, context=8)
    bert_like = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, sep_token="<|endoftext|>"
    )
    assert (
        pack(frame([CODE]), bert_like, context=8)["input_ids"][:]
        == pack(frame([CODE]), tokenizer, context=8)["input_ids"][:]
    )
    highest = max(max(row) for row in pack(frame([CODE]), tokenizer, context=1)["input_ids"])
    pack(frame([CODE]), tokenizer, context=8, vocab_size=highest + 1)
    with pytest.raises(DataError, match="does not fit the model"):
        pack(frame([CODE]), tokenizer, context=8, vocab_size=highest)


def test_wrong_arguments_of_pack_are_refused(tokenizer) -> None:
    with pytest.raises(ConfigError, match="context must be at least 1"):
        pack(frame([CODE]), tokenizer, context=0)
    with pytest.raises(DataError, match="found the columns body"):
        pack(Dataset.from_dict({"body": [CODE]}), tokenizer, context=8)


# ---------------------------------------------------------------------------------- tokenizer


@given(text=st.text())
@example(text="a\r\n\tb \u00a0\u2003c\u0301  \u200b\n\n  12.50€ ก็ \U0001d518 '<|endoftext|>'")
@example(text=CODE)
def test_any_text_comes_back(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_code_stays_short() -> None:
    tokenizer = train_bpe(frame([CODE]), vocab_size=400, context=16)

    def pieces(text: str) -> list[str]:
        return [str(tokenizer.decode([token])) for token in tokenizer.encode(text)]

    assert pieces("        return 0")[:2] == [" " * 7, " return"]
    assert [p.strip() for p in pieces("x > 1024")][-4:] == list("1024")
    assert len(tokenizer.encode(CODE)) < len(CODE) / 2.5


def test_special_tokens_and_lengths(tokenizer) -> None:
    assert tokenizer.eos_token == tokenizer.bos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.model_max_length == 16
    assert len(tokenizer) == 300
    assert tokenizer.eos_token_id not in tokenizer.encode("text")


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = CODE + LINES[:500] + "  don't \r\n\t<|endoftext|>"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.model_max_length == tokenizer.model_max_length
    assert (loaded.eos_token, loaded.pad_token) == (tokenizer.eos_token, tokenizer.pad_token)


def trained() -> str:
    documents = frame([CODE, LINES[:3000]])
    return train_bpe(documents, vocab_size=300, context=16).backend_tokenizer.to_str()


def test_training_repeats_in_another_process() -> None:
    assert json.loads(processes.elsewhere(trained)) == json.loads(trained())


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 257"):
        train_bpe(frame([CODE]), vocab_size=256, context=16)
