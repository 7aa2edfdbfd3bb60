"""The law of slicing: sliced == masked == functional, for every family."""

import pytest
import torch

import tiny
from attar.arch import Arch
from attar.errors import CompatibilityError, DataError
from attar.families import UNITS, Body
from attar.measure.cost import cost_of
from attar.slicing import (
    LayerKeep,
    SlicePlan,
    UnitMasks,
    functional_forward,
    masked,
    slice_model,
    zero_out,
)
from cuts import CLOSE, output, random_plan

FAMILIES = [*tiny.CAUSAL, *tiny.ENCODERS]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", ["per_layer", "uniform", "depth"])
@torch.no_grad()
def test_sliced_equals_masked_equals_functional(family, shape):
    model, ids = tiny.model(family), tiny.ids()
    plan = random_plan(model, uniform=shape == "uniform", drop=1 if shape == "depth" else None)
    whole = output(model(input_ids=ids))
    sliced = slice_model(model, plan)
    with masked(model, plan):
        expected = output(model(input_ids=ids))
    assert not torch.allclose(expected, whole, **CLOSE)  # the plan does something
    torch.testing.assert_close(output(sliced(input_ids=ids)), expected, **CLOSE)
    torch.testing.assert_close(
        output(functional_forward(model, plan, input_ids=ids)), expected, **CLOSE
    )
    torch.testing.assert_close(output(model(input_ids=ids)), whole, atol=0, rtol=0)


