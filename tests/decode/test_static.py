"""With tokens in the slots of their positions the logits are those of reading afresh, too."""

import random
from typing import Any

import pytest
import torch

import decoders
import tiny
from attar.decode import static
from attar.decode.static import Passes, Static
from decode.test_cache import play


def rows_of(rng: random.Random, count: int) -> list[list[int]]:
    return [[rng.randrange(3, tiny.VOCAB) for _ in range(rng.randint(1, 12))] for _ in range(count)]


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_the_cache_forgets_what_was_rejected(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "FIRST", 8)  # grows within the texts
    model = decoders.model_of(family)
    passes = Passes(model)
    for size in (4, 1, 3):  # one after the other in the same tensors
        rng = random.Random(f"{family} {size}")
        play(model, Static(passes, size), rows_of(rng, size), rng)
    assert passes.size > 8


def test_attention_that_adds_its_mask() -> None:
    model: Any = decoders.model_of("llama").float()  # its softmax is in float32 anyway
    model.set_attn_implementation("eager")
    rng = random.Random(0)
    play(model, Static(Passes(model), 3), rows_of(rng, 3), rng)


@pytest.mark.parametrize("rows", [None, [2, 0]])
def test_a_pass_costs_what_it_attends_to_and_not_what_the_cache_holds(
    rows: list[int] | None,
) -> None:
    passes = Passes(tiny.model(dtype=torch.bfloat16))
    passes.start(3)
    read = torch.tensor([[[5, 6]] * 2, [[30, 31]] * 2])
    passes(read, last=1, rows=rows)
    taken = []
    for _ in range(2):
        with torch.profiler.profile(profile_memory=True) as work, torch.no_grad():
            passes(read, last=1, rows=rows)
        ends = [event for event in work.events() or () if not event.cpu_children]
        taken.append(sum(max(0, event.cpu_memory_usage) for event in ends))
        passes.reserve(4000)
    assert taken[0] == taken[1] > 0
    assert passes.size == 4096
