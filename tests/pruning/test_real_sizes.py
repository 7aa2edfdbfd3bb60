"""Candidates, evaluations and steps at the sizes of published models, whose weights are not
needed: random priors and values cut models on the `meta` device.
"""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from attar.budget import Budget
from attar.families import UNITS, Body
from attar.measure.cost import cost_of
from attar.methods.bonsai import BonsaiConfig, regress
from attar.pruning.baselines import GroupScores, ScoringTask, Strategy
from attar.pruning.loop import LoopTask, prune_to_budget
from attar.pruning.pieces import SEVERAL, block_size

#: family, layers, hidden width, heads, KV heads, head size, neurons
SHAPES = {
    "Llama-2 7B": ("llama", 32, 4096, 32, 32, 128, 11008),
    "Llama-2 13B": ("llama", 40, 5120, 40, 40, 128, 13824),
    "Llama-3 8B": ("llama", 32, 4096, 32, 8, 128, 14336),
    "Qwen2.5 1.5B": ("qwen2", 28, 1536, 12, 2, 128, 8960),
    "Qwen2.5 7B": ("qwen2", 28, 3584, 28, 4, 128, 18944),
    "Gemma-2 2B": ("gemma2", 26, 2304, 8, 4, 256, 9216),
}


def shaped(name: str) -> Any:
    family, layers, hidden, heads, groups, size, neurons = SHAPES[name]
    config = AutoConfig.for_model(
        family,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=size,
        intermediate_size=neurons,
        vocab_size=1000,
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def search(model: Any, score: Any, budget: str) -> Any:
    return prune_to_budget(
        LoopTask(
            model=model,
            windows=torch.zeros((16, 2), dtype=torch.long),
            budget=Budget.parse(budget).resolve(cost_of(model)),
            strategy=Strategy("bonsai", score),
            config=BonsaiConfig(prior="random"),
            metric=lambda _: 0.0,
        )
    )


@pytest.mark.parametrize("name", SHAPES)
def test_every_module_offers_several_candidates_in_every_step(name: str) -> None:
    model = shaped(name)
    widths = {unit: Body(model).layers[0].count(unit) for unit in UNITS}
    block = block_size(BonsaiConfig(), widths["neurons"])

    def score(task: ScoringTask) -> GroupScores:
        layers = Body(task.model).layers
        for unit in UNITS:
            mine = [group for group in task.pool if group.unit == unit]
            assert len(mine) <= 200
            assert all(len(group.members) <= max(1, widths[unit] // 16) for group in mine)
            for i, layer in enumerate(layers):
                finest = layer.kv_groups - 1 if unit == "kv_groups" else layer.neurons // block - 1
                assert sum(group.layer == i for group in mine) >= min(SEVERAL, finest), (unit, i)
        return GroupScores(torch.rand(len(task.pool), generator=task.generator).tolist())

    found = search(model, score, "blocks<=80%")
    assert len(found.steps) == 5  # of 5% of what can go, and a last one for what must stay


def test_evaluations_are_as_many_as_the_candidates_need() -> None:
    (step,) = search(shaped("Gemma-2 2B"), regress, "blocks<=97%").steps
    assert step.candidates == 26 * (2 + 3)
    # twice the candidates, in whole rounds: of nine masks, as two KV groups are half of a layer's
    assert step.evaluations == 1 + 2 * 26 * 2 // 9 * 9 + 2 * 26 * 3
