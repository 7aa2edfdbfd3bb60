"""Packed conversations: each is read as if it stood alone."""

from itertools import pairwise

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

import talk
import tiny
from attar.data.chats import load_documents
from attar.data.packing import Conversations, fill_rows, keeps_apart
from attar.data.sources import inputs_of
from attar.errors import DataError

APART = [family for family in tiny.CAUSAL if family != "opt"]


@pytest.fixture(scope="module")
def rows() -> Dataset:
    return load_documents(talk.rows(), talk.tokenizer())["train"]


def alone(rows: Dataset, context: int) -> dict[tuple[int, ...], list[bool]]:
    return {
        tuple(row["input_ids"][:context]): row["assistant_masks"][:context]
        for row in rows
        if any(row["assistant_masks"][1:context])
    }


def unpacked(source: Conversations) -> dict[tuple[int, ...], list[bool]]:
    """The conversations of a source, as the positions that begin again tell them."""
    found = {}
    batch = source.batch(range(len(source)))
    for ids, mask, positions in zip(
        batch["input_ids"], batch["mask"], batch["position_ids"], strict=True
    ):
        starts = [*torch.nonzero(positions == 0).flatten().tolist(), len(ids)]
        for start, end in pairwise(starts):
            if mask[start:end].any():
                found[tuple(ids[start:end].tolist())] = mask[start:end].tolist()
    return found


@pytest.mark.parametrize("context", [40, 64, 500])
def test_rows_hold_every_conversation_once_and_whole(rows: Dataset, context: int) -> None:
    source = Conversations(rows, context=context, packed=True)
    assert source.width <= context
    assert unpacked(source) == alone(rows, context)
    assert len(source) < len(rows)
    assert source.conversations == len(alone(rows, context))
    batch = source.batch(range(len(source)))
    expected = sum(sum(mask) for mask in alone(rows, context).values())
    assert source.counts(batch) == {"tokens": expected}


@pytest.mark.parametrize("family", APART)
def test_a_packed_conversation_is_read_as_if_it_were_alone(rows: Dataset, family: str) -> None:
    model = tiny.model(family, vocab_size=talk.VOCAB)
    assert keeps_apart(model)
    source = Conversations(rows, context=64, packed=True)
    batch = source.batch([0, 1])
    with torch.no_grad():
        packed = model(**inputs_of(batch), use_cache=False).logits
        starts = [(row, int(at)) for row, at in torch.nonzero(batch["position_ids"] == 0)]
        assert len(starts) > 2
        for row, start in starts:
            ends = [at for other, at in starts if other == row and at > start]
            end = min(ends, default=source.width)
            lone = model(input_ids=batch["input_ids"][row : row + 1, start:end], use_cache=False)
            torch.testing.assert_close(packed[row, start:end], lone.logits[0], atol=1e-4, rtol=1e-4)


def test_models_that_mix_packed_conversations_are_known(rows: Dataset) -> None:
    assert not keeps_apart(tiny.model("opt"))  # it is given positions, but masks nothing by them
    bloom = AutoConfig.for_model("bloom", hidden_size=32, n_layer=2, n_head=4, vocab_size=64)
    assert not keeps_apart(AutoModelForCausalLM.from_config(bloom))
    source = Conversations(rows, context=64, packed=False)
    assert len(source) == len(rows)
    assert set(source.batch([0])) == {"input_ids", "mask", "rows"}


def test_what_is_cut_is_told(rows: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    whole = Conversations(rows, context=500, packed=True)
    assert not caplog.text
    source = Conversations(rows, context=30, packed=True)
    assert "are longer than 30 tokens and are truncated" in caplog.text
    assert source.fingerprint() != whole.fingerprint()
    assert whole.select([1]).fingerprint() != whole.select([0]).fingerprint()
    with pytest.raises(DataError, match="raise context"):
        Conversations(rows, context=3, packed=True)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_rows_arefill_rows_within_their_room(lengths: list[int]) -> None:
    filled = fill_rows(range(len(lengths)), lengths, room=20)
    assert sorted(i for row in filled for i in row) == list(range(len(lengths)))
    used = [sum(lengths[i] for i in row) for row in filled]
    assert max(used) <= 20
    assert sum(u <= 10 for u in used) <= 1  # two half-empty rows would be one
