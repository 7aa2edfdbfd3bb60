"""An `Arch` is read from tensors, hashable, and survives JSON and the config; a `Space` counts
right.
"""

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from attar import checkpoint
from attar.arch import Arch, LayerShape, PerLayer, Space, layer_keys
from attar.errors import ConfigError
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
    assert Arch.of(model) == Arch((LayerShape(heads, groups, 48),) * 3, 32, 32 // heads, 64)


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


# ------------------------------------------------------------------------------------------ spaces

RATIOS = st.sets(st.sampled_from([0.5, 1.0, 2.0, 2.5, 3.0]), min_size=1, max_size=3)


def some(*values: int, most: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    chosen = st.sets(st.sampled_from(values), min_size=1, max_size=most)
    return chosen.map(lambda found: tuple(sorted(found)))


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    heads = draw(some(1, 2, 4, 8))
    ratio = draw(st.booleans())
    names: list[PerLayer] = ["num_attention_heads", "intermediate_size"]
    per_layer = draw(st.sets(st.sampled_from(names)))
    return Space(
        num_hidden_layers=draw(some(1, 2, 3)),
        hidden_size=draw(some(16, 24, 32, 64)),
        num_attention_heads=heads,
        intermediate_size=() if ratio else draw(some(8, 16, 100)),
        intermediate_ratio=tuple(sorted(draw(RATIOS))) if ratio else (),
        num_key_value_heads=tuple((n + 1) // 2 for n in heads) if draw(st.booleans()) else (),
        head_dim=draw(some(4, 8)) if "num_attention_heads" in per_layer else (),
        vocab_size=draw(st.just(()) | some(100, 200)),
        per_layer=tuple(sorted(per_layer)),
    )


@given(spaces(), st.integers(0, 9))
def test_a_space_has_as_many_members_as_it_says(space: Space, seed: int) -> None:
    members = list(itertools.islice(space.enumerate(), 3000))
    if space.size <= 3000:
        assert len(set(members)) == len(members) == space.size
        assert {space.smallest, space.largest, space.sample(random.Random(seed))} <= set(members)
    assert all(space.contains(arch) for arch in members[:200])
    assert members[0] == space.smallest
    assert space.contains(space.largest)
    assert space.sample(random.Random(seed)) == space.sample(random.Random(seed))


@given(spaces())
def test_spaces_survive_json_and_know_who_is_outside(space: Space) -> None:
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert hash(again) == hash(space)
    arch = space.largest
    for other in (
        replace(arch, layers=arch.layers * 4),
        replace(arch, hidden_size=20),
        replace(arch, hidden_size=None),
        replace(arch, head_dim=7),
        replace(arch, layers=(replace(arch.layers[0], intermediate_size=7), *arch.layers[1:])),
        replace(arch, layers=(replace(arch.layers[0], num_attention_heads=3), *arch.layers[1:])),
    ):
        assert not space.contains(other)
    assert space.contains(replace(arch, vocab_size=7)) == (not space.vocab_size)


def test_layers_that_must_be_alike_are_asked_to_be() -> None:
    space = Space((2,), (16,), (2, 4), (8, 16), head_dim=(4,))
    mixed = Arch((LayerShape(2, 2, 8), LayerShape(4, 4, 16)), 16, 4)
    assert not space.contains(mixed)
    assert replace(space, per_layer=("num_attention_heads", "intermediate_size")).contains(mixed)
    assert (space.size, replace(space, per_layer=("intermediate_size",)).size) == (4, 8)


def test_the_spaces_of_the_papers_have_their_sizes() -> None:
    tiny_ = {
        "num_hidden_layers": {"min": 4, "max": 7, "step": 1},
        "num_attention_heads": [7, 8, 9, 10],
        "hidden_size": {"min": 128, "max": 224, "step": 32},
        "intermediate_ratio": [2, 2.5, 3, 3.5],
        "head_dim": 64,
    }
    autodistil = Space.from_dict(tiny_)
    assert autodistil.size == 256
    assert autodistil.contains(Arch((LayerShape(10, 10, 560),) * 7, 160, 64, 30522))
    assert autodistil.largest == Arch((LayerShape(10, 10, 784),) * 7, 224, 64)
    compressor = Space.from_dict(
        {
            "vocab_size": {"min": 1000, "max": 50000, "step": 1000},
            "num_attention_heads": [1, 2, 4, 8],
            "hidden_size": {"min": 16, "max": 768, "step": 16},
            "intermediate_size": {"min": 32, "max": 3040, "step": 32},
            "num_hidden_layers": {"min": 1, "max": 12, "step": 1},
        }
    )
    assert compressor.size == 10_944_000
    assert compressor.to_dict()["hidden_size"] == {"min": 16, "max": 768, "step": 16}
    homogeneous = Space(
        (6, 9, 12), tuple(range(120, 769, 24)), (6, 12), intermediate_ratio=(2, 2.5, 3, 3.5, 4)
    )
    assert homogeneous.size == 840


DECODER: dict[str, object] = {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "cross_attention_heads": 2,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": []}, "num_hidden_layers must be at least one value"),
        ({"hidden_size": [32, 16]}, "rising order"),
        ({"hidden_size": [16, 16]}, "each once"),
        ({"num_attention_heads": [0, 2]}, "positive whole numbers"),
        ({"intermediate_size": [8.5]}, "positive whole numbers"),
        ({"intermediate_ratio": [2]}, "not both"),
        ({"intermediate_size": [], "intermediate_ratio": [2, 2.01]}, "different widths"),
        ({"num_key_value_heads": [1]}, "one divisor for each"),
        ({"num_key_value_heads": [1, 3]}, "one divisor for each"),
        ({"hidden_size": [18]}, "18 does not divide by 4"),
        ({"per_layer": ["num_attention_heads"]}, "head_dim must be given"),
        ({"per_layer": ["head_dim"]}, "run through the network"),
        ({"per_layer": ["hidden_size"], "head_dim": [8]}, "head_dim must be empty"),
        ({"per_layer": ["cross_attention_span"]}, "cross_attention_span has none"),
        ({"attention_size": [18]}, "every number of heads divides"),
        ({"decoder": 3}, "decoder must be a space"),
        ({"decoder": DECODER | {"cross_attention_span": [1, 3]}}, "at most 2.*encoder; found 3"),
        ({"cross_attention_heads": [2]}, "together"),
        ({"width": [1]}, "one of"),
        ({"hidden_size": {"min": 16, "max": 32}}, "min, max, step"),
        ({"hidden_size": {"min": 16, "max": 32, "step": 0}}, "min, max, step"),
    ],
)
def test_spaces_that_are_none_say_why(changes: dict[str, object], words: str) -> None:
    fine = {
        "num_hidden_layers": 2,
        "hidden_size": [16, 32],
        "num_attention_heads": [2, 4],
        "intermediate_size": [8],
    }
    Space.from_dict(fine)
    with pytest.raises(ConfigError, match=words) as caught:
        Space.from_dict(fine | changes)
    assert "\n" not in str(caught.value)


HAT = Space(
    (2,),
    (24, 32),
    (2, 4),
    (16, 32),
    attention_size=(16,),
    per_layer=("num_attention_heads", "intermediate_size"),
    decoder=Space(
        (1, 2),
        (24, 32),
        (2, 4),
        (16, 32),
        attention_size=(16,),
        cross_attention_heads=(2, 4),
        cross_attention_span=(1, 2),
        per_layer=(
            "num_attention_heads",
            "intermediate_size",
            "cross_attention_heads",
            "cross_attention_span",
        ),
    ),
)
SUPERSHAPER = Space(
    (2, 3), (12, 24, 36), (6,), intermediate_ratio=(2, 4), per_layer=("hidden_size",)
)


@given(spaces() | st.just(HAT) | st.just(SUPERSHAPER), st.integers(0, 99))
def test_genes_and_encodings_tell_architectures_apart(space: Space, seed: int) -> None:
    rng = random.Random(seed)
    archs = {space.sample(rng) for _ in range(20)} | {space.smallest, space.largest}
    for arch in archs:
        genes = space.genes_of(arch)
        assert space.decode(genes) == arch
        assert all(0 <= gene < count for gene, count in zip(genes, space.choices, strict=True))
    codes = {arch: space.encode(arch) for arch in archs}
    assert len(set(codes.values())) == len(archs)
    assert all(0 <= number <= 1 for code in codes.values() for number in code)
    assert set(codes[space.smallest]) == {0.0}
    assert max(codes[space.largest]) <= 1


def test_networks_that_differ_in_depth_alone_have_other_encodings() -> None:
    space = Space((2, 3, 4), (16,), (2,), (8, 16), per_layer=("intermediate_size",))
    codes = {space.encode(arch) for arch in space.enumerate()}
    assert len(codes) == space.size == 4 + 8 + 16


def test_a_product_that_rounding_leaves_below_a_whole_number_is_that_number() -> None:
    # 100 * 0.29 is 28.999999999999996
    space = Space((1,), (100,), (4,), intermediate_ratio=(0.29, 3.999))
    shapes = [arch.layers[0].intermediate_size for arch in space.enumerate()]
    assert shapes == [29, 399]
    assert [space.genes_of(arch)[-1] for arch in space.enumerate()] == [0, 1]


def test_spaces_of_encoder_decoders_and_bottlenecks() -> None:
    assert HAT.size == 2 * 4**2 * 2 * (16 + 16**2)
    decoder = HAT.largest.decoder
    assert decoder is not None
    assert decoder.layers[0] == LayerShape(4, 4, 32, None, 4, 2)
    assert HAT.largest.attention_size == 16
    assert SUPERSHAPER.size == 2 * (9 + 27)
    assert SUPERSHAPER.smallest == Arch((LayerShape(6, 6, 24, 12),) * 2, 36)
    for space in (HAT, SUPERSHAPER):
        arch = space.sample(random.Random(1))
        assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
        assert Arch.from_json(arch.to_json()) == arch
    members = list(SUPERSHAPER.enumerate())
    assert len(set(members)) == SUPERSHAPER.size
