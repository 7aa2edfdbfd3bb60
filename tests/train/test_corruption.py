"""Span corruption takes nothing from the text, and draws the same spans whatever else is drawn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from attar.errors import CompatibilityError, ConfigError, DataError
from attar.train.corruption import (
    IGNORED,
    SpanLengths,
    T5SpanCorruptionCollator,
    noise_mask,
    sentinel_ids,
    span_lengths,
)
from spans import tokenizer


def rows(count: int, length: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [{"input_ids": rng.integers(2, 100, length), "draw": i} for i in range(count)]


def reassembled(inputs: list[int], labels: list[int], marks: list[int]) -> list[int]:
    """The text, with each sentinel replaced by its span; both must end with the end."""
    assert inputs[-1] == labels[-1] == 1
    spans: dict[int, list[int]] = {}
    for i in labels[:-1]:
        if i in marks:
            now = spans.setdefault(i, [])
        else:
            now.append(i)
    assert list(spans) == marks[: len(spans)]
    assert [i for i in inputs if i in marks] == list(spans)
    assert all(spans.values())
    return [j for i in inputs[:-1] for j in spans.get(i, [i])]


@pytest.mark.parametrize(("length", "raw", "targets"), [(512, 568, 114), (128, 141, 29)])
def test_published_lengths(length, raw, targets):
    found = span_lengths(length)
    assert (found.raw, found.inputs, found.targets) == (raw, length, targets)


@given(length=st.integers(4, 300), density=st.floats(0.01, 0.99), span=st.floats(1, 20))
def test_the_longest_row_that_fits_is_found(length, density, span):
    found = span_lengths(length, noise_density=density, mean_span=span)
    longer = SpanLengths.of(found.raw + 1, noise_density=density, mean_span=span)
    assert found.inputs <= length < longer.inputs


@given(
    raw=st.integers(2, 200),
    density=st.floats(0.01, 0.9),
    span=st.floats(1, 10),
    seed=st.integers(0, 99),
    roll=st.booleans(),
)
def test_masks_have_the_promised_tokens_and_spans(raw, density, span, seed, roll):
    lengths = SpanLengths.of(raw, noise_density=density, mean_span=span)
    mask = noise_mask(lengths, np.random.default_rng(seed), roll=roll)
    starts = np.flatnonzero(np.diff(mask.astype(int), prepend=0) == 1)
    assert (len(mask), mask.sum(), len(starts)) == (raw, lengths.noise, lengths.spans)
    if not roll:
        assert mask[-1]
        assert not mask[0]


@given(
    sizes=st.lists(st.integers(2, 141), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    roll=st.booleans(),
    descending=st.booleans(),
)
def test_the_text_can_be_put_together_again(sizes, seed, roll, descending):
    words = tokenizer(descending=descending)
    collator = T5SpanCorruptionCollator(
        words, input_length=128, roll=roll, seed=seed, mask_share=0.15
    )
    given_rows = [rows(1, size, seed)[0] for size in sizes]
    batch = collator(given_rows)
    marks = sentinel_ids(words)
    for at, row in enumerate(given_rows):
        inputs = batch["input_ids"][at][batch["attention_mask"][at] == 1].tolist()
        labels = [i for i in batch["labels"][at].tolist() if i != IGNORED]
        assert reassembled(inputs, labels, marks) == row["input_ids"].tolist()
        masked = [i for i in batch["masked"][at].tolist() if i >= 0]
        text = [i for i in inputs if i not in (1, *marks)]
        assert len(set(masked)) == len(masked) == round(0.15 * len(text))
        assert all(inputs[place] not in (1, *marks) for place in masked)


def test_full_rows_have_fixed_shapes_and_no_padding():
    batch = T5SpanCorruptionCollator(tokenizer(), input_length=128)(rows(8, 141))
    assert batch["input_ids"].shape == (8, 128)
    assert batch["labels"].shape == (8, 29)
    assert batch["attention_mask"].all()
    assert (batch["labels"] != IGNORED).all()


def test_the_spans_stay_when_more_is_drawn():
    plain = T5SpanCorruptionCollator(tokenizer(), input_length=128)(rows(8, 141))
    more = T5SpanCorruptionCollator(tokenizer(), input_length=128, mask_share=0.3)(rows(8, 141))
    for name, values in plain.items():
        assert torch.equal(values, more[name])


def test_draws_depend_on_the_number_of_a_row_and_the_seed():
    ids = rows(1, 141)[0]["input_ids"]

    def inputs(draw: int | None, seed: int = 0, collator=None) -> list[int]:
        collator = collator or T5SpanCorruptionCollator(tokenizer(), input_length=128, seed=seed)
        row = {"input_ids": ids} if draw is None else {"input_ids": ids, "draw": draw}
        return collator([row])["input_ids"][0].tolist()

    assert inputs(3) == inputs(3)
    assert inputs(3) != inputs(4)
    assert inputs(3) != inputs(3, seed=1)
    counting = T5SpanCorruptionCollator(tokenizer(), input_length=128)
    assert inputs(None, collator=counting) != inputs(None, collator=counting)


def test_rolled_rows_do_not_always_hide_their_end():
    lengths = span_lengths(128)
    rng = np.random.default_rng(0)
    ends = np.mean([noise_mask(lengths, rng)[-1] for _ in range(1000)])
    assert 0.02 < ends < 0.3
    assert all(noise_mask(lengths, rng, roll=False)[-1] for _ in range(100))


def test_workers_draw_differently():
    row = {"input_ids": rows(1, 141)[0]["input_ids"]}
    collator = T5SpanCorruptionCollator(tokenizer(), input_length=128)
    loader = DataLoader([row] * 8, batch_size=1, num_workers=2, collate_fn=collator)
    seen = {tuple(batch["input_ids"][0].tolist()) for batch in loader}
    assert len(seen) == 8
    assert not seen & {tuple(batch["input_ids"][0].tolist()) for batch in loader}  # the next pass


def test_padding_may_be_the_end_of_a_document_within_a_row():
    collator = T5SpanCorruptionCollator(tokenizer(pad_token="</s>"), input_length=128)
    batch = collator([{"input_ids": [5, 6, 1, 7, 8, 9]}, {"input_ids": [5, 6]}])
    assert batch["attention_mask"].sum(1).tolist() == [7, 3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (tokenizer(3), "has 7 spans.* has 3: add them"),
        (tokenizer(0), "has 0: add them"),
        (tokenizer(pad_token=None), "no pad_token"),
        (tokenizer(eos_token=None), "no eos_token"),
    ],
)
def test_tokenizers_that_cannot_mark_spans_are_refused(words, said):
    with pytest.raises(CompatibilityError, match=said):
        T5SpanCorruptionCollator(words, input_length=128)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([5], "rows of 2 tokens or more"),
        ([], "rows of 2 tokens or more"),
        (list(range(2, 90)) * 2, "at most 141 tokens.*found one of 176"),
        ([5, 6, 100], "sentinel or padding"),
        ([5, 6, 0], "sentinel or padding"),
    ],
)
def test_rows_that_cannot_be_corrupted_are_refused(ids, said):
    collator = T5SpanCorruptionCollator(tokenizer(), input_length=128)
    with pytest.raises(DataError, match=said):
        collator([{"input_ids": ids}])


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_length": 3},
        {"noise_density": 0.0},
        {"noise_density": 1.0},
        {"mean_span": 0.5},
        {"mask_share": 1.0},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        T5SpanCorruptionCollator(tokenizer(), **wrong)
