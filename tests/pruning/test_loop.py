"""Bonsai's loop: budgets, layouts, metrics, what is refused, resuming."""

import math
from dataclasses import replace

import pytest
import torch

import tiny
from attar import models
from attar.arch import Arch
from attar.budget import Budget
from attar.errors import BudgetError, CompatibilityError, ConfigError, DataError
from attar.evaluation import likelihood
from attar.families import UNITS, Body
from attar.measure.cost import cost_of
from attar.measure.memory import watch_memory
from attar.methods.bonsai import BonsaiConfig, strategy_of
from attar.pruning import importance
from attar.pruning.loop import LoopTask, prune_to_budget
from attar.slicing import SlicePlan, slice_model

METHODS = ["bonsai", "blockwise", "random", "magnitude", "wanda", "flap"]
QUICK = BonsaiConfig(windows=4, context=16, ffn_block=8, evaluations=12)


def windows(rows=24, length=16):
    return tiny.ids(rows, length, seed=7)


def search(model, text, *, method="bonsai", **options):
    task = LoopTask(model=model, windows=text, strategy=strategy_of(method), **options)
    return prune_to_budget(task)


def run(model, budget, **options):
    budget = Budget.parse(budget).resolve(cost_of(model))
    options = {"config": QUICK} | options
    return search(model, windows(), budget=budget, **options)


# ------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", ["per_layer", "uniform", "depth"])
def test_every_method_and_layout_meets_the_budget(method, layout):
    model = tiny.model("llama")
    before = cost_of(model)
    if layout == "depth" and method in ("magnitude", "wanda", "flap"):
        with pytest.raises(CompatibilityError, match="cannot compare layers"):
            run(model, "blocks<=60%", method=method, layout=layout)
        return
    found = run(model, "blocks<=60%", method=method, layout=layout)
    after = cost_of(model)
    unit = before.block_params / 3 if layout == "depth" else 3 * 8 * 3 * 32 + 3 * 768
    assert after.block_params <= 0.6 * before.block_params
    assert after.block_params > 0.6 * before.block_params - unit
    assert Arch.of(model).uniform or layout == "per_layer"
    for layer in Body(model).layers:
        assert layer.kv_groups >= 1
        assert layer.heads % layer.kv_groups == 0
        assert layer.neurons >= 8
        assert layer.neurons % 8 == 0
    fresh = slice_model(tiny.model("llama"), found.plan)
    ours = model.state_dict()  # of which the plan reproduces all but FLAP's biases, bit for bit
    assert all(torch.equal(value, ours[name]) for name, value in fresh.state_dict().items())
    assert method == "flap" or len(fresh.state_dict()) == len(ours)
    assert SlicePlan.from_json(found.plan.to_json()) == found.plan


@pytest.mark.parametrize("method", ["magnitude", "wanda", "flap", "random"])
def test_a_baseline_in_steps_scores_anew_and_keeps_shares_equal(method):
    config = replace(QUICK, iterative=True, step=0.1, allocation="equal", round_to=1)
    model, parent = tiny.model("llama"), tiny.model("llama")
    found = run(model, "blocks<=50%", method=method, config=config)
    assert len(found.steps) > 3
    for layer, whole in zip(Body(model).layers, Body(parent).layers, strict=True):
        for unit in UNITS:
            near = 2 if method == "flap" else 1  # its biases take a share, too
            assert layer.count(unit) == pytest.approx(0.5 * whole.count(unit), abs=near)
    at_once = run(parent, "blocks<=50%", method=method, config=replace(config, iterative=False))
    assert len(at_once.steps) == 1
    assert found.plan != at_once.plan


def test_widths_fit_the_hardware_after_every_step():
    seen = []

    def metric(model):
        seen.append([(layer.kv_groups, layer.heads, layer.neurons) for layer in Body(model).layers])
        return -float(likelihood.nll(model, windows()))

    run(tiny.model("llama"), "blocks<=40%", metric=metric)
    assert len({tuple(widths) for widths in seen}) > 5
    for groups, heads, neurons in (layer for widths in seen for layer in widths):
        assert groups >= 1
        assert heads % groups == 0
        assert neurons >= QUICK.ffn_block
        assert neurons % QUICK.round_to == 0


