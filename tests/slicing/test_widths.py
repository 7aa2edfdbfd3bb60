"""The law of slicing for the hidden width, head channels and the vocabulary, decoders and
encoders: sliced == masked == functional.
"""

from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

import tiny
from attar.arch import Arch, LayerShape
from attar.errors import CompatibilityError, DataError
from attar.families import Body
from attar.slicing import (
    LayerKeep,
    SlicePlan,
    child_by,
    child_of,
    functional_forward,
    masked,
    plain,
    slice_model,
)
from cuts import CLOSE, EVERY, HEADS, PARTS, STILL, assert_law, expected, ids_for, outputs, plan_for


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("part", ["hidden", "vocabulary", "all"])
def test_sliced_equals_masked_equals_functional(family: str, part: str) -> None:
    model = tiny.model(family, tie_word_embeddings=part == "all")
    sliced = assert_law(model, plan_for(model, *(PARTS if part == "all" else (part,))))
    assert Arch.of(sliced) != Arch.of(model)


@pytest.mark.parametrize("family", tiny.TIED)
@pytest.mark.parametrize("part", ["kv_groups", "head_channels"])
def test_heads_of_families_whose_head_size_is_tied(family: str, part: str) -> None:
    model = tiny.model(family)
    plan = plan_for(model, part)
    if part == "head_channels" and family not in STILL:
        assert plan.head_channels is None
        return
    assert Arch.of(assert_law(model, plan)) != Arch.of(model)


@pytest.mark.parametrize("family", tiny.ENCODERS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_encoders_with_a_head(family: str, head: str, tied: bool) -> None:
    if not tied and head != "mlm":
        return
    model = tiny.model(family, auto=HEADS[head], tie_word_embeddings=tied)
    assert_law(model, plan_for(model, *PARTS))


def test_decoders_with_a_head() -> None:
    model = tiny.model("llama", auto=AutoModelForSequenceClassification)
    assert_law(model, plan_for(model, *PARTS))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("opt", {"do_layer_norm_before": False}),  # norms after the blocks, as in OPT-350M
        ("opt", {"layer_norm_elementwise_affine": False}),
        ("gpt2", {"scale_attn_weights": False}),
        ("gpt_neox", {"use_parallel_residual": False}),
        ("phi", {"qk_layernorm": True}),
        ("gemma2", {"final_logit_softcapping": 2.0}),
    ],
)
def test_unusual_members_of_a_family(family: str, changes: dict[str, Any]) -> None:
    model = tiny.model(family, **changes)
    assert_law(model, plan_for(model, *PARTS))


def test_hidden_states_between_layers_are_those_of_the_sliced_model() -> None:
    model = tiny.model("qwen3")
    plan = plan_for(model, "hidden", "neurons")
    sliced, ids = slice_model(model, plan), tiny.ids()
    with torch.no_grad(), masked(model, plan):
        wanted = model(input_ids=ids, output_hidden_states=True).hidden_states
    found = sliced(input_ids=ids, output_hidden_states=True).hidden_states
    gone = sorted(set(range(32)) - set(plan.hidden or ()))
    for ours, theirs in zip(found, wanted, strict=True):
        assert not bool(theirs[..., gone].any())
        torch.testing.assert_close(ours, theirs[..., list(plan.hidden or ())], **CLOSE)


# --------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    ("family", "head"),
    [
        *((f, None) for f in ("llama", "gemma2", "phi3", "olmo", "gpt2", "opt", "gpt_neox")),
        *((f, "mlm") for f in tiny.ENCODERS),
        ("roberta", "classes"),
    ],
)
def test_gradients_are_those_of_the_masked_parent(family: str, head: str | None) -> None:
    model = tiny.model(family, auto=HEADS.get(head or ""), tie_word_embeddings=True)
    plan = plan_for(model, *PARTS)
    ids = ids_for(plan)
    names, parameters = zip(*model.named_parameters(), strict=True)
    wanted = expected(model, plan, ids)[0]
    weights = torch.randn(wanted.shape, generator=torch.manual_seed(1))
    theirs = torch.autograd.grad((wanted * weights).sum(), parameters, allow_unused=True)
    found = outputs(functional_forward(model, plan, input_ids=plan.renumber(ids)))[0]
    ours = torch.autograd.grad((found * weights).sum(), parameters, allow_unused=True)
    reached = 0
    for name, p, one, other in zip(names, parameters, ours, theirs, strict=True):
        one, other = (torch.zeros_like(p) if g is None else g for g in (one, other))
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3, msg=name)
        reached += bool(one.any())
    assert reached > len(names) // 2


