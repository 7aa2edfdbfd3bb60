"""`prune`: checkpoint, record, plan and card from a model, data and a budget; and the regression,
against brute force.
"""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoModelForSequenceClassification

import tiny
from attar import checkpoint
from attar.arch import Arch
from attar.data.tokens import train_bpe
from attar.errors import BudgetError, CompatibilityError, ConfigError, DataError
from attar.measure.cost import cost_of
from attar.methods.bonsai import (
    BonsaiConfig,
    draw_masks,
    fit_values,
    kendall_tau,
    masks_per_round,
    prune,
    trust,
)
from attar.pruning.apply import apply_plan
from attar.pruning.baselines import ScoringTask
from attar.pruning.pieces import UnitGroup
from attar.report.record import Run

pytestmark = pytest.mark.usefixtures("briefly_timed")
QUICK = BonsaiConfig(windows=8, context=16, ffn_block=8)


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
    tokenizer = train_bpe(text["train"], vocab_size=300, context=64)
    model = tiny.model("llama", vocab_size=len(tokenizer))
    checkpoint.save(model, folder, tokenizer=tokenizer)
    return folder


def test_prune_writes_checkpoint_record_plan_and_card(parent, text, tmp_path):
    out = tmp_path / "half"
    record = prune(parent, text, budget="blocks<=50%", output_dir=out, config=QUICK)
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
    assert json.loads((out / "plan.json").read_text())["parent"] == parent.name
    for layout, found in (("uniform", "every layer its own widths"), ("depth", "narrower layers")):
        with pytest.raises(CompatibilityError, match=f"plan for the layout {layout}.*{found}"):
            apply_plan(parent, out, output_dir=tmp_path / "other", layout=layout)


def test_padded_keeps_shapes_and_equals_the_per_layer_result(parent, text, tmp_path):
    for layout in ("per_layer", "padded"):
        prune(
            parent,
            text,
            budget="blocks<=60%",
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
        model, text, budget="blocks<=60%", tokenizer=tokenizer, method="flap", config=QUICK
    )
    assert cost_of(model).block_params == record.cost["after"]["block_params"] <= 0.6 * before


def test_a_half_precision_parent_is_computed_in_float32_and_written_as_it_was_stored(
    parent, text, tmp_path, monkeypatch
):
    monkeypatch.setattr("attar.models.native_bfloat16", lambda: False)
    half, whole = checkpoint.load(parent, dtype=torch.bfloat16), checkpoint.load(parent)
    tokenizer = checkpoint.load_tokenizer(parent)
    checkpoint.save(half, tmp_path / "half", tokenizer=tokenizer)
    config = replace(QUICK, timing=False, evaluations=12)
    record = prune(
        tmp_path / "half", text, budget="bytes<=80%", output_dir=tmp_path / "out", config=config
    )
    assert record.details["computed_in"] == "float32"
    cut = checkpoint.load(tmp_path / "out")
    assert cut.dtype == torch.bfloat16
    before, after = record.cost["before"], record.cost["after"]
    assert before["bytes"] == cost_of(half).bytes == cost_of(whole).bytes // 2
    assert after["bytes"] == cost_of(cut).bytes <= 0.8 * before["bytes"]
    assert after["bytes"] > 0.7 * before["bytes"]
    assert before["prefill"] is after["decode"] is None  # timing is off


def test_a_limit_in_milliseconds_needs_timing(parent, text):
    with pytest.raises(ConfigError, match="bounds latency, which has to be timed"):
        prune(
            checkpoint.load(parent),
            text,
            budget="latency<=5ms",
            tokenizer=checkpoint.load_tokenizer(parent),
            config=replace(QUICK, timing=False),
        )


def test_an_encoder_is_pruned_by_how_close_it_stays(parent, text, tmp_path):
    tokenizer = checkpoint.load_tokenizer(parent)
    folder = tmp_path / "encoder"
    judge: Any = tiny.model(
        "bert", vocab_size=len(tokenizer), auto=AutoModelForSequenceClassification
    )
    checkpoint.save(judge, folder, tokenizer=tokenizer)
    record = prune(folder, text, budget="blocks<=80%", output_dir=tmp_path / "out", config=QUICK)
    assert record.quality["before"]["fidelity"] == pytest.approx(1)
    assert 0 < record.quality["after"]["fidelity"] < 1
    assert any("heads stay" in note for note in record.details["notes"])
    cut: Any = checkpoint.load(tmp_path / "out")
    torch.testing.assert_close(cut.classifier.weight, judge.classifier.weight)


