"""Bonsai: its parts against brute force, its invariants, its verb."""

import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

import tiny
from attar import checkpoint, evaluate
from attar.arch import Arch
from attar.budget import Budget, cost_of
from attar.data import train_tokenizer
from attar.errors import BudgetError, CompatibilityError, ConfigError, DataError
from attar.families import UNITS, Body
from attar.methods.bonsai import BonsaiConfig, apply_plan, prune, search
from attar.methods.bonsai.pieces import Ledger, Piece, draw_pairs, fill, removal_plan
from attar.methods.bonsai.priors import channel_stats, layer_priors, unit_priors
from attar.methods.bonsai.regression import fit_values, kendall_tau
from attar.report import Run
from attar.slicing import SlicePlan, slice_model

METHODS = ["bonsai", "blockwise", "random", "magnitude", "wanda", "flap"]
QUICK = BonsaiConfig(windows=8, window_tokens=16, ffn_block=8)


def windows(rows=24, length=16):
    return tiny.ids(rows, length, seed=7)


def run(model, budget, **options):
    budget = Budget.parse(budget).resolve(cost_of(model))
    options = {"config": QUICK} | options
    return search(model, windows(), budget=budget, **options)


# ----------------------------------------------------------------------------------------- priors


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_priors_equal_a_two_pass_computation(family):
    model, ids = tiny.model(family), windows()
    seen = {}
    layers = Body(model).layers
    for i, layer in enumerate(layers):
        for unit in UNITS:
            layer.out(unit).register_forward_pre_hook(
                lambda _, args, key=(i, unit): seen.__setitem__(key, args[0].flatten(0, 1).double())
            )
    with torch.no_grad():
        model(input_ids=ids)
    for prior in ("wanda", "magnitude", "fluctuation"):
        generator = torch.Generator()
        found = unit_priors(model, ids, prior, generator=generator, batch_size=len(ids))
        for (i, unit), x in seen.items():
            weight = layers[i].out(unit).weight.detach().double()
            weight = weight if family == "gpt2" else weight.T  # (in, out)
            expected = {
                "wanda": weight.abs().mean(1) * x.square().mean(0).sqrt(),
                "magnitude": x.abs().mean(0),
                "fluctuation": x.var(0, correction=0) * weight.square().sum(1),
            }[prior]
            expected = expected[layers[i].columns(unit)].mean(1)
            torch.testing.assert_close(found[i, unit], expected, rtol=1e-5, atol=1e-8)


