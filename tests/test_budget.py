"""Costs are counted from tensors; budgets carry their units."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

import tiny
from attar import checkpoint
from attar.budget import Budget, Cost, Latency
from attar.errors import BudgetError
from attar.measure.cost import cost_of
from attar.measure.memory import watch_memory
from attar.measure.timing import measure, timed

COST = Cost(params=1000, block_params=600, bytes=4000, macs=900, kv_bytes=64)


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_bytes_are_those_of_the_saved_file(family, tmp_path):
    model = tiny.model(family)
    checkpoint.save(model, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as stored:
        sizes = sum(stored.get_tensor(k).nbytes for k in stored.keys())  # noqa: SIM118
    assert cost_of(model).bytes == sizes


def test_kv_bytes_and_macs_by_hand():
    cost = cost_of(tiny.model("llama"))
    layers, groups, head_dim = 3, 4, 4
    assert cost.kv_bytes == layers * 2 * groups * head_dim * 4
    block = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48
    assert cost.macs == layers * block + 32 * tiny.VOCAB
    assert cost_of(tiny.model("llama"), context=10).macs - cost.macs == layers * 2 * 32 * 10


def test_half_precision_halves_the_bytes():
    model = tiny.model("llama")
    whole = cost_of(model)
    half = cost_of(model.to(torch.bfloat16))
    assert (half.bytes * 2, half.kv_bytes * 2) == (whole.bytes, whole.kv_bytes)
    assert half.dtypes == {"bfloat16": half.bytes}


def test_tied_embeddings_count_once():
    tied, untied = tiny.model(tie_word_embeddings=True), tiny.model(tie_word_embeddings=False)
    assert cost_of(untied).params - cost_of(tied).params == 32 * tiny.VOCAB
    assert cost_of(untied).macs == cost_of(tied).macs


def test_measure_has_latencies_and_survives_json():
    cost = measure(tiny.model(), prompt_tokens=8, new_tokens=4, repeats=3)
    assert cost.prefill is not None
    assert cost.decode is not None
    assert cost.prefill.median > 0
    assert Cost.from_dict(json.loads(json.dumps(cost.to_dict()))) == cost


def test_encoders_have_no_cache_and_no_decoding():
    cost = measure(tiny.model("bert"), prompt_tokens=8, repeats=2)
    assert (cost.kv_bytes, cost.decode) == (0, None)
    assert cost.prefill is not None


def test_the_peak_of_memory_is_the_models_and_not_that_of_the_process():
    model = tiny.model()
    held = cost_of(model).bytes
    with watch_memory(model) as peak:
        first = torch.ones(1000)
        view, second = first[:500], first + 1
        del first, second
        torch.ones(1500)
        del view
        torch.ones(1000)
    weights = {t.data_ptr(): t.nbytes for t in [*model.parameters(), *model.buffers()]}
    assert held <= peak.start == sum(weights.values())
    assert peak.bytes - peak.start == 4 * 2500
    peaks = [measure(tiny.model(intermediate_size=w), repeats=1).peak_memory for w in (48, 480)]
    assert held < peaks[0] < 2 * held < peaks[1]  # however much the process had before


@pytest.mark.parametrize(
    ("text", "key", "limit", "relative"),
    [
        ("params<=50%", "params", 0.5, True),
        ("blocks <= 50%", "blocks", 0.5, True),
        ("params<=15M", "params", 15e6, False),
        ("blocks<=15M", "blocks", 15e6, False),
        ("bytes<=3MB", "bytes", 3e6, False),
        ("bytes<=3MiB", "bytes", 3 * 2**20, False),
        ("kv_bytes<=2KB", "kv_bytes", 2000, False),
        ("kv_bytes<=64", "kv_bytes", 64, False),
        ("latency<=20ms", "latency", 20, False),
        ("prefill<=0.5s", "prefill", 500, False),
        ("macs<=80%", "macs", 0.8, True),
    ],
)
def test_parse(text, key, limit, relative):
    (found,) = Budget.parse(text).constraints
    assert (found.key, found.relative) == (key, relative)
    assert found.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "expected a budget"),
        ("half", "expected a budget"),
        ("params<=", "expected a budget"),
        ("params<50%", "write params<=50%"),
        ("blocks = 50%", "write blocks<=50%"),
        ("blocks: 50%", "write blocks<=50%"),
        ("50%", "found '50%'; write CONSTRAINT<=VALUE"),
        ("blocks<=-5%", "expected a budget"),
        ("blocks<=50%,", "found nothing in 'blocks<=50%,'"),
        ("block<=50%", "did you mean 'blocks'"),
        ("params<=50", "did you mean params<=50%, or params<=50M"),
        ("blocks<=0.5", "did you mean blocks<=50%"),
        ("bytes<=3", "did you mean bytes<=3%, or bytes<=3MB"),
        ("size<=3MB", "unknown constraint"),
        ("bytes<=3MW", "unknown unit"),
        ("latency<=20", "needs a unit"),
        ("params<=150%", "at most 100%"),
        ("params<=0%", "above zero"),
        ("bytes<=1e999", "finite"),
        ("params<=50% of blocks", "write blocks<=50% for the layers"),
        ("params<=5M, params<=50%", "twice"),
    ],
)
def test_bad_budgets_are_refused_in_one_sentence(text, part):
    with pytest.raises(BudgetError, match=part) as caught:
        Budget.parse(text)
    assert "\n" not in str(caught.value)


@given(st.floats(0.01, 1), st.integers(1, 2000), st.integers(1, 2000))
def test_admits_exactly_when_nothing_is_over(share, blocks, total):
    budget = Budget.parse(f"blocks<={100 * share:.4f}%, kv_bytes<=64B").resolve(COST)
    found = Cost(params=total, block_params=blocks, bytes=1, macs=1, kv_bytes=64)
    over = budget.excess(found)
    assert budget.admits(found) == all(v <= 1e-9 for v in over.values())
    assert budget.admits(found) == (blocks <= 600 * float(f"{100 * share:.4f}") / 100 * (1 + 1e-9))
    assert [row["met"] for row in budget.verdict(found)] == [v <= 1e-9 for v in over.values()]


def test_percentages_must_be_resolved_first():
    with pytest.raises(BudgetError, match="resolve"):
        Budget.parse("params<=50%").admits(COST)
    with pytest.raises(BudgetError, match="measured"):
        Budget.parse("latency<=5ms").resolve(COST).admits(COST)


def test_latency_is_of_a_token_that_is_generated_or_else_of_the_text():
    text = replace(COST, prefill=Latency(7.0, 0.0))
    assert Budget.parse("latency<=7ms, prefill<=7ms").admits(text)
    assert not Budget.parse("latency<=6ms").admits(text)
    both = replace(text, decode=Latency(2.0, 0.0))
    assert Budget.parse("latency<=2ms").admits(both)
    assert not Budget.parse("prefill<=2ms").admits(both)
    with pytest.raises(BudgetError, match="prefill needs a measured cost"):
        Budget.parse("prefill<=7ms").admits(replace(COST, decode=Latency(2.0, 0.0)))


def test_a_slow_model_is_timed_once():
    calls = []

    def call():
        calls.append(1)
        return 7.0

    assert timed(call, 5, seconds=60) == Latency(7.0, 0.0)
    assert len(calls) == 1 + 5
    calls.clear()
    assert timed(call, 5, seconds=0) == Latency(7.0, 0.0)
    assert len(calls) == 1 + 1
