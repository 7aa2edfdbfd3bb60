"""Bottlenecks: the networks of a supernet whose layers have hidden widths of their own."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import tiny
from attar import checkpoint
from attar.arch import Arch, LayerShape, Space
from attar.errors import CompatibilityError
from attar.families import Body
from attar.methods.mixture_of_supernets import Mixture, MixtureConfig
from attar.search.bottlenecks import Bottlenecks
from attar.search.parents import make_parent
from attar.search.supernet import Draws, Supernet
from attar.search.supernet_files import Description, load_supernets, save_supernets
from attar.slicing import child_of, describe, plain
from cuts import HEADS

FAMILIES = ["bert", "roberta"]
SPACE = Space((2, 4), (8, 20, 32), (4,), (16, 48), per_layer=("hidden_size", "intermediate_size"))
#: a network of layers 0 and 2 of 4, in the middle of the space
ARCH = Arch((LayerShape(4, 4, 16, 20), LayerShape(4, 4, 48, 8)), 32)


def supernet(family: str, *, noise: float = 0.3, **options: Any) -> Supernet:
    parent = tiny.model(family, auto=HEADS["mlm"], num_hidden_layers=4)
    provider = Bottlenecks(parent)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in provider.parameters():
            p += noise * torch.randn(p.shape, generator=generator)
    return Supernet(parent, SPACE, providers=[provider], **options).eval()


def padded() -> dict[str, Tensor]:
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    return {"input_ids": tiny.ids(), "attention_mask": mask}


def rows_of_heads(width: int, *, flat: bool = False) -> Tensor:
    """The rows of queries, keys and values that 4 heads of 8 channels keep."""
    return torch.arange(width) if flat else torch.arange(32).view(4, 8)[:, : width // 4].flatten()


def one_layer(parent: PreTrainedModel, number: int, shape: LayerShape, *, flat: bool) -> nn.Module:
    """A stock layer with the parent's weights cut by hand."""
    width = shape.hidden_size
    assert width is not None
    config = copy.deepcopy(parent.config)
    config.hidden_size, config.intermediate_size = width, shape.intermediate_size
    layer = Body(parent).layer(number).module
    made = type(layer)(config).eval()
    rows, n = rows_of_heads(width, flat=flat), shape.intermediate_size
    for name, p in made.named_parameters():
        whole = layer.get_parameter(name)
        if "attention.self" in name:
            whole = whole[rows, :width] if whole.dim() == 2 else whole[rows]
        elif name == "attention.output.dense.weight":
            whole = whole[:width, rows]
        elif name.startswith("intermediate"):
            whole = whole[:n, :width] if whole.dim() == 2 else whole[:n]
        else:
            whole = whole[:width, :n] if whole.dim() == 2 else whole[:width]
        p.data = whole.detach().clone()
    return made


def unmerged(net: Supernet, arch: Arch, *, flat: bool = False) -> Tensor:
    """Logits of the network as SuperShaper trains it: each layer between its own two bottlenecks,
    in a stream that stays as wide as the parent's.
    """
    parent: Any = net.parent
    provider: Any = net.providers[0]
    body, inputs = Body(parent), padded()
    x = getattr(parent, parent.base_model_prefix).embeddings(inputs["input_ids"])
    mask = inputs["attention_mask"].bool()[:, None, None].expand(-1, -1, 12, -1)
    count = arch.num_hidden_layers
    for index, shape in enumerate(arch.layers):
        number, width = index * len(body.layer_list) // count, shape.hidden_size
        into, out = provider.enter[number], provider.leave[number]
        x = nn.functional.linear(x, into.weight[:width], into.bias[:width])
        x = one_layer(parent, number, shape, flat=flat)(x, mask)
        x = nn.functional.linear(x, out.weight[:, :width], out.bias)
    return (parent.cls if hasattr(parent, "cls") else parent.lm_head)(x)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("flat", [False, True])
