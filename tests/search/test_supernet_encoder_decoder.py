"""The networks of a space like HAT's are slices of one parent: run, trained and extracted alike."""

import re
from pathlib import Path
from typing import Literal

import pytest
import torch

import tiny
from attar.arch import Arch, Space
from attar.checkpoint import load, save
from attar.measure.cost import cost_of
from attar.search.supernet import Draws, Supernet

OWN = ("num_attention_heads", "intermediate_size")
CROSS = ("cross_attention_heads", "cross_attention_span")
DECODER = Space(
    (1, 2, 4),
    (24, 32),
    (2, 4),
    (16, 48),
    attention_size=(16,),
    cross_attention_heads=(2, 4),
    cross_attention_span=(1, 2, 3),
    per_layer=(*OWN, *CROSS),
)
SPACE = Space(
    (3,), (24, 32), (2, 4), (16, 48), attention_size=(16,), per_layer=OWN, decoder=DECODER
)
INPUTS = {
    "input_ids": tiny.ids(2, 7),
    "attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
    "labels": tiny.ids(2, 5, seed=1),
}


def supernet() -> Supernet:
    return Supernet(tiny.encoder_decoder("elastic"), SPACE, depth="first").eval()


def test_extracted_equals_functional(tmp_path: Path) -> None:
    net = supernet()
    for index, arch in enumerate(Draws(SPACE, n_random=4).at(0)):
        extracted = net.extract(arch)
        expected = extracted(**INPUTS)
        got = net(arch, **INPUTS)
        assert torch.equal(got.logits, expected.logits)
        assert torch.equal(got.loss, expected.loss)
        base = net(arch, base=True, **{k: v for k, v in INPUTS.items() if k != "labels"},
                   decoder_input_ids=INPUTS["labels"])  # fmt: skip
        assert base.last_hidden_state.shape == (2, 5, arch.decoder and arch.decoder.hidden_size)
        folder = tmp_path / str(index)
        save(extracted, folder)
        again = load(folder)
        assert torch.equal(again(**INPUTS).logits, expected.logits)
        assert cost_of(again, context=7) == cost_of(extracted, context=7)
    assert torch.equal(net(SPACE.largest, **INPUTS).loss, net.parent(**INPUTS).loss)


def test_a_step_moves_the_slice_alone() -> None:
    net, arch = supernet(), SPACE.smallest
    net(arch, **INPUTS).loss.backward()
    touched: dict[str, torch.Tensor] = {}
    for where in net.child(arch).slices.values():
        parameter = net.parent.get_parameter(where.name)
        mask = touched.setdefault(where.name, torch.ones_like(parameter, dtype=torch.bool))
        part = torch.arange(parameter.numel()).view(parameter.shape)
        mask.view(-1)[where.of(part).flatten()] = False
    for name, parameter in net.parent.named_parameters():
        if name not in touched:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            assert not parameter.grad[touched[name]].any()
            assert parameter.grad[~touched[name]].any()


@pytest.mark.parametrize(("depth", "kept"), [("first", {0, 1}), ("spread", {0, 2})])
def test_which_layers_a_shallower_decoder_has(
    depth: Literal["first", "spread"], kept: set[int]
) -> None:
    net = Supernet(tiny.encoder_decoder("elastic"), SPACE, depth=depth)
    genes = list(SPACE.genes_of(SPACE.largest))
    genes[-len(DECODER.choices)] = DECODER.num_hidden_layers.index(2)
    slices = net.child(SPACE.decode(genes)).slices.values()
    names = [re.search(r"decoder\.layers\.(\d+)", where.name) for where in slices]
    assert {int(name[1]) for name in names if name} == kept


@pytest.mark.parametrize("family", ["t5", "marian"])
def test_stock_encoder_decoders_are_supernets_too(family: str) -> None:
    parent = tiny.encoder_decoder(family)
    whole = Arch.of(parent)
    assert whole.decoder is not None
    shape, other = whole.layers[0], whole.decoder.layers[0]
    decoder = Space(
        (2, 4), (32,), (4,), (other.intermediate_size,), head_dim=(8,),
        cross_attention_heads=(4,), cross_attention_span=(1,),
    )  # fmt: skip
    space = Space(
        (1, 2, 3), (32,), (4,), (shape.intermediate_size,), head_dim=(8,), decoder=decoder
    )
    net = Supernet(parent, space).eval()
    for arch in space.enumerate():
        extracted = net.extract(arch)
        assert type(extracted) is type(parent)
        assert torch.equal(extracted(**INPUTS).logits, net(arch, **INPUTS).logits)
        assert space.contains(Arch.of(extracted))
