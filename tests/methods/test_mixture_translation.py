"""Mixture-of-Supernets on an encoder-decoder: what is taken out is a plain translation model."""

from typing import Literal

import pytest
import torch

import tiny
from attar.arch import Space
from attar.checkpoint import load, save
from attar.measure.cost import cost_of
from attar.methods.mixture_of_supernets import MixtureConfig, collapse, mixture_of_supernets

OWN = ("num_attention_heads", "intermediate_size")
DECODER = Space(
    (1, 2, 4),
    (24, 32),
    (2, 4),
    (16, 48),
    attention_size=(16,),
    cross_attention_heads=(2, 4),
    cross_attention_span=(1, 2, 3),
    per_layer=(*OWN, "cross_attention_heads", "cross_attention_span"),
)
SPACE = Space(
    (3,), (24, 32), (2, 4), (16, 48), attention_size=(16,), per_layer=OWN, decoder=DECODER
)
INPUTS = {"input_ids": tiny.ids(2, 7), "decoder_input_ids": tiny.ids(2, 5, seed=1)}


@pytest.mark.parametrize("router", ["neuron", "layer"])
def test_a_collapsed_network_is_dense_and_computes_the_same(
    router: Literal["neuron", "layer"], tmp_path
) -> None:
    config = MixtureConfig(router=router, init="random")
    parent = tiny.encoder_decoder("elastic")
    net = mixture_of_supernets(parent, SPACE, config=config, depth="first").eval()
    sizes = []
    for index, arch in enumerate((SPACE.smallest, SPACE.largest)):
        dense = collapse(net, arch)
        torch.testing.assert_close(net(arch, **INPUTS).logits, dense(**INPUTS).logits)
        save(dense, tmp_path / str(index))
        again = load(tmp_path / str(index))
        assert torch.equal(again(**INPUTS).logits, dense(**INPUTS).logits)
        sizes.append(cost_of(again).params)
    assert sizes[1] == sum(p.numel() for p in parent.parameters())  # experts and routers are gone
    assert sizes[0] < sizes[1]
    net(SPACE.largest, **INPUTS).logits.sum().backward()
    assert all(p.grad is not None for p in net.providers.parameters())
