"""Mixture-of-Supernets: with one expert, or equal ones, it is the plain supernet; what is taken
out is what was trained; and the routers do what their equations say."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

import tiny
from attar.arch import Arch, Space
from attar.checkpoint import fingerprint
from attar.errors import ConfigError
from attar.families import feed_forward_modules
from attar.measure.cost import cost_of
from attar.methods.mixture_of_supernets import (
    Mixture,
    MixtureConfig,
    Router,
    blend,
    collapse,
    mixture_of_layer,
    mixture_of_neurons,
    mixture_of_supernets,
    scale_feed_forward,
)
from attar.search.supernet import Draws, Supernet
from attar.slicing import Slice
from attar.slicing.encoder_decoder import encoder_decoder_child

FAMILIES = ("bert", "modernbert", "llama", "qwen2", "gpt2")
ROUTERS = ("neuron", "layer")
IDS = tiny.ids(2, 7)


def space_for(family: str) -> Space:
    """Of which the smallest network is one that a stock class can load."""
    arch = Arch.of(tiny.model(family))
    shape, head_dim = arch.layers[0], (arch.head_dim or 0,)
    heads, groups = (shape.num_attention_heads,), (shape.num_key_value_heads,)
    if family == "modernbert":  # heads are as wide as ever, and width / heads is their width
        heads, groups = (2, 4), ()
    elif family in tiny.TIED:
        groups, head_dim = (), ()
    return Space(
        (1, 3),
        (16, 32),
        heads,
        (16, 24, 48),
        num_key_value_heads=groups,
        head_dim=head_dim,
        per_layer=("intermediate_size",),
    )


def supernet_of(family: str = "bert", **options: object) -> Supernet:
    """A mixture whose experts and routers are far from their start and from each other."""
    config = MixtureConfig(**({"init": "random"} | options))  # type: ignore[arg-type]
    supernet = mixture_of_supernets(tiny.model(family), space_for(family), config=config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for router in provider(supernet).routers.parameters():
            router.copy_(0.2 * torch.randn(router.shape, generator=generator))
    return supernet.eval()


def provider(supernet: Supernet) -> Mixture:
    found = supernet.providers[0]
    assert isinstance(found, Mixture)
    return found


def plain_of(supernet: Supernet) -> Supernet:
    return Supernet(supernet.parent, supernet.space).eval()


def archs_of(supernet: Supernet) -> list[Arch]:
    return Draws(supernet.space, n_random=2).at(0)


def output(supernet: Supernet, arch: Arch) -> Tensor:
    return supernet(arch, input_ids=IDS)[0]


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def close(found: Tensor, wanted: Tensor, relative: float) -> None:
    assert (found - wanted).abs().max() <= relative * wanted.abs().max()


# ------------------------------------------------------------------------------ identity cases


@pytest.mark.parametrize("family", FAMILIES)
def test_one_expert_is_the_plain_supernet_bit_for_bit(family: str) -> None:
    supernet = supernet_of(family, experts=1)
    plain = plain_of(supernet)
    assert not list(supernet.providers.parameters())
    for arch in archs_of(supernet):
        found = output(supernet, arch)
        found.square().sum().backward()
        mixed = gradients(supernet.parent)
        supernet.parent.zero_grad()
        wanted = output(plain, arch)
        wanted.square().sum().backward()
        assert torch.equal(found, wanted)
        own = gradients(supernet.parent)
        supernet.parent.zero_grad()
        assert mixed.keys() == own.keys()
        assert all(torch.equal(mixed[name], own[name]) for name in own)
    # and so it is by the equations
    weight = torch.randn(5, 3)
    assert torch.equal(blend([weight], mixture_of_layer(torch.randn(1))), weight)
    neurons = mixture_of_neurons(torch.randn(5), experts=1)
    assert torch.equal(blend([weight], neurons), weight)


@pytest.mark.parametrize(
    ("family", "tied"), [*((family, False) for family in FAMILIES), ("bert", True)]
)
@pytest.mark.parametrize("router", ROUTERS)
def test_equal_experts_are_the_plain_supernet_whatever_the_routers(
    family: str, router: str, tied: bool
) -> None:
    equal = {"tied": True} if tied else {"init": "copy", "init_noise": 0.0}
    supernet = supernet_of(family, experts=3, router=router, **equal)
    assert bool(list(provider(supernet).experts)) is not tied
    for arch in archs_of(supernet):
        mixed, plain = supernet.weights(arch), plain_of(supernet).weights(arch)
        for name, weight in plain.items():
            close(mixed[name], weight, 1e-6)
        found, wanted = output(supernet, arch), output(plain_of(supernet), arch)
        close(found, wanted, 1e-5)  # rounding of the weights, through the network
        supernet.zero_grad()
        (found.square().sum() / found.detach().square().sum()).backward()
        for parameter in provider(supernet).routers.parameters():
            if parameter.grad is not None:
                assert parameter.grad.abs().max() <= 1e-6


def test_without_noise_routers_learn_nothing_and_with_noise_they_learn() -> None:
    # in float64, so that zero shows: G . (W_i - W) is a difference of large numbers
    for noise, learns in ((0.0, False), (1e-2, True)):
        config = MixtureConfig(init_noise=noise)
        supernet = mixture_of_supernets(tiny.model("bert"), space_for("bert"), config=config)
        supernet.eval().double()
        output(supernet, supernet.space.largest)[0].square().sum().backward()
        routers = provider(supernet).routers
        largest = max(float(g.abs().max()) for g in gradients(routers).values())
        assert (largest > 1e-6) is learns
        if not learns:
            assert largest <= 1e-12


def test_noise_on_copies_is_relative_to_each_neuron() -> None:
    for family, axis in (("bert", 0), ("gpt2", 1)):  # whose weights are turned
        parent = tiny.model(family)
        with torch.no_grad():
            for linears in feed_forward_modules(parent):
                for linear in linears:
                    weight = parent.get_parameter(f"{linear}.weight")
                    weight.mul_(10 ** torch.randn(weight.shape[axis]).unsqueeze(1 - axis))
        mixture = Mixture(parent, space_for(family), config=MixtureConfig(init_noise=0.01))
        for linears in feed_forward_modules(parent):
            for linear in linears:
                own = parent.get_parameter(f"{linear}.weight")
                other = mixture.experts[f"{linear}.weight".replace(".", "-")][0]
                share = ((other - own).norm(dim=1 - axis) / own.norm(dim=1 - axis)).detach()
                assert float(share.min()) > 0.005
                assert float(share.max()) < 0.02
                bias = f"{linear}.bias"
                own, other = parent.get_parameter(bias), mixture.experts[bias.replace(".", "-")]
                assert torch.equal(own, other[0])


# --------------------------------------------------------------------------------- taking it out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("router", ROUTERS)
def test_what_is_taken_out_is_what_was_trained(family: str, router: str, tmp_path: Path) -> None:
    supernet = supernet_of(family, router=router, router_dropout=0.5).train()
    for index, arch in enumerate(archs_of(supernet)):
        model = collapse(supernet, arch)
        assert supernet.training
        found = model(input_ids=IDS)[0]
        wanted = output(supernet.eval(), arch)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        with supernet.train().frozen(arch) as run:
            assert torch.equal(run(input_ids=IDS)[0], found)
        plain = plain_of(supernet).extract(arch)
        assert model.state_dict().keys() == plain.state_dict().keys()
        assert cost_of(model, cache=False) == cost_of(plain, cache=False)
        assert not [n for n in model.state_dict() if "router" in n or "expert" in n]
        if index == 1:  # the smallest: all layers alike, a stock checkpoint
            model.save_pretrained(tmp_path)
            auto = AutoModel if family in tiny.ENCODERS else AutoModelForCausalLM
            loaded: PreTrainedModel = auto.from_pretrained(tmp_path).eval()
            assert torch.equal(loaded(input_ids=IDS)[0], found)


@pytest.mark.parametrize("router", ROUTERS)
def test_a_stored_supernet_is_the_same(router: str) -> None:
    supernet = supernet_of("llama", router=router)
    again = mixture_of_supernets(
        tiny.model("llama", seed=5), supernet.space, config=provider(supernet).config
    ).eval()
    assert not torch.equal(
        output(again, again.space.largest), output(supernet, again.space.largest)
    )
    again.load_state_dict(supernet.state_dict())
    for arch in archs_of(supernet):
        assert torch.equal(output(again, arch), output(supernet, arch))
    assert not [name for name in supernet.providers.state_dict() if "embed" in name]


# --------------------------------------------------------------------------- equations and routers


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("router", [*ROUTERS, "none"])
def test_all_feed_forward_weights_and_nothing_else_are_in_the_hull_of_their_experts(
    family: str, router: str
) -> None:
    supernet = supernet_of(family, router=router, experts=3)
    mixture, parent = provider(supernet), supernet.parent
    linears = {linear for layer in feed_forward_modules(parent) for linear in layer}
    for arch in archs_of(supernet):
        plain, mixed = plain_of(supernet).weights(arch), supernet.weights(arch)
        for name, where in supernet.child(arch).slices.items():
            if where.name.rpartition(".")[0] not in linears:
                assert torch.equal(mixed[name], plain[name])
                continue
            experts = [where.of(e) for e in mixture.experts[where.name.replace(".", "-")]]
            experts = torch.stack([plain[name], *experts])
            assert (mixed[name] <= experts.max(0).values + 1e-6).all()
            assert (mixed[name] >= experts.min(0).values - 1e-6).all()
            if name.endswith("weight"):  # biases of equal experts stay
                assert not torch.equal(mixed[name], plain[name])


@given(st.integers(1, 5), st.integers(1, 6), st.floats(0.1, 100), st.integers(0, 10**6))
@settings(max_examples=30)
def test_coefficients_are_a_distribution(
    experts: int, neurons: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(neurons * experts, generator=generator)
    mixture = mixture_of_neurons(logits, experts=experts)
    assert mixture.shape == (neurons, experts)
    assert (mixture >= 0).all()
    torch.testing.assert_close(mixture.sum(-1), torch.ones(neurons))
    one = mixture_of_layer(logits[:experts])
    torch.testing.assert_close(one, mixture[0])


@given(st.lists(st.integers(0, 8), min_size=1, unique=True), st.integers(1, 4))
@settings(max_examples=30)
def test_cutting_a_router_is_cutting_what_it_gives(neurons: list[int], experts: int) -> None:
    router = Router(4, 9 * experts, config=MixtureConfig(experts=experts, router_hidden=5))
    kept, encoding = torch.tensor(sorted(neurons)), torch.rand(4)
    whole = mixture_of_neurons(router(encoding), experts=experts)
    cut = mixture_of_neurons(router(encoding, kept), experts=experts)
    torch.testing.assert_close(cut, whole[kept])
    by_hand = router(encoding)[experts * kept[0] : experts * (kept[0] + 1)].softmax(-1)
    torch.testing.assert_close(cut[0], by_hand)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mixture_of_neurons_is_a_sum_of_scaled_matrices(axis: int) -> None:
    mixture, experts = torch.rand(4, 3).softmax(-1), torch.randn(3, 4, 5)
    wanted = sum(mixture[:, i].diag() @ experts[i] for i in range(3))
    found = blend([e if axis == 0 else e.T for e in experts], mixture, axis=axis)
    torch.testing.assert_close(found if axis == 0 else found.T, wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_neuron_alike_is_a_mixture_of_the_layer(family: str) -> None:
    neuron, layer = supernet_of(family), supernet_of(family, router="layer")
    ours, theirs = provider(neuron), provider(layer)
    assert theirs.experts.state_dict().keys() == ours.experts.state_dict().keys()
    with torch.no_grad():
        for index, linears in enumerate(feed_forward_modules(neuron.parent)):
            source = theirs.routers[str(index)]
            for linear in linears:
                router = ours.routers[linear.replace(".", "-")]
                router.reads.load_state_dict(source.reads.state_dict())  # type: ignore[union-attr]
                for name in ("weight", "bias"):
                    tied = getattr(source.writes, name)  # (m, ...)
                    own = getattr(router.writes, name)  # (d_out * m, ...)
                    own.copy_(tied.repeat(len(own) // len(tied), *[1] * (own.dim() - 1)))
    for arch in archs_of(neuron):
        torch.testing.assert_close(output(neuron, arch), output(layer, arch))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_experts_are_shares_of_that_of_the_blend(family: str) -> None:
    supernet = supernet_of(family, router="layer")
    mixture, parent = provider(supernet), supernet.parent
    arch = supernet.space.smallest
    child = supernet.child(arch)
    weights = supernet.weights(arch)
    for weight in weights.values():
        if not weight.is_leaf:
            weight.retain_grad()
    child.run(weights, input_ids=IDS)[0].square().sum().backward()
    encoding, checked = mixture.encode(arch), 0
    for layer in feed_forward_modules(parent):
        for linear in layer:
            for kind in ("weight", "bias"):
                at = f"{linear}.{kind}"
                name = next((n for n, s in child.slices.items() if s.name == at), None)
                if name is None:
                    continue  # a layer that this network does not have, or no bias
                where = child.slices[name]
                p = mixture.mixture(encoding, linear)
                experts = mixture.experts[at.replace(".", "-")]
                grads = [parent.get_parameter(at).grad, experts.grad[0]]
                for share, grad in zip(p, grads, strict=True):
                    close(where.of(grad), share * weights[name].grad, 1e-6)
                    inside = torch.count_nonzero(where.of(grad))
                    assert torch.count_nonzero(grad) == inside > 0
                    checked += 1
    assert checked >= 4
    assert all(p.grad is None for index in (1, 2) for p in mixture.routers[str(index)].parameters())


@pytest.mark.parametrize("router", ROUTERS)
def test_both_stacks_of_an_encoder_decoder_are_mixed(router: str) -> None:
    both = ("num_attention_heads", "intermediate_size")
    inside = Space(
        (1, 4),
        (24, 32),
        (2, 4),
        (16, 48),
        attention_size=(16,),
        cross_attention_heads=(4,),
        cross_attention_span=(3,),
        per_layer=both,
    )
    space = Space(
        (3,), (24, 32), (2, 4), (16, 48), attention_size=(16,), per_layer=both, decoder=inside
    )
    parent = tiny.encoder_decoder("elastic")
    config = MixtureConfig(init="random", router=router)  # type: ignore[arg-type]
    mixture, arch = Mixture(parent, space, config=config), space.smallest
    take = mixture.taking(arch)
    linears = {linear for layer in feed_forward_modules(parent) for linear in layer}
    assert len(linears) == 2 * (3 + 4)
    assert len(mixture.routers) == (len(linears) if router == "neuron" else 3 + 4)
    skeleton, slices = encoder_decoder_child(parent, arch)
    mixed = set()
    for name, parameter in skeleton.named_parameters():
        where = Slice(slices[name].name, slices[name].axes)
        weight = take(where)
        if weight is not None:
            mixed.add(where.name.rpartition(".")[0])
            own = where.of(parent.get_parameter(where.name))
            assert weight.shape == own.shape == parameter.shape
            assert name.endswith("bias") or (weight - own).abs().max() > 0.1
    assert mixed == {linear for linear in linears if "decoder.layers." not in linear} | {
        linear for linear in linears if "decoder.layers.0." in linear
    }


def test_routers_see_the_whole_architecture_and_that_alone() -> None:
    supernet = supernet_of("bert", router="layer")
    mixture = provider(supernet)
    linear = feed_forward_modules(supernet.parent)[0][0]
    archs = list(supernet.space.enumerate())
    seen = {tuple(mixture.mixture(mixture.encode(a), linear).tolist()) for a in archs}
    assert len(seen) == len(archs)  # those that differ in depth, or in another layer, too
    unrouted = provider(supernet_of("bert", router="none", experts=4))
    assert not list(unrouted.routers.parameters())
    assert torch.equal(unrouted.mixture(unrouted.encode(archs[0]), linear), torch.full((4,), 0.25))


def test_bottlenecks_of_general_rows_are_cut_alike() -> None:
    mixture = provider(supernet_of("bert"))
    parent = tiny.model("bert")
    linear = feed_forward_modules(parent)[0][0]
    take = mixture.taking(mixture.space.largest)
    rows = torch.tensor([0, 3, 17, 40])
    for kind in ("weight", "bias"):
        whole = mixture.taking(mixture.space.largest)(Slice(f"{linear}.{kind}"))
        some = take(Slice(f"{linear}.{kind}", {0: rows}))
        assert whole is not None
        assert some is not None
        torch.testing.assert_close(some, whole[rows])
    assert take(Slice("embeddings.word_embeddings.weight")) is None


# --------------------------------------------------------------------------- scale, precision, seed


def test_the_scale_of_a_blend_can_be_that_of_a_draw() -> None:
    def spread(**options: object) -> float:
        parent = tiny.model("llama", intermediate_size=512, hidden_size=64)
        space = Space((3,), (64,), (8,), (512,), num_key_value_heads=(4,), head_dim=(8,))
        config = MixtureConfig(init="random", router="none", **options)  # type: ignore[arg-type]
        supernet = mixture_of_supernets(parent, space, config=config)
        weights = supernet.weights(space.largest)
        return float(weights["model.layers.1.mlp.up_proj.weight"].detach().std())

    usual = spread(experts=1)
    assert spread(experts=4) == pytest.approx(usual / 2, rel=0.02)
    assert spread(experts=4, init_scale=2.0) == pytest.approx(usual, rel=0.02)
    assert spread(experts=1, init_scale=0.5) == pytest.approx(usual / 2, rel=1e-5)


def test_scaling_leaves_everything_but_feed_forward_weights() -> None:
    before, after = tiny.model("bert"), tiny.model("bert")
    scale_feed_forward(after, 0.5)
    linears = {linear for layer in feed_forward_modules(after) for linear in layer}
    for name, own in before.named_parameters():
        linear, _, kind = name.rpartition(".")
        factor = 0.5 if linear in linears and kind == "weight" else 1
        assert torch.equal(after.get_parameter(name), factor * own)


def test_under_autocast_routers_and_blends_are_in_float32() -> None:
    supernet = supernet_of("llama")
    arch = supernet.space.smallest
    wanted = supernet.weights(arch)
    with torch.autocast("cpu", torch.bfloat16):
        found = supernet.weights(arch)
        assert all(torch.equal(found[name], weight) for name, weight in wanted.items())
        rounded = output(supernet, arch)
        output(supernet, arch).float().square().sum().backward()
    assert rounded.dtype == torch.bfloat16
    assert all(torch.isfinite(g).all() for g in gradients(supernet).values())
    assert gradients(provider(supernet).routers)
    cast = supernet.to(torch.bfloat16)
    assert all(weight.dtype == torch.bfloat16 for weight in cast.weights(arch).values())


def test_dropout_of_routers_is_off_in_evaluation() -> None:
    supernet = supernet_of("llama", router_dropout=0.5)
    arch = supernet.space.smallest
    assert torch.equal(output(supernet, arch), output(supernet, arch))
    supernet.providers.train()
    assert not torch.equal(output(supernet, arch), output(supernet, arch))
    assert torch.equal(*(collapse(supernet, arch)(input_ids=IDS)[0] for _ in range(2)))


def test_a_seed_makes_experts_and_routers_and_touches_nothing_else() -> None:
    parent, space = tiny.model("llama"), space_for("llama")
    state = torch.get_rng_state()
    one, same, other = (
        Mixture(parent, space, config=MixtureConfig(seed=s)).state_dict() for s in (0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert not any(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize(
    "options",
    [
        {"experts": 0},
        {"router_hidden": 0},
        {"router_dropout": 1.0},
        {"init_noise": -1.0},
        {"init": "random", "init_scale": 0.0},
        {"init_scale": 0.5},
        {"router": "token"},
    ],
)
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=list(options)[-1]):
        MixtureConfig(**options)  # type: ignore[arg-type]


def test_other_experts_over_the_same_parent_are_another_supernet() -> None:
    supernet = supernet_of("llama")
    before, parent = fingerprint(supernet), fingerprint(supernet.parent)
    with torch.no_grad():
        next(iter(provider(supernet).experts.values())).add_(1)
    assert fingerprint(supernet) != before
    assert fingerprint(supernet.parent) == parent