def test_a_skeleton_serves_many_steps_and_tied_weights_stay_tied() -> None:
    model = tiny.model("gpt2", tie_word_embeddings=True)
    plan = plan_for(model, *PARTS)
    ids, child = plan.renumber(ids_for(plan)), child_by(model, plan)
    assert {p.device.type for p in child.skeleton.parameters()} == {"meta"}
    for step in range(2):
        with torch.no_grad():
            Body(model).embeddings.weight.add_(step)
        weights = child.weights(plain(model))
        wanted = slice_model(model, plan)(input_ids=ids).logits
        torch.testing.assert_close(child.run(weights, input_ids=ids).logits, wanted, **CLOSE)
        copied = child.extract(weights)
        assert torch.equal(copied(input_ids=ids).logits, child.run(weights, input_ids=ids).logits)
        assert copied.get_output_embeddings().weight is copied.get_input_embeddings().weight


def test_prefixes_are_views_of_the_parent() -> None:
    model = tiny.model("llama")
    arch = Arch((LayerShape(4, 2, 24),) * 2, 16, 4, 40)
    child = child_of(model, arch)
    for name, view in child.weights(plain(model)).items():
        whole = model.get_parameter(child.slices[name].name)
        assert view._base is None or view._base.shape == whole.shape
        assert view.data_ptr() in {p.data_ptr() for p in model.parameters()}


def test_in_place_leaves_alone_what_is_not_cut_and_equals_the_copy() -> None:
    for family in ("qwen2", "bert"):
        model, plan = tiny.model(family), plan_for(tiny.model(family), *PARTS)
        copied = slice_model(model, plan)
        kept = {
            name: p.data_ptr()
            for name, p in model.named_parameters()
            if name not in plan.indices(model) and ".1." not in name and ".2." not in name
        }
        assert slice_model(model, plan, in_place=True) is model
        assert all(model.get_parameter(name).data_ptr() == at for name, at in kept.items())
        pairs = zip(copied.state_dict().values(), model.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


# ------------------------------------------------------------------------------- plans and prefixes


@pytest.mark.parametrize("family", ["llama", "gpt2", "roberta"])
def test_slicing_twice_is_slicing_by_the_composition(family: str) -> None:
    model = tiny.model(family)
    first = plan_for(model, *PARTS, seed=1)
    once = slice_model(model, first)
    second = SlicePlan(
        tuple(LayerKeep(i, k.kv_groups[:1], k.neurons[::2]) for i, k in _numbered(once)),
        hidden=tuple(range(0, Body(once).hidden, 2)),
        vocabulary=tuple(range(30)),
    )
    both = first.then(second)
    twice, direct = slice_model(once, second), slice_model(model, both)
    pairs = zip(twice.state_dict().values(), direct.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    ids = torch.tensor(both.vocabulary)
    assert torch.equal(second.renumber(first.renumber(ids)), both.renumber(ids))
    assert both.then(SlicePlan.identity(twice)) == both


def _numbered(model: PreTrainedModel) -> list[tuple[int, LayerKeep]]:
    return list(enumerate(SlicePlan.identity(model).layers))


def test_json_of_plans_and_of_those_of_format_1() -> None:
    model = tiny.model("bert")
    plan = plan_for(model, *PARTS)
    assert SlicePlan.from_json(plan.to_json()) == plan
    earlier = plan.to_dict() | {"format": 1}
    for part in ("hidden", "head_channels", "vocabulary"):
        del earlier[part]
    assert SlicePlan.from_dict(earlier) == SlicePlan(plan.layers)
    with pytest.raises(DataError):
        SlicePlan.from_dict(plan.to_dict() | {"hidden": ["x"]})


@pytest.mark.parametrize("family", EVERY)
def test_prefix_makes_the_architecture_that_was_asked_for(family: str) -> None:
    model = tiny.model(family)
    whole = Arch.of(model)
    assert SlicePlan.prefix(model, whole) == SlicePlan.identity(model)
    heads, groups = whole.layers[0].num_attention_heads, whole.layers[0].num_key_value_heads
    if not Body(model).family.wide_norm:
        heads, groups = heads // 2, groups // 2
    narrow = None if family not in STILL else 4
    arch = Arch((LayerShape(heads, groups, 24), LayerShape(heads, groups, 40)), 16, narrow, 40)
    plan = SlicePlan.prefix(model, arch)
    assert [keep.layer for keep in plan.layers] == [0, 1]  # floor(i * 3 / 2)
    found = Arch.of(assert_law(model, plan))
    assert found == Arch(arch.layers, 16, narrow or whole.head_dim, 40)


def test_layers_of_a_prefix_are_spread_or_named() -> None:
    model = tiny.model("llama", num_hidden_layers=12)
    shape = Arch.of(model).layers[0]
    for count, kept in {
        12: list(range(12)),
        9: [0, 1, 2, 4, 5, 6, 8, 9, 10],
        4: [0, 3, 6, 9],
    }.items():
        plan = SlicePlan.prefix(model, Arch((shape,) * count))
        assert [keep.layer for keep in plan.layers] == kept
    named = SlicePlan.prefix(model, Arch((shape,) * 2), layers=[3, 11])
    assert [keep.layer for keep in named.layers] == [3, 11]


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        (Arch((LayerShape(8, 4, 48),) * 4), "1 to 3 layers"),
        (Arch((LayerShape(8, 4, 48),), hidden_size=40), "1 to 32 hidden channels"),
        (Arch((LayerShape(8, 4, 48),), vocab_size=65), "1 to 64 token ids"),
        (Arch((LayerShape(4, 4, 48),)), "2 query heads for each"),
        (Arch((LayerShape(10, 5, 48),)), "at most 4 key/value heads"),
        (Arch((LayerShape(8, 4, 49),)), "48 neurons"),
    ],
)
def test_prefixes_that_the_model_cannot_give_say_so(arch: Arch, words: str) -> None:
    with pytest.raises(CompatibilityError, match=words):
        SlicePlan.prefix(tiny.model("llama"), arch)


