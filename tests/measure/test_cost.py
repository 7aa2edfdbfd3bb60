"""The cost of encoder-decoders, against a count of what torch really multiplies."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tiny
from attar.arch import Arch
from attar.measure.cost import cost_of

WIDE = {"encoder_hidden_size": 40}  # than the decoder, which reads a part of the shared table
FAMILIES = [*((family, {}) for family in tiny.ENCODER_DECODERS), ("elastic", WIDE)]


@pytest.mark.parametrize(("family", "changes"), FAMILIES)
def test_macs_are_those_that_torch_counts(family, changes):
    model: Any = tiny.encoder_decoder(family, attn_implementation="eager", **changes)
    length = 6
    ids = torch.ones(1, length, dtype=torch.long)
    given = {"input_ids": ids, "decoder_input_ids": ids, "use_cache": False}
    if family == "elastic":
        given["output_attentions"] = True  # plain products, which the counter knows
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**given)
    assert cost_of(model, context=length).macs * length * 2 == counter.get_total_flops()


@pytest.mark.parametrize("family", tiny.ENCODER_DECODERS)
def test_kv_bytes_are_those_of_a_token_on_either_side(family):
    model = tiny.encoder_decoder(family)
    arch = Arch.of(model)
    assert arch.decoder is not None
    size = arch.decoder.attention_size or 32
    spans = sum(layer.cross_attention_span or 0 for layer in arch.decoder.layers)
    assert cost_of(model).kv_bytes == 2 * size * (len(arch.decoder.layers) + spans) * 4


@pytest.mark.parametrize("family", tiny.ENCODER_DECODERS)
def test_blocks_are_the_parameters_of_both_stacks(family):
    model = tiny.encoder_decoder(family)
    inside = (".layers.", ".block.")
    named = dict(model.named_parameters())
    blocks = [p.numel() for name, p in named.items() if any(part in name for part in inside)]
    cost = cost_of(model)
    assert cost.block_params == sum(blocks) > 0
    assert cost.params == sum(p.numel() for p in named.values()) > cost.block_params
    assert cost.bytes == 4 * cost.params


def test_heads_cost_nothing_where_they_share_out_the_same_columns():
    few, many = (tiny.encoder_decoder("elastic", encoder_attention_heads=[n] * 3) for n in (2, 8))
    assert cost_of(few, context=9) == cost_of(many, context=9)
    assert Arch.of(few) == replace(Arch.of(many), layers=Arch.of(few).layers)