def test_a_foreign_tokenizer_is_refused_and_nothing_is_written(parent, text, tmp_path):
    wide = train_bpe(text["train"], vocab_size=320, context=64)
    model = tiny.model("llama", vocab_size=280)
    with pytest.raises(DataError, match="the tokenizer does not fit the model"):
        prune(
            model,
            text,
            budget="blocks<=50%",
            tokenizer=wide,
            config=QUICK,
            output_dir=tmp_path / "o",
        )
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_leave_nothing_behind(parent, text, tmp_path):
    out = tmp_path / "out"
    cases = [
        (DataError, {"model": "/no/such"}),
        (BudgetError, {"budget": "blocks<=2%"}),
        (BudgetError, {"budget": "half"}),
        (DataError, {"data": tmp_path / "none.txt"}),
        (DataError, {"config": BonsaiConfig(windows=10_000)}),
        (ConfigError, {"config": replace(QUICK, context=100_000)}),
        (ConfigError, {"config": replace(QUICK, iterative=True)}),
    ]
    for error, change in cases:
        options = {"model": parent, "data": text, "budget": "blocks<=50%", "config": QUICK} | change
        with pytest.raises(error):
            prune(options.pop("model"), options.pop("data"), output_dir=out, **options)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError):
        BonsaiConfig(step=0)


@pytest.mark.parametrize("key", ["prefill", "latency"])
def test_latency_budget_steers_by_the_table(parent, text, tmp_path, monkeypatch, key):
    def clock(model, *_, new_tokens=1, **__):  # real clocks belong in benchmarks
        # decode calls time all new tokens
        widths = Arch.of(model).layers
        time = 5 + sum(2 * x.num_key_value_heads + 0.1 * x.intermediate_size for x in widths)
        return lambda: time * new_tokens

    for module in ("attar.measure.timing", "attar.measure.latency_table"):
        monkeypatch.setattr(f"{module}.prefill_call", clock)
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


def test_a_clock_that_cannot_be_predicted_is_refused(parent, text, tmp_path, monkeypatch):
    def jumpy(model, *_, **__):
        """Narrow attention is quick, narrow neurons are quick, both together are slow."""
        widths = Arch.of(model).layers
        narrow = [w.num_key_value_heads < 4 and w.intermediate_size < 48 for w in widths]
        time = 30 if all(narrow) else sum(w.num_key_value_heads + 1 for w in widths)
        return lambda: time

    for module in ("attar.measure.timing", "attar.measure.latency_table"):
        monkeypatch.setattr(f"{module}.prefill_call", jumpy)
    options = {"output_dir": tmp_path / "o", "method": "wanda", "config": QUICK}
    with pytest.raises(BudgetError, match=r"prefill cannot be bounded .* off the measured time"):
        prune(parent, text, budget="prefill<=70%", **options)
    assert list(tmp_path.iterdir()) == []
    # whole layers are taken without a word about widths
    prune(parent, text, budget="prefill<=70%", layout="depth", **options | {"method": "random"})