def test_special_tokens_are_renumbered_and_those_that_go_are_none() -> None:
    model = tiny.model("llama")
    model.generation_config.eos_token_id = [2, 5, 9]
    plan = SlicePlan(SlicePlan.identity(model).layers, vocabulary=(0, 2, 4, 9, 10))
    sliced = slice_model(model, plan)
    assert (sliced.config.bos_token_id, sliced.config.eos_token_id) == (None, 1)
    assert sliced.generation_config.eos_token_id == [1, 3]
    assert sliced.config.vocab_size == sliced.vocab_size == 5
    assert sliced.model.embed_tokens.padding_idx == sliced.config.pad_token_id == 0
    assert model.config.eos_token_id == 2
    ids = torch.tensor([[10, -100, 2]])
    assert plan.renumber(ids).tolist() == [[4, -100, 1]]
    loss = sliced(input_ids=plan.renumber(ids[:, [0, 2]]), labels=plan.renumber(ids[:, [1, 2]]))
    with masked(model, plan):
        wanted = model(input_ids=ids[:, [0, 2]], labels=ids[:, [1, 2]])
    torch.testing.assert_close(loss.loss, wanted.loss, **CLOSE)
    for gone in (3, 63):
        with pytest.raises(DataError, match=f"found {gone}, whose row is cut"):
            plan.renumber(torch.tensor([2, gone]))


# -------------------------------------------------------------------------------------- real sizes


@pytest.mark.parametrize(
    ("family", "auto", "shape", "params"),
    [
        (
            "llama",  # Llama 3 8B
            AutoModelForCausalLM,
            {
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
            },
            8_030_261_248,
        ),
        (
            "modernbert",  # ModernBERT large
            AutoModelForMaskedLM,
            {
                "hidden_size": 1024,
                "intermediate_size": 2624,
                "num_hidden_layers": 28,
                "num_attention_heads": 16,
            },
            395_881_664,
        ),
    ],
)
def test_real_sizes_on_the_meta_device(
    family: str, auto: Any, shape: dict[str, Any], params: int
) -> None:
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.for_model(family, **shape))
    whole = Arch.of(model)
    assert model.num_parameters() == params
    assert (whole.hidden_size, whole.num_hidden_layers) == (
        shape["hidden_size"],
        shape["num_hidden_layers"],
    )
    first = whole.layers[0]
    half = LayerShape(
        first.num_attention_heads // 2,
        first.num_key_value_heads // 2,
        first.intermediate_size // 2,
    )
    arch = Arch((half,) * (whole.num_hidden_layers // 2), shape["hidden_size"] // 2, None, 32000)
    sliced = slice_model(model, SlicePlan.prefix(model, arch))
    assert Arch.of(sliced) == Arch(arch.layers, arch.hidden_size, whole.head_dim, 32000)
    assert {p.device.type for p in sliced.parameters()} == {"meta"}