def test_merged_bottlenecks_are_the_unmerged_network(family: str, flat: bool) -> None:
    net = supernet(family, head_slicing="flat" if flat else "head").double()
    with torch.no_grad():
        for arch in (ARCH, *Draws(SPACE, n_random=3).at(0)):
            found, wanted = net(arch, **padded()).logits, unmerged(net, arch, flat=flat)
            torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)
    if flat:
        other = unmerged(net, ARCH)
        assert not torch.allclose(net(ARCH, **padded()).logits, other, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_identities_at_full_width_are_the_parent(family: str) -> None:
    net = supernet(family, noise=0)
    assert [x.hidden_size for x in SPACE.largest.layers] == [32] * 4
    wanted = net.parent(**padded()).logits
    torch.testing.assert_close(net(SPACE.largest, **padded()).logits, wanted, atol=1e-6, rtol=1e-6)


def test_under_autocast_maps_are_merged_in_full() -> None:
    net = supernet("bert")
    plain = net.weights(ARCH)
    with torch.autocast("cpu", torch.bfloat16):
        merged = net.weights(ARCH)
    for name, weight in plain.items():
        assert torch.equal(merged[name], weight), name


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_both_factors_and_the_parent_where_the_network_is(family: str) -> None:
    net = supernet(family)
    net(ARCH, **padded()).logits.square().mean().backward()
    provider: Any = net.providers[0]
    for number, width in ((0, 20), (2, 8)):
        enter, leave = provider.enter[number], provider.leave[number]
        assert bool(enter.weight.grad[:width].any(1).all())
        assert not bool(enter.weight.grad[width:].any())
        assert bool(leave.weight.grad[:, :width].any(0).all())
        assert not bool(leave.weight.grad[:, width:].any())
        assert bool(enter.bias.grad[:width].all())
        assert bool(leave.bias.grad.all())
    assert provider.enter[1].weight.grad is None
    rows = Body(net.parent).layer(2).module.get_parameter("attention.self.value.weight").grad
    assert rows is not None
    assert rows.any(1).nonzero()[:, 0].tolist() == rows_of_heads(8).tolist()
    assert rows.any(0).nonzero()[:, 0].tolist() == list(range(8))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_extracted_network_is_a_checkpoint_without_bottlenecks(
    family: str, tmp_path: Path
) -> None:
    net = supernet(family)
    for index, arch in enumerate((ARCH, SPACE.smallest)):
        model = net.extract(arch)
        assert replace(Arch.of(model), vocab_size=None) == arch
        with torch.no_grad():
            wanted = net(arch, **padded()).logits
            assert torch.equal(model(**padded()).logits, wanted)
            assert checkpoint.save(model, tmp_path / str(index)) == "per_layer"
            again = checkpoint.load(tmp_path / str(index))
            assert torch.equal(again(**padded()).logits, wanted)
        head: Any = again.get_output_embeddings()
        assert head.weight is again.get_input_embeddings().weight
        state = again.state_dict()
        assert not any("enter" in name or "leave" in name for name in state)


@pytest.mark.parametrize("head", [*HEADS, "bare", "no pooler"])
def test_every_head_and_a_narrower_stream(head: str) -> None:
    parent: Any = tiny.model("bert", auto=HEADS.get(head))
    if head == "no pooler":
        parent.pooler = None
    arch = replace(ARCH, hidden_size=24, vocab_size=40)
    child = child_of(parent, arch)
    assert {p.device.type for p in child.skeleton.parameters()} == {"meta"}
    shapes = {name: p.shape for name, p in child.skeleton.named_parameters()}
    assert set(child.slices) == set(shapes)
    provider = Bottlenecks(parent).taking(arch)
    own = plain(parent)
    weights = child.weights(lambda where: w if (w := provider(where)) is not None else own(where))
    assert {name: w.shape for name, w in weights.items()} == shapes
    assert Arch.of(child.extract(weights)) == arch
    assert child.run(weights, input_ids=tiny.ids() % 40)[0].isfinite().all()


def test_heads_of_a_fixed_size_behind_bottlenecks() -> None:
    parent = tiny.model("bert")
    shapes = (LayerShape(3, 3, 16, 20), LayerShape(2, 2, 16, 16))
    arch = Arch(shapes, 32, 8)
    net = child_of(parent, arch)
    give = Bottlenecks(parent).taking(arch)
    own = plain(parent)
    weights = net.weights(lambda where: w if (w := give(where)) is not None else own(where))
    made = net.extract(weights)
    assert Arch.of(made).layers == shapes
    assert Arch.of(made).head_dim == 8
    assert made(**padded())[0].isfinite().all()


def test_routed_experts_stand_beside_bottlenecks_and_both_are_stored(tmp_path: Path) -> None:
    def mixture(parent: PreTrainedModel, space: Space, options: Any) -> nn.Module:
        return Mixture(parent, space, config=MixtureConfig(init="random", **options))

    parent = tiny.model("bert", auto=HEADS["mlm"], num_hidden_layers=4)
    made = [mixture(parent, SPACE, {"seed": 5}), Bottlenecks(parent)]
    net = Supernet(parent, SPACE, providers=made, head_slicing="flat").eval()
    found = {arch: net(arch, **padded()).logits for arch in (ARCH, SPACE.largest)}
    assert not torch.allclose(found[SPACE.largest], parent(**padded()).logits, atol=1e-2)
    for arch, logits in found.items():
        torch.testing.assert_close(net.extract(arch)(**padded()).logits, logits)
    kinds = (("mixture", {}), ("bottlenecks", {}))
    description = Description("mos", {"one": SPACE}, head_slicing="flat", providers=kinds)
    save_supernets(tmp_path, {"one": net}, description=description)
    makers = {"mixture": mixture, "bottlenecks": lambda parent, *_: Bottlenecks(parent)}
    again = load_supernets(tmp_path, providers=makers)["one"]
    for arch, logits in found.items():
        assert torch.equal(again(arch, **padded()).logits, logits)


def test_weights_are_made_where_the_parent_is_also_without_any() -> None:
    real = tiny.model("bert", num_hidden_layers=4)
    shapes = tiny.model("bert", num_hidden_layers=4).to("meta")
    config = MixtureConfig(experts=2, router_hidden=8)
    found = []
    for parent in (real, shapes):
        mixture = Mixture(parent, SPACE, config=config)
        net = Supernet(parent, SPACE, providers=[mixture, Bottlenecks(parent)])
        found.append(net.weights(ARCH))
        assert {weight.device for weight in found[-1].values()} == {parent.device}
    first, second = ({n: (w.shape, w.dtype) for n, w in one.items()} for one in found)
    assert first == second


def test_a_parent_for_the_space_is_a_stock_model() -> None:
    teacher = tiny.model("bert", auto=HEADS["mlm"], num_hidden_layers=4)
    narrow = replace(SPACE, hidden_size=(8, 20))
    parent = make_parent(teacher, narrow)
    assert not Body(parent).connected
    assert Arch.of(parent).hidden_size == 20
    net = Supernet(parent, narrow, providers=[Bottlenecks(parent)]).eval()
    found = net(net.space.largest, **padded()).logits
    torch.testing.assert_close(found, parent(**padded()).logits, atol=1e-6, rtol=1e-6)


def test_what_a_parent_cannot_be_cut_to_is_refused() -> None:
    parent = tiny.model("bert")
    with pytest.raises(CompatibilityError, match="stock BERT or RoBERTa"):
        child_of(tiny.model("modernbert"), ARCH)
    with pytest.raises(CompatibilityError, match="stock BERT or RoBERTa"):
        config = copy.deepcopy(parent.config)
        describe(config, replace(ARCH, layers=ARCH.layers[:1] * 3))
        child_of(checkpoint.per_layer_class(type(parent))(config), ARCH)
    for shape, words in (
        (LayerShape(4, 4, 16, 40), "at most 32 channels"),
        (LayerShape(4, 4, 16, 22), "divides the 22 channels"),
        (LayerShape(2, 2, 16, 32), "at most 8, as the model has; found 2"),
        (LayerShape(4, 4, 64, 32), "48 neurons"),
    ):
        with pytest.raises(CompatibilityError, match=words):
            child_of(parent, Arch((shape,) * 2, 32))
    child = child_of(parent, ARCH)
    with pytest.raises(CompatibilityError, match=r"connectors.stream.0.weight.*Bottlenecks"):
        child.weights(plain(parent))
