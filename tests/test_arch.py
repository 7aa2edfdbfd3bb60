"""An `Arch` is read from tensors, hashable, and survives JSON and the config."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from attar import checkpoint
from attar.arch import Arch, LayerShape, layer_keys
from attar.families import FAMILIES, Body
from attar.slicing import LayerKeep, SlicePlan, slice_model

SHAPES = st.builds(LayerShape, st.integers(1, 64), st.integers(1, 8), st.integers(1, 4096))
WIDTHS = st.none() | st.integers(1, 4096)
ARCHS = st.builds(Arch, st.lists(SHAPES, max_size=6).map(tuple), WIDTHS, WIDTHS, WIDTHS)


@pytest.mark.parametrize("family", [*tiny.CAUSAL, *tiny.ENCODERS])
def test_of_reads_what_the_config_says(family: str) -> None:
    model = tiny.model(family)
    heads = model.config.num_attention_heads
    groups = 4 if family in tiny.HEADED or family == "olmo2" else heads
    assert Arch.of(model).layers == (LayerShape(heads, groups, 48),) * 3


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_of_reads_the_tensors_of_a_cut_model(family: str) -> None:
    keeps = (LayerKeep(0, (1, 3), tuple(range(10))), LayerKeep(2, (0,), tuple(range(5, 48))))
    arch = Arch.of(slice_model(tiny.model(family), SlicePlan(keeps)))
    assert arch.layers == (LayerShape(4, 2, 10), LayerShape(2, 1, 43))
    assert not arch.uniform


@given(ARCHS)
def test_json_round_trip(arch: Arch) -> None:
    again = Arch.from_json(arch.to_json())
    assert again == arch
    assert hash(again) == hash(arch)


@given(ARCHS)
def test_json_of_earlier_versions_is_read(arch: Arch) -> None:
    earlier = json.dumps(arch.to_dict()["layers"])
    assert Arch.from_json(earlier) == Arch(arch.layers)


@given(SHAPES, SHAPES, st.integers(1, 4))
def test_uniform_means_one_shape(one: LayerShape, other: LayerShape, count: int) -> None:
    assert Arch((one,) * count).uniform
    assert Arch((*(one,) * count, other)).uniform == (one == other)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_overrides_are_keys_that_the_familys_config_has(family: str) -> None:
    model = tiny.model(family)
    overrides = Arch.of(model).overrides(Body(model).family)
    assert sorted(overrides) == [0, 1, 2]
    for keys in overrides.values():
        for key, value in keys.items():
            assert getattr(model.config, key) == value, key


def test_heads_are_overridden_only_where_they_can_go() -> None:
    shape = LayerShape(8, 4, 48)
    assert layer_keys(shape, FAMILIES["gpt2"]) == {"n_inner": 48}
    assert layer_keys(shape, FAMILIES["opt"]) == {"ffn_dim": 48}
    assert layer_keys(shape, FAMILIES["qwen3"]) == {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 48,
    }


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text"])
def test_an_arch_that_was_uniform_on_the_way_can_be_written(family: str, tmp_path: Path) -> None:
    # six heads in every layer, which the config class refuses at width 32, then other widths
    model = tiny.model(family)
    for lost in (0, 8):
        keeps = (LayerKeep(i, (0, 1, 2), tuple(range(48 - lost * i))) for i in range(3))
        model = slice_model(model, SlicePlan(tuple(keeps)), in_place=True)
    arch = Arch.of(model)
    assert not arch.uniform
    checkpoint.save(model, tmp_path)
    assert Arch.of(checkpoint.load(tmp_path)) == arch
