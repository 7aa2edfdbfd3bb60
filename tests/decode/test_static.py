"""With tokens in the slots of their positions the logits are those of reading afresh, too."""

import random
from typing import Any

import pytest

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