@pytest.mark.parametrize("family", tiny.CAUSAL)
@torch.no_grad()
def test_cache_and_left_padding(family):
    model = tiny.model(family)
    plan = random_plan(model)
    sliced, ids = slice_model(model, plan), tiny.ids(2, 10)
    expected = sliced(input_ids=ids).logits[:, -1]
    first = sliced(input_ids=ids[:, :-1], use_cache=True)
    step = sliced(input_ids=ids[:, -1:], past_key_values=first.past_key_values).logits[:, -1]
    torch.testing.assert_close(step, expected, **CLOSE)
    padded = torch.cat([torch.zeros_like(ids[:, :3]), ids], 1)
    attention = (torch.arange(13) >= 3).long().expand(2, -1)
    with masked(model, plan):
        wanted = model(input_ids=padded, attention_mask=attention).logits[:, -1]
    found = sliced(input_ids=padded, attention_mask=attention).logits[:, -1]
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_everything_is_the_identity(family):
    model = tiny.model(family)
    same = slice_model(model, SlicePlan.identity(model))
    assert same is not model
    pairs = zip(model.state_dict().items(), same.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    assert (
        same.state_dict()[next(iter(model.state_dict()))].data_ptr()
        != next(iter(model.state_dict().values())).data_ptr()
    )


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "gpt_neox"])
def test_slicing_twice_is_slicing_by_the_composition(family):
    model = tiny.model(family)
    first = random_plan(model, seed=1)
    once = slice_model(model, first)
    second = random_plan(once, seed=2, drop=0)
    twice, direct = slice_model(once, second), slice_model(model, first.then(second))
    pairs = zip(twice.state_dict().values(), direct.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert Arch.of(twice) == Arch.of(direct)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_place_equals_copy(family):
    model, other = tiny.model(family), tiny.model(family)
    plan = random_plan(model)
    copied = slice_model(model, plan)
    assert slice_model(other, plan, in_place=True) is other
    pairs = zip(copied.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_fall_by_exactly_the_cost_of_the_units(family):
    model = tiny.model(family)
    before, plan, freed = cost_of(model), random_plan(model), 0
    for keep, layer in zip(plan.layers, Body(model).layers, strict=True):
        for unit in UNITS:
            gone = layer.count(unit) - len(keep.kept(unit))
            for cut in layer.cuts(unit) if gone else ():
                weight = layer.module.get_parameter(cut.name)
                freed += gone * cut.rows.shape[1] * weight.numel() // weight.shape[cut.axis]
    after = cost_of(slice_model(model, plan))
    assert freed > 0
    assert before.params - after.params == before.block_params - after.block_params == freed
    groups = sum(len(k.kv_groups) for k in plan.layers)
    whole = sum(layer.kv_groups for layer in Body(model).layers)
    assert after.kv_bytes * whole == before.kv_bytes * groups


def test_tied_embeddings_stay_tied():
    model = tiny.model("qwen2")
    sliced = slice_model(model, random_plan(model))
    assert sliced.lm_head.weight is sliced.model.embed_tokens.weight


def test_gradients_reach_the_kept_part_of_the_parent_alone():
    model, ids = tiny.model("llama"), tiny.ids()
    plan = random_plan(model)
    functional_forward(model, plan, input_ids=ids, labels=ids).loss.backward()
    gate = model.model.layers[0].mlp.gate_proj.weight.grad
    kept = list(plan.layers[0].neurons)
    gone = [i for i in range(48) if i not in kept]
    assert gate[kept].abs().sum() > 0
    assert gate[gone].abs().sum() == 0


def test_masks_leave_no_trace_even_after_an_error():
    model, ids = tiny.model("llama").train(), tiny.ids()
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    random_state, whole = torch.get_rng_state(), model(input_ids=ids).logits
    with pytest.raises(RuntimeError, match="mine"), UnitMasks(model) as masks:
        masks.set(0, "neurons", torch.zeros(48))
        raise RuntimeError("mine")
    assert sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()) == hooks
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(model(input_ids=ids).logits, whole)


@torch.no_grad()
def test_rows_can_have_masks_of_their_own():
    model, ids = tiny.model("llama"), tiny.ids(2)
    keep = (torch.rand(2, 48, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    with UnitMasks(model) as masks:
        masks.set(1, "neurons", keep)
        both = model(input_ids=ids).logits
        for row in range(2):
            masks.set(1, "neurons", keep[row])
            alone = model(input_ids=ids[row : row + 1]).logits[0]
            torch.testing.assert_close(both[row], alone, **CLOSE)


@pytest.mark.parametrize("family", ["llama", "phi", "phi3", "gpt2", "bert"])
@torch.no_grad()
def test_padded_computes_the_same(family):
    model, ids = tiny.model(family), tiny.ids()
    plan = random_plan(model)
    sliced, shapes = slice_model(model, plan), {k: v.shape for k, v in model.state_dict().items()}
    zero_out(model, plan)
    assert {k: v.shape for k, v in model.state_dict().items()} == shapes
    torch.testing.assert_close(output(model(input_ids=ids)), output(sliced(input_ids=ids)), **CLOSE)


def test_json_round_trip_and_its_errors():
    plan = random_plan(tiny.model("llama"))
    assert SlicePlan.from_json(plan.to_json()) == plan
    for text in ("{", "[]", '{"format": 9, "layers": []}', '{"format": 1}'):
        with pytest.raises(DataError):
            SlicePlan.from_json(text)


@pytest.mark.parametrize(
    "layers",
    [
        (),
        (LayerKeep(5, (0,), (0,)),),
        (LayerKeep(0, (), (0,)),),
        (LayerKeep(0, (1, 0), (0,)),),
        (LayerKeep(0, (0,), (0, 0)),),
        (LayerKeep(0, (0,), (999,)),),
    ],
)
def test_plans_that_do_not_fit_are_refused(layers):
    with pytest.raises(CompatibilityError):
        slice_model(tiny.model("llama"), SlicePlan(layers))


def test_other_families_are_refused_by_name():
    model = tiny.model("llama")
    model.config.model_type = "bloom"
    with pytest.raises(CompatibilityError, match="bloom"):
        Body(model)


def test_heads_that_cannot_go_say_why():
    assert "over all heads" in (Body(tiny.model("olmo2")).why_not("kv_groups") or "")
    assert "width / heads" in (Body(tiny.model("gpt2")).why_not("kv_groups") or "")
    assert Body(tiny.model("llama")).why_not("kv_groups") is None
    phi = tiny.model("phi", qk_layernorm=True)
    assert "norms" in (Body(phi).why_not("kv_groups") or "")


def test_plans_of_other_than_whole_numbers_are_refused():
    row = '{"format": 2, "layers": [{"layer": 0, "kv_groups": [0], "neurons": [%s]}]}'
    for text in (*(row % one for one in ("1.5", "Infinity", '"3"', "null")), "[" * 100_000):
        with pytest.raises(DataError, match=r"expected a plan|the plan cannot be read"):
            SlicePlan.from_json(text)
