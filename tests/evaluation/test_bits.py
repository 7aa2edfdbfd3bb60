"""Bits per byte: the score beside what knows nothing."""

import math
from typing import Any

import pytest
import torch
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

from attar.evaluation import likelihood
from attar.evaluation.bits import bits_per_byte, unigram_bits
from attar.measure.cost import cost_of
from characters import TEXTS, documents


def test_bits_per_byte_is_the_score_beside_what_knows_nothing(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = bits_per_byte(model, tokenizer, texts=TEXTS, context=16)
    plain = likelihood.score(model, tokenizer, documents=documents(TEXTS), context=16)
    assert found.score == plain
    assert found.bits_per_byte == plain.bits_per_byte
    assert found.uniform == pytest.approx(math.log2(len(tokenizer)) * plain.tokens / plain.bytes)
    assert found.unigram < found.uniform
    assert found.ends == 3  # before the second, third and fourth text; the first is not predicted
    assert found.steps_per_kilobyte == pytest.approx(1000 * plain.tokens / plain.bytes)
    body = cost_of(model).macs - model.lm_head.weight.numel()
    assert found.flops_per_byte == pytest.approx(2 * body * plain.tokens / plain.bytes)
    both = found.flops_per_byte_with_softmax * plain.bytes / plain.tokens / 2
    assert both == pytest.approx(cost_of(model).macs)


def test_a_model_without_an_opinion_is_uniform_and_has_learned_nothing(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = bits_per_byte(model, tokenizer, texts=TEXTS)
    vocabulary = model.lm_head.weight.shape[0]
    wanted = math.log2(vocabulary) * found.score.tokens / found.score.bytes
    assert found.bits_per_byte == pytest.approx(wanted)
    assert found.learned_nothing == (vocabulary >= len(tokenizer))
    assert found.to_dict()["learned_nothing"] is found.learned_nothing


def test_models_without_a_cache_are_scored(tokenizer: PreTrainedTokenizerFast) -> None:
    shape = MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, state_size=4)
    found = bits_per_byte(MambaForCausalLM(shape), tokenizer, texts=TEXTS, context=16)
    assert found.bits_per_byte > 0


def test_the_entropy_of_ids_is_corrected_for_how_few_there_are() -> None:
    torch.manual_seed(0)
    rows = [torch.randint(0, 64, (500,)) for _ in range(50)]
    naive = [
        torch.distributions.Categorical(torch.bincount(row).float()).entropy() / math.log(2)
        for row in rows
    ]
    mended = [unigram_bits(row) for row in rows]
    assert abs(sum(mended) / 50 - 6) < 0.1 * abs(float(sum(naive)) / 50 - 6)
    assert unigram_bits(torch.zeros(10, dtype=torch.long)) == 0
