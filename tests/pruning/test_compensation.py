"""FLAP's bias compensation: what goes is made up for on average, and what is written says so."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from attar import checkpoint
from attar.budget import Budget
from attar.families import UNITS, Body
from attar.measure.cost import cost_of
from attar.methods.bonsai import BonsaiConfig, strategy_of
from attar.pruning.compensation import add_biases, compensate, copy_biases, without_biases
from attar.pruning.loop import LoopTask, PruneResult, prune_to_budget
from attar.slicing import LayerKeep, SlicePlan, slice_model, zero_out

#: families whose class holds an output bias: on its own account, or as an option
BOTH = {"llama", "granite", "smollm3", "phi", "starcoder2", "gpt2", "opt", "gpt_neox"}
ATTENTION = {"qwen3", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2"}


def windows() -> torch.Tensor:
    return tiny.ids(12, 16, seed=7)


def flap(model: Any, budget: str, **options: Any) -> PruneResult:
    limits = Budget.parse(budget).resolve(cost_of(model))
    config = BonsaiConfig(windows=8, context=16)
    return prune_to_budget(
        LoopTask(
            model=model,
            windows=windows(),
            budget=limits,
            strategy=strategy_of("flap"),
            config=config,
            **options,
        )
    )


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_biases_of_zero_change_nothing_and_are_saved(family: str, tmp_path: Path) -> None:
    model: Any = tiny.model(family)
    with torch.no_grad():
        before = model(input_ids=tiny.ids()).logits
        add_biases(model)
        assert torch.equal(model(input_ids=tiny.ids()).logits, before)
        lack = without_biases(model)
        assert (lack == []) == (family in BOTH)
        assert (lack == ["the feed-forward network"]) == (family in ATTENTION)
        for layer in Body(model).layers:
            for unit in UNITS:
                bias: Any = layer.out(unit).bias
                if bias is not None:
                    bias.normal_()
        after = model(input_ids=tiny.ids()).logits
        model.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(again(input_ids=tiny.ids()).logits, after)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_outputs_of_a_compensated_projection_keep_their_mean(family: str) -> None:
    means = []
    for cut in (False, True):
        model: Any = tiny.model(family)
        add_biases(model)
        if cut:
            keep = list(SlicePlan.identity(model).layers)
            keep[0] = LayerKeep(0, keep[0].kv_groups, keep[0].neurons[:8])
            plan = SlicePlan(tuple(keep))
            compensate(model, plan, windows=windows(), batch_size=5)
            slice_model(model, plan, in_place=True)
        seen: list[torch.Tensor] = []
        Body(model).layers[0].mlp_out.register_forward_hook(
            lambda *args, seen=seen: seen.append(args[-1].flatten(0, -2))
        )
        with torch.no_grad():
            model(input_ids=windows())
        means.append(seen[0].mean(0))
    torch.testing.assert_close(means[1], means[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", ["per_layer", "uniform"])
def test_flap_keeps_its_budget_with_the_biases_and_comes_back(layout: Any, tmp_path: Path) -> None:
    model: Any = tiny.model("llama")
    limit = 0.6 * cost_of(model).block_params
    found = flap(model, "blocks<=60%", layout=layout)
    assert cost_of(model).block_params <= limit
    assert bool(model.config.mlp_bias) == (layout == "per_layer")
    assert ("no output bias there in the uniform layout" in " ".join(found.notes)) == (
        layout == "uniform"
    )
    checkpoint.save(model, tmp_path)
    with torch.no_grad():
        ours = model(input_ids=tiny.ids()).logits
        torch.testing.assert_close(checkpoint.load(tmp_path)(input_ids=tiny.ids()).logits, ours)
    if layout == "per_layer":
        padded: Any = tiny.model("llama")
        zero_out(padded, found.plan)
        copy_biases(model, padded)
        with torch.no_grad():
            same = padded(input_ids=tiny.ids()).logits
        torch.testing.assert_close(same, ours, atol=1e-5, rtol=1e-4)


def test_a_family_without_output_biases_is_told(tmp_path: Path) -> None:
    found = flap(tiny.model("mistral"), "blocks<=70%")
    assert found.notes == [
        "nothing makes up for what goes from attention and the feed-forward network: "
        "MistralForCausalLM has no output bias there"
    ]


def test_a_resumed_run_has_the_same_biases(tmp_path: Path) -> None:
    states = []
    for _ in range(2):  # the second finds the plan of the first
        model = tiny.model("llama")
        flap(model, "blocks<=60%", state=tmp_path)
        states.append(model.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
