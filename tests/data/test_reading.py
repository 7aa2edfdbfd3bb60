"""How much is read: as training cuts, and the same facts however the sizes are asked for."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from attar.data.reading import VocabularyFacts, reading_of, vocabulary_facts
from attar.data.vocabulary import content_hash, train_vocabulary, vocabulary_files
from attar.errors import ConfigError, DataError

CODE = Path(json.decoder.__file__).read_text(encoding="utf-8")
TEXTS = [CODE[i : i + 90 + i % 70] for i in range(0, len(CODE), 160)]
SIZES = (300, 320, 350, 400, 480)
words = st.lists(st.sampled_from(["import ", "x", "(self)", "\n    ", "字"]), max_size=12)


@cache
def tokenizer(size: int = 400) -> PreTrainedTokenizerFast:
    return train_vocabulary(TEXTS, size, context=32)


def encoding_of(*texts: str, **options: Any) -> Encoding:
    batch: Any = [[text] for text in texts]  # an empty second text alone would be no pair
    return (tokenizer()(*batch, **options).encodings or [])[0]


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4), st.integers(6, 30), st.booleans())
def test_what_is_read_is_what_truncation_leaves(rows, context, paired) -> None:
    first, second = (["".join(row[side]) for row in rows] for side in (0, 1))
    sides = [first, second] if paired else [first]
    characters = sum(len(text) for side in sides for text in side)
    if not characters:
        return
    read = cut = tokens = 0
    for row in zip(*sides, strict=True):
        kept = encoding_of(*row, truncation=True, max_length=context)
        whole = [encoding_of(text, add_special_tokens=False, verbose=False) for text in row]
        within = [kept.sequence_ids.count(side) for side in range(len(row))]
        tokens += sum(map(len, whole))
        cut += within != list(map(len, whole))
        for text, encoding, left in zip(row, whole, within, strict=True):
            all_of_it = left == len(encoding)
            read += (
                len(text)
                if all_of_it
                else max((end for _, end in encoding.offsets[:left]), default=0)
            )
    found = reading_of(first, tokenizer(), pairs=second if paired else None, context=context)
    assert found.read == pytest.approx(read / characters)
    assert found.cut == pytest.approx(cut / len(rows))
    assert found.characters_per_token == pytest.approx(characters / max(1, tokens))


def test_a_long_context_reads_all_and_counts_bytes_of_one_token() -> None:
    plain = train_vocabulary([], 260)
    found = reading_of(["abcd", "字"], plain, context=512)
    assert (found.cut, found.read) == (0.0, 1.0)
    assert found.characters_per_token == pytest.approx(5 / 7)
    short = reading_of(["abcd", "efgh"], plain, context=4)
    assert (short.cut, short.read) == (1.0, 0.5)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_facts_are_those_of_tokenizers_trained_one_by_one(kind) -> None:
    facts = vocabulary_facts(TEXTS, SIZES, context=32, kind=kind, measured=3)
    assert facts.read_sizes == (300, 400, 480)
    assert facts.sizes == (facts.read_sizes if kind == "unigram" else SIZES)
    assert facts.most == 480
    assert facts.trained_on == content_hash(TEXTS)
    for size in facts.sizes:
        one = train_vocabulary(TEXTS, size, kind=kind, context=32)
        files = vocabulary_files(one)
        assert facts.bytes_at(size) == sum(len(text.encode()) for text in files.values())
        if size in facts.read_sizes:
            reading = reading_of(TEXTS, one, context=32)
            assert facts.readings[facts.read_sizes.index(size)] == reading
            assert facts.read_at([size]) == pytest.approx([reading.read])
            assert facts.cut_at([size]) == pytest.approx([reading.cut])
            at = facts.characters_per_token_at([size])
            assert at == pytest.approx([reading.characters_per_token])


def test_facts_between_sizes_are_between_theirs() -> None:
    facts = vocabulary_facts(TEXTS, SIZES, context=32, measured=2)
    grid = np.arange(300, 481, 20)
    for curve in (facts.bytes_at(grid), facts.read_at(grid), facts.characters_per_token_at(grid)):
        assert curve.shape == grid.shape
        assert (np.diff(curve) > 0).all()
    middle = float(facts.read_at(round((300 * 480) ** 0.5)))
    assert middle == pytest.approx((facts.readings[0].read + facts.readings[1].read) / 2, abs=1e-3)


def test_facts_survive_json() -> None:
    facts = vocabulary_facts(TEXTS, SIZES, context=32)
    assert VocabularyFacts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts


def test_pairs_are_learned_from_and_read_together() -> None:
    facts = vocabulary_facts(TEXTS[::2], SIZES, pairs=TEXTS[1::2], context=64)
    assert facts.trained_on == content_hash(TEXTS[::2] + TEXTS[1::2])
    both = train_vocabulary(TEXTS[::2] + TEXTS[1::2], 300)
    assert facts.readings[0] == reading_of(TEXTS[::2], both, pairs=TEXTS[1::2], context=64)


def test_a_sample_is_spread_over_the_texts() -> None:
    facts = vocabulary_facts(TEXTS, (300,), context=32, sample=2)
    some = reading_of([TEXTS[0], TEXTS[-1]], train_vocabulary(TEXTS, 300), context=32)
    assert facts.readings == (some,)
    pairs = [text.upper() for text in TEXTS]
    both = train_vocabulary(TEXTS + pairs, 300)
    ends = [TEXTS[0], TEXTS[-1]]
    some = reading_of(ends, both, pairs=[text.upper() for text in ends], context=64)
    facts = vocabulary_facts(TEXTS, (300,), pairs=pairs, context=64, sample=2)
    assert facts.readings == (some,)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_facts_are_of_texts_as_they_are_normalised(kind) -> None:
    options: Any = {"kind": kind, "context": 32, "lowercase": True, "collapse_spaces": True}
    facts = vocabulary_facts(TEXTS, (300, 350), measured=2, **options)
    for size, reading in zip(facts.read_sizes, facts.readings, strict=True):
        one = train_vocabulary(TEXTS, size, **options)
        assert reading == reading_of(TEXTS, one, context=32)
        files = vocabulary_files(one)
        assert facts.bytes_at(size) == sum(len(text.encode()) for text in files.values())


def test_what_is_read_does_not_depend_on_how_many_are_read_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = reading_of(TEXTS, tokenizer(), pairs=TEXTS[::-1], context=40)
    assert 0 < whole.read < 1
    monkeypatch.setattr("attar.data.reading._ROWS", 5)
    encoding_of("import json", truncation=True, max_length=3)  # which leaves a length behind
    assert reading_of(TEXTS, tokenizer(), pairs=TEXTS[::-1], context=40) == whole


def test_sizes_that_the_texts_are_too_few_for_are_left_out() -> None:
    facts = vocabulary_facts(TEXTS[:3], (300, 50_000), context=32)
    assert (facts.sizes, facts.most) == ((300,), 300)
    with pytest.raises(DataError, match="bpe vocabulary of 9000 entries or more, found"):
        vocabulary_facts(TEXTS[:3], (9000,), context=32)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(DataError, match="expected texts to read, found none with a character"):
        reading_of(["", ""], tokenizer(), context=32)
    with pytest.raises(ConfigError, match="context must be 6 or more; found 5"):
        reading_of(["a"], tokenizer(), pairs=["b"], context=5)
    with pytest.raises(ConfigError, match="sizes must be 260 or more; found 200"):
        vocabulary_facts(TEXTS, (200, 300), context=32)
    with pytest.raises(ConfigError, match="sizes must be one number of entries or more"):
        vocabulary_facts(TEXTS, (), context=32)