def test_priors_do_not_depend_on_batches():
    model, ids = tiny.model("llama"), windows(9)
    one = channel_stats(model, ids, batch_size=9)
    other = channel_stats(model, ids.flip(0), batch_size=2)
    for key, stats in one.items():
        assert stats.tokens == other[key].tokens == ids.numel()
        torch.testing.assert_close(stats.variance, other[key].variance, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(stats.mean_square, other[key].mean_square, rtol=1e-5, atol=0)


def test_a_split_neuron_has_half_the_wanda_and_a_quarter_of_the_fluctuation_prior():
    model, ids = tiny.model("llama"), windows()
    mlp = model.model.layers[0].mlp
    priors = ("wanda", "fluctuation")

    def measured():
        return {
            p: unit_priors(model, ids, p, generator=torch.Generator())[0, "neurons"] for p in priors
        }

    with torch.no_grad():
        mlp.down_proj.weight[:, 1] = 0  # neuron 1 is free to become half of neuron 0
        logits, whole = model(input_ids=ids).logits, measured()
        for linear in (mlp.gate_proj, mlp.up_proj):
            linear.weight[1] = linear.weight[0]
        mlp.down_proj.weight[:, 0] /= 2
        mlp.down_proj.weight[:, 1] = mlp.down_proj.weight[:, 0]
        torch.testing.assert_close(model(input_ids=ids).logits, logits, atol=1e-4, rtol=1e-4)
    parts = measured()
    for prior, share in zip(priors, (1 / 2, 1 / 4), strict=True):
        for half in (0, 1):
            expected = pytest.approx(float(whole[prior][0]) * share, rel=1e-4)
            assert float(parts[prior][half]) == expected


def test_block_influence_of_an_idle_layer_is_zero():
    model = tiny.model("llama")
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.zero_()
        model.model.layers[1].mlp.down_proj.weight.zero_()
    influence = layer_priors(model, windows())
    assert influence[1] == pytest.approx(0, abs=1e-6)
    assert influence[0] > 0.01


# ------------------------------------------------------------------------------------- regression


def pairs_of(n, pieces, seed=0):
    keep = (np.random.default_rng(seed).random((n // 2, pieces)) < 0.5).astype(float)
    return np.stack([keep, 1 - keep], 1).reshape(n, pieces)


def test_fit_recovers_an_additive_utility_exactly():
    truth = np.random.default_rng(1).permutation(20) / 10.0
    masks = pairs_of(80, 20)
    fit = fit_values(masks, masks @ truth)
    assert list(np.argsort(fit.beta)) == list(np.argsort(truth))
    assert fit.tau > 0.9


def test_fit_of_noise_says_so():
    masks = pairs_of(64, 30)
    noise = np.random.default_rng(5).standard_normal(64)
    assert abs(fit_values(masks, noise).tau) < 0.35


def test_leave_pair_out_is_the_brute_force_refit():
    masks, rng = pairs_of(24, 6), np.random.default_rng(2)
    y = masks @ rng.standard_normal(6) + 0.3 * rng.standard_normal(24)
    fit = fit_values(masks, y)
    predicted = np.empty(24)
    for pair in range(12):
        out = np.array([2 * pair, 2 * pair + 1])
        rest = np.delete(np.arange(24), out)
        x, t = masks[rest] - masks[rest].mean(0), y[rest] - y[rest].mean()
        beta = np.linalg.solve(x.T @ x + fit.penalty * np.eye(6), x.T @ t)
        predicted[out] = y[rest].mean() + (masks[out] - masks[rest].mean(0)) @ beta
    assert kendall_tau(y, predicted) == pytest.approx(fit.tau, abs=1e-9)


def test_equal_columns_get_equal_values():
    masks = pairs_of(40, 8)
    masks[:, 5] = masks[:, 2]
    y = masks @ np.arange(8.0)
    beta = fit_values(masks, y).beta
    assert beta[5] == pytest.approx(beta[2])


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_unusable_evaluations_rank_worst_and_are_counted(bad):
    masks = pairs_of(40, 6)
    y = masks @ np.array([5.0, 1, 1, 1, 1, 1])
    hit = masks[:, 0] == 0
    y[hit] = bad  # the model breaks whenever piece 0 is off
    fit = fit_values(masks, y)
    assert fit.unusable == hit.sum()
    assert np.argmax(fit.beta) == 0


def test_kendall_tau_by_hand():
    a = np.array([1.0, 2, 3, 4])
    assert kendall_tau(a, a) == 1
    assert kendall_tau(a, -a) == -1
    assert kendall_tau(a, np.array([1.0, 3, 2, 4])) == pytest.approx(4 / 6)
    assert kendall_tau(a, np.zeros(4)) == 0


# --------------------------------------------------------------------------------- pools and masks


@pytest.mark.parametrize("sampling", ["coin", "prior_weighted"])
def test_every_piece_is_on_in_exactly_one_of_each_pair(sampling):
    pool = [Piece(0, "neurons", (i,)) for i in range(9)] + [Piece(1, "kv_groups", (0,))]
    priors = {(0, "neurons"): torch.rand(20), (1, "kv_groups"): torch.ones(4)}
    config = BonsaiConfig(sampling=sampling)
    generator = torch.Generator().manual_seed(0)
    keep = draw_pairs(pool, 16, config=config, priors=priors, generator=generator)
    assert keep.shape == (32, 10)
    assert torch.equal(keep[::2] + keep[1::2], torch.ones(16, 10))
    totals = keep[::2, :9].sum(1)
    assert (len(set(totals.tolist())) > 1) == (sampling == "coin")


@pytest.mark.parametrize("uniform", [False, True])
def test_fill_overshoots_by_at_most_one_piece(uniform):
    rng = np.random.default_rng(0)
    pool = [Piece(i % 3, "neurons", tuple(range(8))) for i in range(30)]
    values, costs = rng.random(30).tolist(), [8.0] * 30
    for amount in (1, 8, 30, 100):
        gone = fill(pool, values, costs, amount, config=QUICK, uniform=uniform, trim=False)
        saved = 8.0 * len(gone)
        assert amount <= saved < amount + (24 if uniform else 8)
        if uniform:
            counts = [sum(p.layer == i for p in gone) for i in range(3)]
            assert len(set(counts)) == 1


def test_fill_takes_the_least_value_per_cost():
    pool = [Piece(0, "kv_groups", (0,)), Piece(0, "neurons", (0,))]
    for rank_by, first in (("value_per_cost", "kv_groups"), ("value", "neurons")):
        config = BonsaiConfig(rank_by=rank_by, round_to=1)
        gone = fill(pool, [2.0, 1.0], [10.0, 1.0], 0.5, config=config, uniform=False, trim=False)
        assert gone[0].unit == first


def test_the_last_piece_is_trimmed_to_what_is_missing():
    pool = [Piece(0, "neurons", tuple(range(24)))]
    (gone,) = fill(pool, [1.0], [24.0], 9.0, config=QUICK, uniform=False, trim=True)
    assert gone.members == tuple(range(16))


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("key", ["params", "bytes", "kv_bytes", "macs"])
def test_ledger_agrees_with_the_real_cost(family, key):
    model = tiny.model(family)
    (constraint,) = Budget.parse(f"{key}<=99%").constraints
    pool = [Piece(0, "neurons", (1, 2, 5)), Piece(2, "neurons", (0,))]
    if family != "gpt2":
        pool.append(Piece(1, "kv_groups", (2,)))
    ledger = Ledger(model, {})
    saved = sum(ledger.piece(key, p) for p in pool)
    after = slice_model(model, removal_plan(model, pool))
    assert constraint.value(cost_of(model)) - constraint.value(cost_of(after)) == saved


# ------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", ["per_layer", "uniform", "depth"])
def test_every_method_and_layout_meets_the_budget(method, layout):
    model = tiny.model("llama")
    before = cost_of(model)
    if layout == "depth" and method in ("magnitude", "wanda", "flap"):
        with pytest.raises(CompatibilityError, match="cannot compare layers"):
            run(model, "params<=60%", method=method, layout=layout)
        return
    found = run(model, "params<=60%", method=method, layout=layout)
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
    pairs = zip(fresh.state_dict().values(), model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)  # the plan reproduces the weights bit for bit
    assert SlicePlan.from_json(found.plan.to_json()) == found.plan


@pytest.mark.parametrize(
    "budget",
    ["bytes<=70KB", "kv_bytes<=50%", "macs<=60%", "params<=70% of total, kv_bytes<=60%"],
)
def test_budgets_in_every_counted_currency(budget):
    model = tiny.model("llama")
    limits = Budget.parse(budget).resolve(cost_of(model))
    found = run(model, budget)
    assert limits.admits(cost_of(model))
    assert {step.currency for step in found.steps} <= {c.name for c in limits.constraints}


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_every_family_prunes(family):
    model = tiny.model(family)
    found = run(model, "params<=70%", config=BonsaiConfig(step=0.2, windows=4, ffn_block=8))
    limit = 0.7 * cost_of(tiny.model(family)).block_params
    assert cost_of(model).block_params <= limit + 1e-6
    assert bool(found.notes) == bool(Body(model).why_not("kv_groups"))


def test_a_full_budget_changes_nothing():
    model = tiny.model("llama")
    found = run(model, "params<=100%")
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
    found = run(model, "params<=84%", method=method, metric=closeness, config=config)
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
            "params<=60%",
            method="random",
            config=BonsaiConfig(windows=4, seed=seed),
        )
        plans.append(found.plan)
    assert plans[0] == plans[1] != plans[2]


def test_every_step_reads_new_windows():
    texts = []
    original = evaluate.nll

    def spy(model, ids, **kwargs):
        texts.append(ids.clone())
        return original(model, ids, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "nll", spy)
        found = run(tiny.model("llama"), "params<=85%")
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
        run(model, "params<=60%", metric=broken)
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
    run(model, "params<=60%", metric=first_layer_wide)
    widths = [layer.neurons for layer in Body(model).layers]
    assert widths[0] > max(widths[1:])


def test_protected_modules_stay_whole():
    model = tiny.model("llama")
    config = BonsaiConfig(windows=4, ffn_block=8, protect=("layers.0.attention", "layers.2.mlp"))
    run(model, "params<=60%", config=config)
    layers = Body(model).layers
    assert layers[0].kv_groups == 4
    assert layers[2].neurons == 48


def test_protected_layers_stay_under_their_own_number():
    for seed in range(3):
        config = BonsaiConfig(windows=4, protect=("layers.2",), seed=seed)
        found = run(tiny.model("llama"), "params<=34%", layout="depth", config=config)
        assert [k.layer for k in found.plan.layers] == [2]
        assert set().union(*(s.removed for s in found.steps)) == {"layers.0", "layers.1"}


def test_protecting_one_layer_of_a_uniform_result_protects_all():
    model = tiny.model("llama")
    config = BonsaiConfig(windows=4, ffn_block=8, protect=("layers.0.attention",))
    run(model, "params<=60%", layout="uniform", config=config)
    assert Arch.of(model).uniform
    assert {layer.kv_groups for layer in Body(model).layers} == {4}


def test_unknown_modules_cannot_be_protected():
    config = BonsaiConfig(windows=4, protect=("layers.9.mlp",))
    with pytest.raises(ConfigError, match=r"layers\.9\.mlp"):
        run(tiny.model("llama"), "params<=60%", config=config)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3", "opt"])
def test_depth_counts_multiplications_of_every_family(family):
    model = tiny.model(family)
    before = cost_of(model).macs
    run(model, "macs<=70%", layout="depth", method="random")
    assert cost_of(model).macs <= 0.7 * before


def test_a_broken_evaluation_does_not_spoil_its_neighbours():
    def metric(model):
        value = -evaluate.nll(model, windows(4))
        metric.calls += 1
        return math.nan if metric.calls % 5 == 0 else value

    metric.calls = 0
    found = run(tiny.model("llama"), "params<=80%", method="blockwise", metric=metric)
    assert sum(step.unusable for step in found.steps) > 0
    assert all(not math.isnan(v) for step in found.steps for v in step.importance.values())


def test_a_latency_budget_that_the_parent_meets_changes_nothing(parent, text):
    model, tokenizer = checkpoint.load(parent), checkpoint.load_tokenizer(parent)
    before = cost_of(model)
    record = prune(model, text, budget="prefill<=10s", tokenizer=tokenizer, config=QUICK)
    assert cost_of(model) == before
    assert record.details["steps"] == []


def test_an_encoder_has_no_cache_to_bound(parent, text, tmp_path):
    tokenizer = checkpoint.load_tokenizer(parent)
    folder = tmp_path / "encoder"
    checkpoint.save(tiny.model("bert", vocab_size=len(tokenizer)), folder, tokenizer=tokenizer)
    for budget in ("kv_bytes<=50%", "latency<=20ms"):
        with pytest.raises(BudgetError, match="generates no tokens"):
            prune(folder, text, budget=budget, output_dir=tmp_path / "out", config=QUICK)


def test_resume_refuses_other_text(parent, text, tmp_path):
    out = tmp_path / "out"
    options = {"budget": "params<=60%", "output_dir": out, "config": QUICK}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attar.methods.bonsai.values.fit_values", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prune(parent, text, **options)
    other = DatasetDict(
        {k: v.map(lambda row: {"text": row["text"] + " else"}) for k, v in text.items()}
    )
    with pytest.raises(ConfigError, match="has changed"):
        prune(parent, other, resume=True, **options)
    prune(parent, text, resume=True, **options)


def test_out_of_reach_names_the_least():
    with pytest.raises(
        BudgetError, match=r"least params of blocks .* can give this model is"
    ) as caught:
        run(tiny.model("llama"), "params<=1%")
    least = float(str(caught.value).split("model is ")[1].split(" ")[0])
    model = tiny.model("llama")
    run(model, f"params<={int(least)} of blocks")
    assert cost_of(model).block_params == least
    with pytest.raises(BudgetError, match="out of reach"):  # heads stay, so no cache is saved
        run(tiny.model("gpt2"), "kv_bytes<=50%")


def test_nan_weights_are_refused():
    model = tiny.model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(DataError, match="not finite"):
        run(model, "params<=60%")


def test_uniform_needs_a_uniform_parent():
    model = tiny.model("llama")
    run(model, "params<=70%", method="wanda")
    with pytest.raises(CompatibilityError, match="all alike"):
        run(model, "params<=90%", layout="uniform")


@pytest.mark.parametrize("stop_after", [3, 40, 70])
def test_resumed_equals_uninterrupted_and_repeats_no_evaluation(stop_after, tmp_path):
    budget = Budget.parse("params<=70%").resolve(cost_of(tiny.model("llama")))
    options = {"budget": budget, "config": QUICK}
    whole = search(tiny.model("llama"), windows(), **options)
    total = sum(step.evaluations for step in whole.steps)
    calls = 0
    original = evaluate.nll

    def counted(model, ids, **kwargs):
        nonlocal calls
        if len(ids) > 1:  # the check of the parent reads one row
            calls += 1
            if calls == stop_after:
                raise KeyboardInterrupt
        return original(model, ids, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "nll", counted)
        with pytest.raises(KeyboardInterrupt):
            search(tiny.model("llama"), windows(), state=tmp_path, **options)
        last = sorted(tmp_path.glob("step-*.jsonl"))[-1]
        with last.open("a") as out:  # a line that the kill cut short
            out.write("-4.1")
        resumed = search(tiny.model("llama"), windows(), state=tmp_path, **options)
    assert resumed.plan == whole.plan
    assert [s.importance for s in resumed.steps] == [s.importance for s in whole.steps]
    assert calls == total + 1


# --------------------------------------------------------------------------------------- the verb


@pytest.fixture(scope="module")
def text():
    words = [
        "def",
        "return",
        "import",
        "class",
        "self",
        "none",
        "true",
        "for",
        "in",
        "range",
        "print",
        "yield",
        "pass",
    ]
    rng = np.random.default_rng(0)
    rows = [" ".join(rng.choice(words, 60)) for _ in range(120)]
    splits = {"train": rows[:100], "validation": rows[100:110], "test": rows[110:]}
    return DatasetDict({k: Dataset.from_dict({"text": v}) for k, v in splits.items()})


@pytest.fixture(scope="module")
def parent(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent") / "model"
    tokenizer = train_tokenizer(text["train"], vocab_size=300, context=64)
    model = tiny.model("llama", vocab_size=len(tokenizer))
    checkpoint.save(model, folder, tokenizer=tokenizer)
    return folder


def test_prune_writes_checkpoint_record_plan_and_card(parent, text, tmp_path):
    out = tmp_path / "half"
    record = prune(parent, text, budget="params<=50%", output_dir=out, config=QUICK)
    names = {p.name for p in out.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "attar.json",
        "plan.json",
        "README.md",
    } <= names
    assert "state" not in names
    assert record.budget is not None
    assert record.budget["met"]
    model = checkpoint.load(out)
    assert cost_of(model).block_params == record.cost["after"]["block_params"]
    stored = Run.load(out)
    assert stored.to_dict() == record.to_dict()
    again = tmp_path / "again"
    applied = apply_plan(parent, out, output_dir=again)
    assert applied.details["same_parent"]
    first, second = checkpoint.load(out).state_dict(), checkpoint.load(again).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert json.loads((out / "plan.json").read_text())["parent"] == str(parent)


def test_padded_keeps_shapes_and_equals_the_per_layer_result(parent, text, tmp_path):
    for layout in ("per_layer", "padded"):
        prune(
            parent,
            text,
            budget="params<=60%",
            output_dir=tmp_path / layout,
            layout=layout,
            method="wanda",
            config=QUICK,
        )
    ids = tiny.ids()
    cut, padded = (checkpoint.load(tmp_path / x) for x in ("per_layer", "padded"))
    assert Arch.of(padded) == Arch.of(checkpoint.load(parent))
    torch.testing.assert_close(
        cut(input_ids=ids).logits, padded(input_ids=ids).logits, atol=1e-4, rtol=1e-4
    )


def test_a_loaded_model_is_cut_in_place(parent, text):
    model = checkpoint.load(parent)
    tokenizer = checkpoint.load_tokenizer(parent)
    before = cost_of(model).block_params
    record = prune(
        model, text, budget="params<=60%", tokenizer=tokenizer, method="flap", config=QUICK
    )
    assert cost_of(model).block_params == record.cost["after"]["block_params"] <= 0.6 * before


def test_an_encoder_is_pruned_by_how_close_it_stays(parent, text, tmp_path):
    tokenizer = checkpoint.load_tokenizer(parent)
    folder = tmp_path / "encoder"
    checkpoint.save(tiny.model("bert", vocab_size=len(tokenizer)), folder, tokenizer=tokenizer)
    record = prune(folder, text, budget="params<=80%", output_dir=tmp_path / "out", config=QUICK)
    assert record.quality["before"]["fidelity"] == pytest.approx(1)
    assert 0 < record.quality["after"]["fidelity"] < 1
    assert any("heads stay" in note for note in record.details["notes"])
    checkpoint.load(tmp_path / "out")


def test_a_foreign_tokenizer_is_refused_and_nothing_is_written(parent, text, tmp_path):
    wide = train_tokenizer(text["train"], vocab_size=320, context=64)
    model = tiny.model("llama", vocab_size=280)
    with pytest.raises(CompatibilityError, match="do not belong together"):
        prune(
            model,
            text,
            budget="params<=50%",
            tokenizer=wide,
            config=QUICK,
            output_dir=tmp_path / "o",
        )
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_leave_nothing_behind(parent, text, tmp_path):
    out = tmp_path / "out"
    cases = [
        (DataError, {"model": "/no/such"}),
        (BudgetError, {"budget": "params<=2%"}),
        (BudgetError, {"budget": "half"}),
        (DataError, {"data": tmp_path / "none.txt"}),
        (DataError, {"config": BonsaiConfig(windows=10_000)}),
    ]
    for error, change in cases:
        options = {"model": parent, "data": text, "budget": "params<=50%", "config": QUICK} | change
        with pytest.raises(error):
            prune(options.pop("model"), options.pop("data"), output_dir=out, **options)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError):
        BonsaiConfig(step=0)


@pytest.mark.parametrize("key", ["prefill", "latency"])
def test_latency_budget_steers_by_the_table(parent, text, tmp_path, monkeypatch, key):
    def clock(model, *settings):  # real clocks belong in benchmarks
        tokens = settings[1] if len(settings) > 2 else 1  # decode calls time all new tokens
        widths = Arch.of(model).layers
        time = 5 + sum(2 * x.num_key_value_heads + 0.1 * x.intermediate_size for x in widths)
        return lambda: time * tokens

    for module in ("attar.budget", "attar.latency"):
        monkeypatch.setattr(f"{module}.prefill_call", lambda model, *_: clock(model))
        monkeypatch.setattr(f"{module}.decode_call", clock)
    record = prune(
        parent, text, budget=f"{key}<=70%", output_dir=tmp_path / "o", method="wanda", config=QUICK
    )
    assert record.budget is not None
    assert record.budget["met"]
    found = record.details[f"{key}_prediction"]
    assert found["error"] == pytest.approx(0, abs=1e-9)
    (row,) = record.budget["constraints"]
    assert 0.5 * row["limit"] < row["achieved"] <= row["limit"]
