"""Bonsai's parts against brute force: priors, regression, pools, removal, the ledger."""

import math

import numpy as np
import pytest
import torch

import tiny
from attar.budget import Budget
from attar.families import UNITS, Body
from attar.measure.cost import cost_of
from attar.methods.bonsai import BonsaiConfig, draw_pairs, fit_values, kendall_tau
from attar.pruning.importance import channel_stats, layer_importance, unit_importance
from attar.pruning.ledger import Ledger
from attar.pruning.pieces import UnitGroup, removal_plan, select_removals
from attar.slicing import slice_model

QUICK = BonsaiConfig(windows=8, context=16, ffn_block=8)


def windows(rows=24, length=16):
    return tiny.ids(rows, length, seed=7)


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
        found = unit_importance(model, ids, prior=prior, generator=generator, batch_size=len(ids))
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
            p: unit_importance(model, ids, prior=p, generator=torch.Generator())[0, "neurons"]
            for p in priors
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
    influence = layer_importance(model, windows())
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
    assert fit.kendall_tau > 0.9


def test_fit_of_noise_says_so():
    masks = pairs_of(64, 30)
    noise = np.random.default_rng(5).standard_normal(64)
    assert abs(fit_values(masks, noise).kendall_tau) < 0.35


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
    assert kendall_tau(y, predicted) == pytest.approx(fit.kendall_tau, abs=1e-9)


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
    pool = [UnitGroup(0, "neurons", (i,)) for i in range(9)] + [UnitGroup(1, "kv_groups", (0,))]
    priors = {(0, "neurons"): torch.rand(20), (1, "kv_groups"): torch.ones(4)}
    generator = torch.Generator().manual_seed(0)
    keep = draw_pairs(pool, 16, sampling=sampling, importance=priors, generator=generator)
    assert keep.shape == (32, 10)
    assert torch.equal(keep[::2] + keep[1::2], torch.ones(16, 10))
    totals = keep[::2, :9].sum(1)
    assert (len(set(totals.tolist())) > 1) == (sampling == "coin")


@pytest.mark.parametrize("uniform", [False, True])
def test_fill_overshoots_by_at_most_one_piece(uniform):
    rng = np.random.default_rng(0)
    pool = [UnitGroup(i % 3, "neurons", tuple(range(8))) for i in range(30)]
    values, costs = rng.random(30).tolist(), [8.0] * 30
    for amount in (1, 8, 30, 100):
        gone = select_removals(
            pool, values, costs=costs, amount=amount, config=QUICK, uniform=uniform, trim=False
        )
        saved = 8.0 * len(gone)
        assert amount <= saved < amount + (24 if uniform else 8)
        if uniform:
            counts = [sum(p.layer == i for p in gone) for i in range(3)]
            assert len(set(counts)) == 1


def test_fill_takes_the_least_value_per_cost():
    pool = [UnitGroup(0, "kv_groups", (0,)), UnitGroup(0, "neurons", (0,))]
    for rank_by, first in (("value_per_cost", "kv_groups"), ("value", "neurons")):
        config = BonsaiConfig(rank_by=rank_by, round_to=1)
        gone = select_removals(
            pool,
            [2.0, 1.0],
            costs=[10.0, 1.0],
            amount=0.5,
            config=config,
            uniform=False,
            trim=False,
        )
        assert gone[0].unit == first


def test_the_last_piece_is_trimmed_to_what_is_missing():
    pool = [UnitGroup(0, "neurons", tuple(range(24)))]
    (gone,) = select_removals(
        pool, [1.0], costs=[24.0], amount=9.0, config=QUICK, uniform=False, trim=True
    )
    assert gone.members == tuple(range(16))


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("key", ["params", "blocks", "bytes", "kv_bytes", "macs"])
def test_the_cost_model_agrees_with_the_real_cost(family, key):
    model = tiny.model(family)
    (constraint,) = Budget.parse(f"{key}<=99%").constraints
    pool = [UnitGroup(0, "neurons", (1, 2, 5)), UnitGroup(2, "neurons", (0,))]
    if family != "gpt2":
        pool.append(UnitGroup(1, "kv_groups", (2,)))
    budget = Budget((constraint,)).resolve(cost_of(model))
    costs = Ledger(model, budget, layout="per_layer", config=QUICK, modules=[], tables={})
    saved = sum(costs.of_groups(key, pool))
    after = slice_model(model, removal_plan(model, pool))
    assert constraint.value(cost_of(model)) - constraint.value(cost_of(after)) == saved
