"""Where units live: every cut's rows share out its axis, and nothing that shrinks is forgotten."""

import re
from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, PreTrainedModel

import tiny
from attar.errors import CompatibilityError
from attar.families import (
    FAMILIES,
    UNITS,
    Body,
    EncoderDecoder,
    Unit,
    feed_forward_modules,
)

EVERY = sorted(FAMILIES)


def test_tiny_has_every_family() -> None:
    assert sorted([*tiny.CAUSAL, *tiny.ENCODERS]) == EVERY


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("unit", UNITS)
def test_rows_of_every_cut_share_out_its_axis(family: str, unit: Unit) -> None:
    body = Body(tiny.model(family))
    if unit == "kv_groups" and body.family.wide_norm:
        pytest.skip("these units cannot be removed")
    for layer in body.layers:
        cuts = list(layer.cuts(unit))
        assert len({cut.name for cut in cuts}) == len(cuts)
        for cut in cuts:
            size = layer.module.get_parameter(cut.name).shape[cut.axis]
            assert len(cut.rows) == layer.count(unit)
            assert torch.equal(cut.rows.flatten().sort().values, torch.arange(size)), cut.name


@pytest.mark.parametrize("family", EVERY)
def test_no_parameter_that_has_the_width_of_the_network_is_forgotten(family: str) -> None:
    changes = {"gpt2": {"n_inner": 56}, "opt": {"ffn_dim": 56}}.get(family)
    body = Body(tiny.model(family, **(changes or {"intermediate_size": 56})))
    for layer in body.layers:
        assert layer.neurons == 56
        named = {
            (name, axis)
            for name, p in layer.module.named_parameters()
            for axis, size in enumerate(p.shape)
            if size in (56, 112)
        }
        assert named == {(cut.name, cut.axis) for cut in layer.cuts("neurons")}


@pytest.mark.parametrize("family", EVERY)
def test_units_are_counted_from_the_tensors(family: str) -> None:
    model = tiny.model(family)
    body = Body(model)
    grouped = family in tiny.HEADED or family == "olmo2"
    assert body.head_dim == 32 // model.config.num_attention_heads
    for layer in body.layers:
        assert layer.neurons == layer.count("neurons") == 48
        assert layer.heads == model.config.num_attention_heads
        assert layer.kv_groups == layer.count("kv_groups") == (4 if grouped else layer.heads)
        for unit in UNITS:
            columns = layer.columns(unit)
            assert len(columns) == layer.count(unit)
            assert torch.equal(columns.flatten(), torch.arange(columns.numel()))


@pytest.mark.parametrize("family", EVERY)
def test_prefixes_name_the_layers_in_the_state(family: str) -> None:
    model = tiny.model(family)
    body = Body(model)
    for i, layer in enumerate(body.layers):
        wanted = {body.layer_prefix(i) + name for name, _ in layer.module.named_parameters()}
        assert wanted <= set(model.state_dict())
    inside = sum(p.numel() for i in range(3) for p in body.layers[i].module.parameters())
    assert body.block_parameters() == inside


@pytest.mark.parametrize("family", EVERY)
def test_maps_of_the_feed_forward_network_are_those_that_hold_neurons(family: str) -> None:
    model = tiny.model(family)
    body, found = Body(model), feed_forward_modules(model)
    assert len(found) == 3
    for i, (layer, names) in enumerate(zip(body.layers, found, strict=True)):
        assert set(names) == {body.layer_prefix(i) + c.module for c in layer.cuts("neurons")}
        assert model.get_submodule(names[-1]) is layer.mlp_out


@pytest.mark.parametrize("units", [[0], [2], [0, 3], [1, 2, 3]])
def test_kept_rows_are_those_of_the_kept_units_in_order(units: list[int]) -> None:
    layer = Body(tiny.model("phi3")).layers[0]
    fused = next(cut for cut in layer.cuts("kv_groups") if cut.module == "self_attn.qkv_proj")
    kept = fused.kept(torch.tensor(units)).tolist()
    # queries of 8 heads, then 4 keys, then 4 values, each 4 wide
    queries = [8 * u + i for u in units for i in range(8)]
    others = [32 + part + 4 * u + i for part in (0, 16) for u in units for i in range(4)]
    assert kept == queries + others


def test_a_family_that_is_not_known_is_named_with_those_that_are() -> None:
    config = BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2)
    with pytest.raises(CompatibilityError, match=r"llama.*found 'bloom' \(BloomForCausalLM\)"):
        Body(BloomForCausalLM(config))


#: a feed-forward width that nothing else in the model has, or twice it
_WIDTH = 52


def _with_neurons(family: str) -> PreTrainedModel:
    if family in tiny.ENCODER_DECODERS:
        keys = ("encoder_ffn_dim", "decoder_ffn_dim")
        changes: dict[str, Any] = (
            {"d_ff": _WIDTH} if "t5" in family else dict.fromkeys(keys, _WIDTH)
        )
        if family == "elastic":
            changes = {keys[0]: [_WIDTH] * 3, keys[1]: [_WIDTH] * 4}
        return tiny.encoder_decoder(family, **changes)
    key = {"gpt2": "n_inner", "opt": "ffn_dim"}.get(family, "intermediate_size")
    return tiny.model(family, **{key: _WIDTH})


@pytest.mark.parametrize("family", [*EVERY, *tiny.ENCODER_DECODERS])
def test_feed_forward_modules_are_all_that_have_neurons(family: str) -> None:
    model = _with_neurons(family)
    layers = feed_forward_modules(model)
    whole = [
        name
        for name, p in model.named_parameters()
        if p.dim() == 2 and {_WIDTH, 2 * _WIDTH} & set(p.shape)
    ]
    assert sorted(f"{name}.weight" for names in layers for name in names) == sorted(whole)
    assert len(layers) == (7 if family in tiny.ENCODER_DECODERS else 3)
    for names in layers:  # one layer each, the output last
        assert len({re.findall(r"\.\d+\.", name)[0] for name in names}) == 1
        weight = model.get_parameter(f"{names[-1]}.weight")
        assert weight.shape[0 if family == "gpt2" else 1] == _WIDTH
    if family in tiny.ENCODER_DECODERS:
        sides = ["encoder" if "encoder." in names[0] else "decoder" for names in layers]
        assert sides == ["encoder"] * 3 + ["decoder"] * 4


def test_an_encoder_decoder_says_which_families_there_are() -> None:
    with pytest.raises(CompatibilityError, match=r"an encoder-decoder of one of .* found 'llama'"):
        EncoderDecoder(tiny.model("llama"))