@pytest.mark.parametrize(
    "budget",
    ["bytes<=70KB", "kv_bytes<=50%", "macs<=60%", "params<=70%, kv_bytes<=60%"],
)
def test_budgets_in_every_counted_constraint(budget):
    model = tiny.model("llama")
    limits = Budget.parse(budget).resolve(cost_of(model))
    found = run(model, budget)
    assert limits.admits(cost_of(model))
    assert {step.constraint for step in found.steps} <= {c.key for c in limits.constraints}


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_every_family_prunes(family):
    model = tiny.model(family)
    found = run(model, "blocks<=70%", config=replace(QUICK, step=0.2))
    limit = 0.7 * cost_of(tiny.model(family)).block_params
    assert cost_of(model).block_params <= limit + 1e-6
    assert bool(found.notes) == bool(Body(model).why_not("kv_groups"))


def test_a_full_budget_changes_nothing():
    model = tiny.model("llama")
    found = run(model, "blocks<=100%")
    assert found.steps == []
    pairs = zip(model.state_dict().values(), tiny.model("llama").state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_smaller_budgets_give_smaller_models():
    sizes = []
    for share in (90, 70, 50):
        model = tiny.model("llama")
        run(model, f"params<={share}%", method="wanda")
        sizes.append(cost_of(model).params)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("method", ["bonsai", "blockwise"])
def test_dead_units_go_first(method):
    model, ids = tiny.model("llama"), windows(4)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[:, 8:40] = 0
        model.model.layers[2].self_attn.o_proj.weight[:, :8] = 0  # KV group 0
        wanted = model(input_ids=ids).logits

    @torch.no_grad()
    def closeness(candidate):  # whatever is alive does harm when it goes
        return -float((candidate(input_ids=ids).logits - wanted).square().mean())

    # the first layer outweighs the others fifty times, and its interactions would drown them
    first = ("layers.0.attention", "layers.0.mlp")
    config = BonsaiConfig(windows=4, ffn_block=8, evaluations=200, protect=first)
    found = run(model, "blocks<=84%", method=method, metric=closeness, config=config)
    kept = {k.layer: k for k in found.plan.layers}
    assert kept[2].kv_groups == (1, 2, 3)
    assert set(kept[1].neurons) == {*range(8), *range(40, 48)}
    assert len(kept[0].neurons) == len(kept[2].neurons) == 48
    assert closeness(model) == pytest.approx(0, abs=1e-8)


def test_same_seed_same_plan_and_another_seed_another():
    plans = []
    for seed in (0, 0, 1):
        found = run(
            tiny.model("llama"),
            "blocks<=60%",
            method="random",
            config=BonsaiConfig(windows=4, seed=seed),
        )
        plans.append(found.plan)
    assert plans[0] == plans[1] != plans[2]


def test_every_step_reads_new_windows():
    texts = []
    original = likelihood.nll

    def spy(model, ids, **kwargs):
        texts.append(ids.clone())
        return original(model, ids, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "nll", spy)
        found = run(tiny.model("llama"), "blocks<=85%")
    assert len(found.steps) >= 2
    per_step = [step.evaluations for step in found.steps]
    first, second = texts[1], texts[1 + per_step[0]]
    assert torch.equal(first, texts[per_step[0]])  # all sub-models of one step see the same
    assert not torch.equal(first, second)


def test_any_metric_and_an_error_in_it_leaves_no_trace():
    model = tiny.model("llama")
    state = torch.get_rng_state()

    def broken(_):
        torch.rand(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(model, "blocks<=60%", metric=broken)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    pairs = zip(model.state_dict().values(), tiny.model("llama").state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_metric_steers_the_search():
    def first_layer_wide(model):  # worth of the first layer's neurons alone, masks included
        seen = []
        mlp = model.model.layers[0].mlp.down_proj
        handle = mlp.register_forward_pre_hook(
            lambda _, args: seen.append(float((args[0] != 0).float().mean()) * args[0].shape[-1])
        )
        with torch.no_grad():
            model(input_ids=windows(1))
        handle.remove()
        return seen[0]

    model = tiny.model("llama")
    run(model, "blocks<=60%", metric=first_layer_wide)
    widths = [layer.neurons for layer in Body(model).layers]
    assert widths[0] > max(widths[1:])


def test_protected_modules_stay_whole():
    model = tiny.model("llama")
    config = replace(QUICK, protect=("layers.0.attention", "layers.2.mlp"))
    run(model, "blocks<=60%", config=config)
    layers = Body(model).layers
    assert layers[0].kv_groups == 4
    assert layers[2].neurons == 48


def test_protected_layers_stay_under_their_own_number():
    for seed in range(3):
        config = BonsaiConfig(windows=4, protect=("layers.2",), seed=seed)
        found = run(tiny.model("llama"), "blocks<=34%", layout="depth", config=config)
        assert [k.layer for k in found.plan.layers] == [2]
        assert set().union(*(s.removed for s in found.steps)) == {"layers.0", "layers.1"}


def test_protecting_one_layer_of_a_uniform_result_protects_all():
    model = tiny.model("llama")
    config = replace(QUICK, protect=("layers.0.attention",))
    run(model, "blocks<=60%", layout="uniform", config=config)
    assert Arch.of(model).uniform
    assert {layer.kv_groups for layer in Body(model).layers} == {4}


def test_unknown_modules_cannot_be_protected():
    config = BonsaiConfig(windows=4, protect=("layers.9.mlp",))
    with pytest.raises(ConfigError, match=r"layers\.9\.mlp"):
        run(tiny.model("llama"), "blocks<=60%", config=config)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3", "opt"])
def test_depth_counts_multiplications_of_every_family(family):
    model = tiny.model(family)
    before = cost_of(model).macs
    run(model, "macs<=70%", layout="depth", method="random")
    assert cost_of(model).macs <= 0.7 * before


@pytest.mark.parametrize("broken", [0, 1])  # 1: the first, which is of the whole model
def test_a_broken_evaluation_does_not_spoil_its_neighbours(broken):
    def metric(model):
        value = -likelihood.nll(model, windows(4))
        metric.calls += 1
        return math.nan if metric.calls % 5 == broken else value

    metric.calls = 0
    options = {"method": "blockwise", "config": replace(QUICK, windows=8)}
    found = run(tiny.model("llama"), "blocks<=80%", metric=metric, **options)
    assert sum(step.unusable for step in found.steps) > 0
    assert all(not math.isnan(v) for step in found.steps for v in step.importance.values())


def test_out_of_reach_names_the_least():
    with pytest.raises(BudgetError, match=r"least blocks .* can give this model is") as caught:
        run(tiny.model("llama"), "blocks<=1%")
    least = float(str(caught.value).split("model is ")[1].split(" ")[0])
    model = tiny.model("llama")
    run(model, f"blocks<={int(least)}")
    assert cost_of(model).block_params == least
    with pytest.raises(BudgetError, match="out of reach"):  # heads stay, so no cache is saved
        run(tiny.model("gpt2"), "kv_bytes<=50%")


def test_nan_weights_are_refused():
    model = tiny.model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(DataError, match="not finite"):
        run(model, "blocks<=60%")


def test_uniform_needs_a_uniform_parent():
    model = tiny.model("llama")
    run(model, "blocks<=70%", method="wanda")
    with pytest.raises(CompatibilityError, match="all alike"):
        run(model, "blocks<=90%", layout="uniform")


@pytest.fixture(scope="module")
def whole():
    return run(tiny.model("llama"), "blocks<=70%")


@pytest.mark.parametrize("stop_after", [3, 14, 40])  # in the first step, and in later ones
def test_resumed_equals_uninterrupted_and_repeats_no_evaluation(stop_after, whole, tmp_path):
    total = sum(step.evaluations for step in whole.steps)
    calls = 0
    original = likelihood.nll

    def counted(model, ids, **kwargs):
        nonlocal calls
        if len(ids) > 1:  # the check of the parent reads one row
            calls += 1
            if calls == stop_after:
                raise KeyboardInterrupt
        return original(model, ids, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "nll", counted)
        with pytest.raises(KeyboardInterrupt):
            run(tiny.model("llama"), "blocks<=70%", state=tmp_path)
        last = sorted(tmp_path.glob("step-*.jsonl"))[-1]
        with last.open("a") as out:  # a line that the kill cut short
            out.write("-4.1")
        resumed = run(tiny.model("llama"), "blocks<=70%", state=tmp_path)
    assert resumed.plan == whole.plan
    assert [s.importance for s in resumed.steps] == [s.importance for s in whole.steps]
    assert calls == total + 1


def test_the_search_holds_hardly_more_than_evaluation(monkeypatch):
    # wide feed-forward layers, so that a copy of their activations shows, in a half-precision type,
    # so that a wider copy does
    monkeypatch.setattr(models, "native_bfloat16", lambda: True)
    monkeypatch.setattr(importance, "NUMBERS_AT_A_TIME", 2**14)
    model = tiny.model(hidden_size=16, intermediate_size=2048, num_hidden_layers=2).bfloat16()
    text = windows(8, 64)
    with watch_memory(model) as evaluated:
        likelihood.nll(model, text)
    with watch_memory(model) as searched:
        options = {"config": replace(QUICK, windows=8, evaluations=4, step=1.0, ffn_block=256)}
        search(model, text, budget=Budget.parse("blocks<=90%").resolve(cost_of(model)), **options)
    assert searched.start == evaluated.start
    assert searched.bytes <= 1.06 * evaluated.bytes
