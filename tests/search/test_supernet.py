"""A supernet's networks are slices of one parent: run, trained and extracted alike."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from attar.arch import Arch, LayerShape, Space
from attar.errors import CompatibilityError, ConfigError
from attar.measure.cost import cost_of
from attar.search.supernet import Draws, Supernet, extent
from attar.slicing import SlicePlan, masked

SPACE = Space((1, 2, 3), (8, 16, 32), (4,), (16, 48))
FAMILIES = ("bert", "roberta", "modernbert", "llama", "qwen2", "qwen3")


def space_for(family: str) -> Space:
    """Some networks of the tiny model of this family; heads of rotary models keep their size."""
    model = tiny.model(family)
    arch = Arch.of(model)
    shape = arch.layers[0]
    if family in ("bert", "roberta", "modernbert"):
        return Space(
            (1, 2, 3), (16, 32), (4,), (16, 48), head_dim=(8,), per_layer=("intermediate_size",)
        )
    heads = (shape.num_attention_heads // 2, shape.num_attention_heads)
    groups = (shape.num_key_value_heads // 2, shape.num_key_value_heads)
    return Space(
        (1, 3),
        (16, 32),
        heads,
        (16, 48),
        num_key_value_heads=groups,
        head_dim=(arch.head_dim or 0,),
        per_layer=("intermediate_size", "num_attention_heads"),
    )


def ids(rows: int = 2, tokens: int = 7) -> torch.Tensor:
    return torch.randint(4, tiny.VOCAB, (rows, tokens), generator=torch.manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_extracted_equals_functional_equals_masked(family: str) -> None:
    parent, space = tiny.model(family), space_for(family)
    supernet = Supernet(parent, space).eval()
    for arch in Draws(space, n_random=3).at(0):
        extracted = supernet.extract(arch)
        assert Arch.of(extracted).layers == arch.layers
        wanted = extracted(input_ids=ids())[0]
        assert torch.equal(supernet(arch, input_ids=ids())[0], wanted)
        with supernet.frozen(arch) as run:
            assert torch.equal(run(input_ids=ids())[0], wanted)
        with masked(parent, SlicePlan.prefix(parent, arch)) as same:
            got = same(input_ids=ids())[0]
            torch.testing.assert_close(got[..., : wanted.shape[-1]], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parent_is_its_own_largest_network_bit_for_bit(family: str) -> None:
    parent = tiny.model(family)
    arch = Arch.of(parent)
    shape = arch.layers[0]
    space = Space(
        (3,),
        (32,),
        (shape.num_attention_heads,),
        (48,),
        num_key_value_heads=(shape.num_key_value_heads,),
        head_dim=(arch.head_dim or 0,),
    )
    found = Supernet(parent, space).eval()(space.largest, input_ids=ids())[0]
    assert torch.equal(found, parent(input_ids=ids())[0])


def test_nested_networks_train_nested_blocks() -> None:
    parent, arch = tiny.model("bert"), SPACE.smallest
    supernet = Supernet(parent, SPACE).eval()
    supernet(arch, input_ids=ids())[0].square().sum().backward()
    for name, where in supernet.child(arch).slices.items():
        grad = parent.get_parameter(where.name).grad
        if grad is None:  # such as a pooler
            continue
        inside = where.of(grad)
        assert torch.count_nonzero(grad) == torch.count_nonzero(inside), name
    untouched = parent.base_model.encoder.layer[2]
    assert all(p.grad is None for p in untouched.parameters())


def test_a_step_of_several_networks_has_the_sum_of_their_gradients() -> None:
    parent = tiny.model("bert")
    supernet, archs = Supernet(parent, SPACE).eval(), Draws(SPACE).at(3)

    def loss(arch: Arch) -> torch.Tensor:
        return supernet(arch, input_ids=ids())[0].square().mean()

    torch.stack([loss(arch) for arch in archs]).sum().backward()
    together = {n: p.grad.clone() for n, p in parent.named_parameters() if p.grad is not None}
    parent.zero_grad()
    for arch in archs:
        loss(arch).backward()
    for name, grad in together.items():
        torch.testing.assert_close(grad, parent.get_parameter(name).grad)


def test_children_follow_the_weights_of_the_moment() -> None:
    parent = tiny.model("llama")
    space = space_for("llama")
    supernet = Supernet(parent, space).eval()
    before = supernet(space.smallest, input_ids=ids())[0].clone()
    with torch.no_grad():
        parent.get_input_embeddings().weight.mul_(1.5)
    after = supernet(space.smallest, input_ids=ids())[0]
    assert not torch.equal(before, after)
    assert torch.equal(after, supernet.extract(space.smallest)(input_ids=ids())[0])


def test_children_follow_the_type_of_the_moment() -> None:
    supernet = Supernet(tiny.model("bert"), SPACE).eval()
    before = cost_of(supernet.child(SPACE.smallest).skeleton, cache=False)
    supernet.to(torch.bfloat16)
    after = cost_of(supernet.child(SPACE.smallest).skeleton, cache=False)
    assert 2 * after.bytes == before.bytes
    assert after == cost_of(supernet.extract(SPACE.smallest), cache=False)


def test_depth_is_spread_or_first() -> None:
    parent = tiny.model("bert")
    arch = Space((2,), (32,), (4,), (48,)).largest
    space = Space((2, 3), (32,), (4,), (48,))
    for depth, layers in (("spread", {"0", "1"}), ("first", {"0", "1"})):
        supernet = Supernet(parent, space, depth=depth)  # type: ignore[arg-type]
        names = {s.name for s in supernet.child(arch).slices.values() if ".layer." in s.name}
        assert {name.split(".layer.")[1][0] for name in names} == layers
    parent = tiny.model("bert", num_hidden_layers=4)
    kept = {}
    for depth in ("spread", "first"):
        supernet = Supernet(parent, Space((2, 4), (32,), (4,), (48,)), depth=depth)  # type: ignore[arg-type]
        names = [s.name for s in supernet.child(arch).slices.values() if ".layer." in s.name]
        kept[depth] = sorted({name.split(".layer.")[1][0] for name in names})
    assert kept == {"spread": ["0", "2"], "first": ["0", "1"]}


def test_spaces_that_the_parent_does_not_contain_are_refused() -> None:
    with pytest.raises(CompatibilityError, match="does not contain the space's largest network"):
        Supernet(tiny.model("bert"), Space((4,), (32,), (4,), (48,)))
    supernet = Supernet(tiny.model("bert"), SPACE)
    with pytest.raises(ConfigError, match="an architecture of this space"):
        supernet(Arch((LayerShape(4, 4, 17),), 8, 2), input_ids=ids())


# ------------------------------------------------------------------------------------------- draws


@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 3))
def test_a_sandwich_has_its_ends_and_different_networks(step: int, n: int, seed: int) -> None:
    draws = Draws(SPACE, n_random=n, seed=seed)
    archs = draws.at(step)
    assert archs[:2] == [SPACE.largest, SPACE.smallest]
    assert len(set(archs)) == len(archs) == min(2 + n, SPACE.size)
    assert archs == Draws(SPACE, n_random=n, seed=seed).at(step)


def test_draws_depend_on_the_seed_and_the_step_alone() -> None:
    one, other = (
        [Draws(SPACE, "random", n_random=1, seed=seed).at(step)[0] for step in range(200)]
        for seed in (0, 1)
    )
    assert one != other
    assert set(Counter(one)) == set(SPACE.enumerate())
    assert one[100] == Draws(SPACE, "random", n_random=1).at(100)[0]


def test_small_spaces_run_out_of_networks() -> None:
    space = Space((1,), (16, 32), (4,), (48,))
    assert len(Draws(space, n_random=5).at(0)) == 2
    only = Space((1,), (16,), (4,), (48,))
    assert Draws(only, n_random=5).at(0) == [only.largest]
    assert Draws(only, "extremes").at(0) == [only.largest]


def test_stratified_draws_cover_the_sizes() -> None:
    space = Space((1, 2, 3, 4, 5, 6), (8, 16, 32), (4,), (16, 32, 48))
    low, high = extent(space.smallest), extent(space.largest)
    for step in range(20):
        archs = Draws(space, "stratified", n_random=3, seed=1).at(step)
        bands = [min(int(3 * (extent(a) - low) / (high - low)), 2) for a in archs]
        assert bands == [0, 1, 2]
    with pytest.raises(ConfigError, match="n_random"):
        Draws(space, "stratified", n_random=0)