def test_a_latency_budget_is_met_across_widths_that_save_nothing(
    parent, text, tmp_path, monkeypatch
):
    """A clock that only feels whole blocks of 24 neurons, so that eight less are no faster."""

    def blocks(model, *_, **__):
        widths = Arch.of(model).layers
        time = 5 + sum(-(-w.intermediate_size // 24) + 0.1 * w.num_key_value_heads for w in widths)
        return lambda: time

    for module in ("attar.measure.timing", "attar.measure.latency_table"):
        monkeypatch.setattr(f"{module}.prefill_call", blocks)
    options = {"output_dir": tmp_path / "o", "method": "wanda", "config": QUICK}
    record = prune(parent, text, budget="prefill<=85%", **options)
    assert record.budget is not None
    assert record.budget["met"]


def test_a_latency_budget_that_the_parent_meets_changes_nothing(parent, text):
    model, tokenizer = checkpoint.load(parent), checkpoint.load_tokenizer(parent)
    before = cost_of(model)
    record = prune(model, text, budget="prefill<=10s", tokenizer=tokenizer, config=QUICK)
    assert cost_of(model) == before
    assert record.details["steps"] == []
    assert record.details["notes"] == ["nothing was cut: the model meets 'prefill<=10s' as it is"]


def test_an_encoder_has_no_cache_to_bound(parent, text, tmp_path):
    tokenizer = checkpoint.load_tokenizer(parent)
    folder = tmp_path / "encoder"
    checkpoint.save(tiny.model("bert", vocab_size=len(tokenizer)), folder, tokenizer=tokenizer)
    for budget in ("kv_bytes<=50%", "latency<=20ms"):
        with pytest.raises(BudgetError, match="generates no tokens"):
            prune(folder, text, budget=budget, output_dir=tmp_path / "out", config=QUICK)


def test_resume_refuses_other_text(parent, text, tmp_path):
    out = tmp_path / "out"
    options = {"budget": "blocks<=60%", "output_dir": out, "config": QUICK}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attar.methods.bonsai.fit_values", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prune(parent, text, **options)
    other = DatasetDict(
        {k: v.map(lambda row: {"text": row["text"] + " else"}) for k, v in text.items()}
    )
    with pytest.raises(ConfigError, match="has changed"):
        prune(parent, other, resume=True, **options)
    prune(parent, text, resume=True, **options)


# --------------------------------------------------------------------------------- the regression


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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parts", [2, 3])
def test_leave_round_out_is_the_brute_force_refit(parts, weighted):
    pool = [UnitGroup(0, "neurons", (i,)) for i in range(6)]
    options = {"sampling": "coin", "importance": {}, "generator": torch.Generator().manual_seed(3)}
    masks = draw_masks(pool, 24 // parts, parts=parts, **options).double().numpy()
    rng = np.random.default_rng(2)
    y = masks @ rng.standard_normal(6) + 0.3 * rng.standard_normal(24)
    weights = rng.uniform(0.1, 3, 24) if weighted else np.ones(24)
    weights /= weights.mean()
    fit = fit_values(masks, y, parts=parts, weights=weights)
    predicted = np.empty(24)
    for out in np.arange(24).reshape(-1, parts):
        rest = np.delete(np.arange(24), out)
        w = weights[rest]
        mean, level = w @ masks[rest] / w.sum(), w @ y[rest] / w.sum()
        x, t = masks[rest] - mean, y[rest] - level
        beta = np.linalg.solve(x.T @ (w[:, None] * x) + fit.penalty * np.eye(6), x.T @ (w * t))
        predicted[out] = level + (masks[out] - mean) @ beta
    assert kendall_tau(y, predicted) == pytest.approx(fit.kendall_tau, abs=1e-9)


def test_parts_that_are_worth_far_more_do_not_hide_the_others():
    """Losses that multiply, as those of a deep model do: a mask without a vital part says little
    of the others, and is trusted less."""
    pool = [UnitGroup(i, "kv_groups", (0,)) for i in range(40)]
    options = {"sampling": "coin", "importance": {}, "generator": torch.Generator().manual_seed(0)}
    masks = draw_masks(pool, 12, parts=8, **options).double().numpy()
    rng = np.random.default_rng(0)
    worth = rng.uniform(0, 0.05, 40)
    worth[[3, 17, 30]] = 2.0, 1.0, 2.0
    losses = (1 - masks) @ worth
    y = -losses * (1 + 0.2 * rng.standard_normal(len(losses)))

    def error(weights):
        beta = fit_values(masks, y, parts=8, weights=weights).beta
        assert set(np.argsort(beta)[-3:]) == {3, 17, 30}
        return np.sqrt(np.square(beta - worth)[worth < 1].mean())

    assert error(trust(y)) < error(None) / 3
    assert trust(np.zeros(4)).tolist() == [1.0] * 4
    assert trust(np.array([1.0, 0.0, math.nan, -1.0])).argmin() == 2


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


def test_every_piece_is_off_in_exactly_one_mask_of_each_round():
    pool = [UnitGroup(i, "kv_groups", (0,)) for i in range(12)]
    options = {"sampling": "coin", "importance": {}}
    keep = draw_masks(
        pool, 50, parts=5, generator=torch.Generator().manual_seed(0), **options
    ).reshape(50, 5, 12)
    assert torch.equal(5 - keep.sum(1), torch.ones(50, 12))
    off = (1 - keep).mean((0, 2))  # in each mask of a round as often as in another
    assert (off - 0.2).abs().max() < 0.06
    assert len(set(keep.sum(2).flatten().tolist())) > 2


@pytest.mark.parametrize(
    ("groups", "factor", "share", "parts"),
    [
        (32, 3.0, 0.05, 2),  # many heads: 5 of 32 are candidates, and half of them are off
        (3, 3.0, 0.05, 9),  # few KV groups: 2 of 3 are, and a ninth of them is off
        (3, 3.0, 0.25, 2),
        (8, 2.0, 0.05, 5),
    ],
)
def test_a_mask_takes_about_as_much_as_a_step(groups, factor, share, parts):
    layers = 30
    offered = max(2, round(factor * share * groups))
    pool = [UnitGroup(i, "kv_groups", (j,)) for i in range(layers) for j in range(offered)]
    neurons = [UnitGroup(i, "neurons", tuple(range(16))) for i in range(layers)]
    task = ScoringTask(
        model=None,
        pool=pool,
        costs=[1.0] * len(pool),
        importance={(i, "kv_groups"): torch.ones(groups) for i in range(layers)}
        | {(i, "neurons"): torch.ones(64) for i in range(layers)},
        widths={},
        share=share,
        config=BonsaiConfig(pool_factor=factor),
        generator=torch.Generator(),
        utility=lambda: 0.0,
    )
    assert masks_per_round(pool, task=task) == parts
    assert masks_per_round([*pool, *neurons], task=task) >= parts
    published = replace(task, config=BonsaiConfig(sampling="prior_weighted"))
    assert masks_per_round(pool, task=published) == 2


@pytest.mark.parametrize("sampling", ["coin", "prior_weighted"])
def test_every_piece_is_on_in_exactly_one_of_each_pair(sampling):
    pool = [UnitGroup(0, "neurons", (i,)) for i in range(9)] + [UnitGroup(1, "kv_groups", (0,))]
    priors = {(0, "neurons"): torch.rand(20), (1, "kv_groups"): torch.ones(4)}
    generator = torch.Generator().manual_seed(0)
    keep = draw_masks(pool, 16, parts=2, sampling=sampling, importance=priors, generator=generator)
    assert keep.shape == (32, 10)
    assert torch.equal(keep[::2] + keep[1::2], torch.ones(16, 10))
    totals = keep[::2, :9].sum(1)
    assert (len(set(totals.tolist())) > 1) == (sampling == "coin")
