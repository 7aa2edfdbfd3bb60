"""Vocabularies: exactly as large as asked for, no byte lost, small files that agree."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast, RobertaConfig

from attar.data.byte_level import ALPHABET, in_batches
from attar.data.vocabulary import (
    LEAST,
    SPECIAL_TOKENS,
    VocabularyKind,
    bytes_by_size,
    content_hash,
    cut_vocabulary,
    save_vocabulary,
    train_vocabulary,
    vocabulary_files,
)
from attar.errors import CompatibilityError, ConfigError, DataError

KINDS: list[VocabularyKind] = ["bpe", "wordpiece", "unigram"]
CODE = [
    Path(json.__file__).read_text(encoding="utf-8"),
    Path(json.decoder.__file__).read_text(encoding="utf-8"),
]
SIZE = 600
HARD = "<s>x</s> <pad>\t def f(a):\r\n\n\treturn 'über 字' #\u2028 \x00\x7f  "


@cache
def trained(
    kind: VocabularyKind, size: int = SIZE, normal: bool = False
) -> PreTrainedTokenizerFast:
    return train_vocabulary(
        CODE, size, kind=kind, lowercase=normal, collapse_spaces=normal, context=64
    )


def ids(tokenizer: PreTrainedTokenizerFast, *texts: str, **options: bool) -> list[int]:
    return tokenizer(*texts, verbose=False, **options)["input_ids"]  # pyright: ignore


@pytest.mark.parametrize("size", [LEAST, LEAST + 1, SIZE])
@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_has_exactly_as_many_entries_as_asked_for(kind, size) -> None:
    tokenizer = trained(kind, size)
    vocabulary = tokenizer.get_vocab()
    assert len(tokenizer) == tokenizer.vocab_size == len(vocabulary) == size
    assert sorted(vocabulary.values()) == list(range(size))
    by_id = sorted(vocabulary, key=vocabulary.__getitem__)
    assert by_id[:LEAST] == [*SPECIAL_TOKENS, *ALPHABET]
    names = ("bos", "pad", "eos", "unk", "cls", "sep")
    assert [getattr(tokenizer, f"{name}_token_id") for name in names] == [0, 1, 2, 3, 0, 2]
    assert tokenizer.mask_token is None
    assert tokenizer.model_max_length == 64


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@example(text=HARD)
@example(text="a" * 300 + "é" * 200 + "<" * 100)
def test_any_text_comes_back(kind, text) -> None:
    tokenizer = trained(kind)
    encoded = ids(tokenizer, text, add_special_tokens=False)
    assert tokenizer.decode(encoded) == text
    assert SPECIAL_TOKENS.index("<unk>") not in encoded or "<unk>" in text


@pytest.mark.parametrize("kind", KINDS)
def test_each_byte_is_an_entry_of_its_own(kind) -> None:
    backend = Tokenizer.from_str(vocabulary_files(trained(kind, LEAST))["tokenizer.json"])
    text = bytes(range(256)).decode("latin-1")
    symbols = [ALPHABET[i - len(SPECIAL_TOKENS)] for i in backend.encode(text).ids[1:-1]]
    assert len(symbols) == len(text.encode())  # nothing was learned


@pytest.mark.parametrize("kind", KINDS)
def test_normalised_text_is_lower_case_with_single_spaces(kind) -> None:
    tokenizer = trained(kind, normal=True)
    encoded = ids(tokenizer, "  Def\tF(A):\r\n\n  return A ", add_special_tokens=False)
    assert tokenizer.decode(encoded) == " def f(a): return a"
    within = ids(tokenizer, "x return", add_special_tokens=False)
    first = ids(tokenizer, "return", add_special_tokens=False)
    assert within[-len(first) :] == first
    assert ids(tokenizer, "", add_special_tokens=False) == []
    assert min(ids(tokenizer, "<S></S>", add_special_tokens=False)) >= len(SPECIAL_TOKENS)


def test_either_normalisation_comes_alone() -> None:
    lower = train_vocabulary(CODE, 300, lowercase=True)
    assert lower.decode(ids(lower, "A  b\n", add_special_tokens=False)) == "a  b\n"
    single = train_vocabulary(CODE, 300, collapse_spaces=True)
    assert single.decode(ids(single, "A  b\n", add_special_tokens=False)) == " A b"


@pytest.mark.parametrize("normal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_tokenizers_give_the_same_ids(tmp_path: Path, kind, normal) -> None:
    tokenizer = trained(kind, normal=normal)
    before = vocabulary_files(tokenizer)
    ids(tokenizer, HARD, truncation=True, max_length=5)  # pyright: ignore - leaves a length behind
    written = save_vocabulary(tokenizer, tmp_path)
    assert {f.name: f.read_text(encoding="utf-8") for f in tmp_path.iterdir()} == before
    assert written == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert "\\u" not in before["tokenizer.json"].replace("\\\\u", "")  # six bytes a letter
    RobertaConfig().save_pretrained(tmp_path)  # which makes transformers think of RoBERTa's own
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    alone = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for texts in [(HARD,), (CODE[0], HARD), ("",), ("a", "b")]:
        expected = ids(tokenizer, *texts)
        assert ids(loaded, *texts) == alone.encode(*texts).ids == expected
        assert list(loaded(*texts, verbose=False)) == ["input_ids", "attention_mask"]
    assert vocabulary_files(loaded) == before
    assert loaded.model_max_length == 64
    assert loaded.init_kwargs["trained_on"] == content_hash(CODE)
    tokenizer.save_pretrained(tmp_path / "plain")
    plain = AutoTokenizer.from_pretrained(tmp_path / "plain")
    assert ids(plain, HARD) == ids(tokenizer, HARD)
    assert written < sum(f.stat().st_size for f in (tmp_path / "plain").iterdir())


def test_a_pair_is_parted_as_in_roberta() -> None:
    tokenizer = trained("bpe")
    a, b = (ids(tokenizer, text, add_special_tokens=False) for text in ("import", "json"))
    assert ids(tokenizer, "import") == [0, *a, 2]
    assert ids(tokenizer, "import", "json") == [0, *a, 2, 2, *b, 2]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
@pytest.mark.parametrize("size", [LEAST, LEAST + 1, 400, SIZE])
def test_a_cut_vocabulary_is_that_of_a_shorter_training(kind, size) -> None:
    largest = trained(kind)
    files = vocabulary_files(cut_vocabulary(largest, size))
    assert files == vocabulary_files(trained(kind, size))
    assert bytes_by_size(largest)[size] == sum(len(text.encode()) for text in files.values())
    assert len(bytes_by_size(largest)) == SIZE + 1
    assert {*bytes_by_size(largest)[:LEAST]} == {bytes_by_size(largest)[LEAST]}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_vocabulary(kind) -> None:
    for _ in range(3):
        again = train_vocabulary(iter(CODE), SIZE, kind=kind, context=64)
        assert vocabulary_files(again) == vocabulary_files(trained(kind))


def test_scores_of_unigram_have_three_decimals() -> None:
    stored = json.loads(vocabulary_files(trained("unigram"))["tokenizer.json"])
    scores = [score for _, score in stored["model"]["vocab"]]
    assert scores == [round(score, 3) for score in scores]
    assert scores != [round(score, 2) for score in scores]


def test_what_occurs_once_is_learned_too() -> None:
    assert len(train_vocabulary(["hello"], LEAST + 4)) == LEAST + 4


def test_trainers_get_every_text() -> None:
    batches = list(in_batches(map(str, range(2500))))
    assert [text for batch in batches for text in batch] == [str(i) for i in range(2500)]
    assert [len(batch) for batch in batches] == [1000, 1000, 500]


def test_the_hash_tells_texts_apart() -> None:
    texts = [["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"], ["ab", "c", ""], []]
    assert len({content_hash(one) for one in texts}) == len(texts)
    assert content_hash(["ab", "c"]) == content_hash(iter(["ab", "c"]))
    assert re.fullmatch("[0-9a-f]{16}", content_hash(["ab", "c"]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_out_of_reach_is_refused_with_what_is_possible(kind) -> None:
    with pytest.raises(ConfigError, match=r"at least 260 entries .*found 259; ask for 260"):
        train_vocabulary(CODE, 259, kind=kind)
    few = ["hello world, hello words"] * 3
    with pytest.raises(DataError, match=r"vocabulary of 5000 entries, found enough") as error:
        train_vocabulary(few, 5000, kind=kind)
    most = int(str(error.value).split()[-1])
    assert len(train_vocabulary(few, most, kind=kind)) == most
    with pytest.raises(DataError, match=f"ask for a vocabulary of {most}$"):
        train_vocabulary(few, most + 1, kind=kind)
    assert len(train_vocabulary([], LEAST, kind=kind)) == LEAST


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"kind must be one of .*found 'word'"):
        train_vocabulary(CODE, 300, kind="word")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="context must be 1 or more; found 0"):
        train_vocabulary(CODE, 300, context=0)
    with pytest.raises(ConfigError, match=f"vocab_size must be {SIZE} at most; found {SIZE + 1}"):
        cut_vocabulary(trained("bpe"), SIZE + 1)
    with pytest.raises(CompatibilityError, match="of kind bpe or wordpiece to cut, found Unigram"):
        cut_vocabulary(trained("unigram"), 300)
