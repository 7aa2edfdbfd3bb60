"""Controls: parts of a space share it out, and a wider parent holds the narrow one."""

from dataclasses import replace

import pytest
import torch

import tiny
from attar.arch import Arch, Space
from attar.errors import ConfigError
from attar.methods.mixture_of_supernets import Mixture, MixtureConfig
from attar.search.controls import SplitBy, split_space, widened
from attar.search.parents import make_parent
from attar.search.supernet import Draws, Supernet
from attar.slicing import child_of, plain

SPACE = Space(
    (1, 2, 3),
    (8, 16, 24, 32),
    (4, 8),
    (16, 24, 32, 40, 48),
    num_key_value_heads=(2, 4),
    head_dim=(4,),
)
IDS = tiny.ids(2, 7)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("by", [None, *SplitBy.__args__])
def test_parts_share_out_a_space(parts: int, by: SplitBy | None) -> None:
    space = SPACE
    if by == "intermediate_ratio":
        space = Space((1, 2), (16, 32), (4,), intermediate_ratio=(1.0, 1.5, 2.0))
    if by == "num_attention_heads" and parts == 3:
        with pytest.raises(ConfigError, match="at least 3 values"):
            split_space(space, parts, by=by)
        return
    made = split_space(space, parts, by=by)
    assert len(made) == parts
    members = [arch for part in made for arch in part.enumerate()]
    assert len(members) == len(set(members)) == space.size
    assert set(members) == set(space.enumerate())
    assert max(part.size for part in made) <= 2 * min(part.size for part in made)
    widths = [part.largest for part in made]
    assert widths[-1] == space.largest
    assert made[0].smallest == space.smallest


def test_what_layers_choose_for_themselves_cannot_be_split() -> None:
    space = Space((2,), (32,), (4,), (16, 48), per_layer=("intermediate_size",), head_dim=(8,))
    with pytest.raises(ConfigError, match="found none: take fewer parts"):
        split_space(space, 2)
    with pytest.raises(ConfigError, match="take fewer parts"):
        split_space(space, 2, by="intermediate_size")
    deeper = Space((1, 2), (32,), (4,), (16, 48), per_layer=("intermediate_size",), head_dim=(8,))
    assert [part.num_hidden_layers for part in split_space(deeper, 2)] == [(1,), (2,)]


def test_each_part_has_a_parent_of_its_own_that_begins_with_the_same_networks() -> None:
    parent = tiny.model("llama", head_dim=4)
    space = replace(SPACE, num_attention_heads=(8,), num_key_value_heads=(4,))
    whole = Supernet(parent, space).eval()
    for part in split_space(space, 2, by="hidden_size"):
        own = Supernet(make_parent(parent, part), part).eval()
        assert Arch.of(own.parent).hidden_size == part.hidden_size[-1]
        for arch in Draws(part, n_random=1).at(0):
            assert torch.equal(own(arch, input_ids=IDS)[0], whole(arch, input_ids=IDS)[0])


def space_for(family: str) -> Space:
    arch = Arch.of(tiny.model(family))
    shape = arch.layers[0]
    return Space(
        (1, 3),
        (16, 32),
        (shape.num_attention_heads,),
        (16, 24, 48),
        num_key_value_heads=(shape.num_key_value_heads,),
        head_dim=(arch.head_dim or 0,),
        per_layer=("intermediate_size",),
    )


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "qwen2", "gpt2", "phi3"])
def test_a_wider_parent_holds_the_narrow_one(family: str) -> None:
    parent, space = tiny.model(family), space_for(family)
    mixture = Mixture(parent, space, config=MixtureConfig(router_hidden=8))
    extra = sum(p.numel() for p in mixture.parameters())
    before = {name: p.clone() for name, p in parent.named_parameters()}
    wide, wider = widened(parent, space, extra=extra)
    assert all(torch.equal(p, before[name]) for name, p in parent.named_parameters())
    added = wide.num_parameters() - parent.num_parameters()
    neuron = added // (Arch.of(wide).layers[0].intermediate_size - 48)
    assert abs(added - extra) <= neuron / 2
    # all its own weights are where they were
    child = child_of(wide, Arch.of(parent))
    same = child.extract(child.weights(plain(wide)))
    for name, own in parent.named_parameters():
        assert torch.equal(same.get_parameter(name), own), name
    assert torch.equal(same(input_ids=IDS)[0], parent(input_ids=IDS)[0])
    # and the network of the same genes has the same share of the neurons
    supernet, factor = Supernet(wide, wider), Arch.of(wide).layers[0].intermediate_size / 48
    assert wider.choices == space.choices
    for arch in Draws(space, n_random=3).at(0):
        larger = wider.decode(space.genes_of(arch))
        for one, other in zip(arch.layers, larger.layers, strict=True):
            assert abs(other.intermediate_size - factor * one.intermediate_size) <= 0.5
        assert supernet.extract(larger)(input_ids=IDS)[0].isfinite().all()


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "gpt2"])
def test_a_wider_parent_can_be_the_same_function(family: str) -> None:
    parent, space = tiny.model(family), space_for(family)
    wide, _ = widened(parent, space, extra=5000, preserve=True)
    torch.testing.assert_close(wide(input_ids=IDS)[0], parent(input_ids=IDS)[0])
    other, _ = widened(parent, space, extra=5000, seed=1)
    assert (other(input_ids=IDS)[0] - parent(input_ids=IDS)[0]).abs().max() > 1e-3


def test_new_neurons_are_as_large_as_the_old() -> None:
    parent = tiny.model("llama", intermediate_size=256)
    space = Space((3,), (32,), (8,), (256,), num_key_value_heads=(4,), head_dim=(4,))
    with torch.no_grad():
        parent.get_parameter("model.layers.1.mlp.up_proj.weight").mul_(3)
    wide, wider = widened(parent, space, extra=3 * 3 * 256 * 32)
    assert wider.intermediate_size == (512,)
    for name in ("up_proj", "gate_proj"):
        weight = wide.get_parameter(f"model.layers.1.mlp.{name}.weight").detach()
        assert float(weight[256:].std()) == pytest.approx(float(weight[:256].std()), rel=0.05)
    again, _ = widened(parent, space, extra=3 * 3 * 256 * 32)
    assert all(
        torch.equal(a, b) for a, b in zip(wide.parameters(), again.parameters(), strict=True)
    )


def test_ratios_grow_and_nothing_shrinks() -> None:
    parent = tiny.model("bert")
    space = Space((3,), (16, 32), (4,), intermediate_ratio=(0.5, 1.5))
    wide, wider = widened(parent, space, extra=3 * 65 * 16)
    assert Arch.of(wide).layers[0].intermediate_size == 64
    assert wider.intermediate_ratio == pytest.approx((0.5 * 64 / 48, 1.5 * 64 / 48))
    Supernet(wide, wider)
    same, as_before = widened(parent, space, extra=0)
    assert as_before == space
    assert same.num_parameters() == parent.num_parameters()
    with pytest.raises(ConfigError, match="extra"):
        widened(parent, space, extra=-1)
