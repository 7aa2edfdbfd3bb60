"""What is counted from widths is what the model has and computes."""

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import RobertaConfig, RobertaForSequenceClassification

from attar.measure.encoder_cost import encoder_macs, encoder_parameters


def draw(rng: random.Random) -> dict[str, int]:
    return {
        "vocab_size": rng.randint(5, 3000),
        "hidden_size": 8 * rng.randint(1, 40),
        "intermediate_size": rng.randint(1, 700),
        "num_hidden_layers": rng.choice((1, 1, 1, 2, 3)),
    }


def build(widths: dict[str, int], *, positions: int, outputs: int) -> torch.nn.Module:
    settings = {"num_attention_heads": 4, "type_vocab_size": 1, "num_labels": outputs}
    config = RobertaConfig(**widths, **settings, max_position_embeddings=positions)
    config._attn_implementation = "eager"
    return RobertaForSequenceClassification(config)


def test_parameters_are_those_of_the_model_for_200_random_configs() -> None:
    rng = random.Random(0)
    for _ in range(200):
        widths, positions, outputs = draw(rng), rng.randint(4, 600), rng.randint(1, 5)
        with torch.device("meta"):
            model = build(widths, positions=positions, outputs=outputs)
        parameters = encoder_parameters(**widths, positions=positions, outputs=outputs)
        every = dict(model.named_parameters())
        assert parameters.total == sum(p.numel() for p in every.values())
        parts = {
            "tokens": "word_embeddings",
            "attention": "layer.*.attention",
            "norms": "LayerNorm",
            "head": "classifier",
        }
        counted = dict.fromkeys([*parts, "positions", "feed_forward", "biases"], 0)
        for name, parameter in every.items():
            part = next((p for p, word in parts.items() if word in name), None)
            if part is None and "_embeddings" in name:
                part = "positions"
            elif part is None:
                part = "attention" if ".attention." in name else "feed_forward"
            counted[part] += parameter.numel()
            if name.endswith("bias") and part != "norms":
                counted["biases"] += parameter.numel()
        assert {name: getattr(parameters, name) for name in counted} == counted


def test_multiply_accumulates_are_those_that_torch_counts() -> None:
    rng = random.Random(1)
    for _ in range(5):
        widths, tokens, outputs = draw(rng), rng.randint(3, 40), rng.randint(1, 5)
        model = build(widths, positions=64, outputs=outputs).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.full((1, tokens), 4))
        del widths["vocab_size"]
        macs = encoder_macs(**widths, tokens=tokens, outputs=outputs)
        assert 2 * macs.total == counter.get_total_flops()


@given(st.lists(st.tuples(*[st.integers(1, 5000)] * 4), min_size=1, max_size=6))
def test_arrays_are_counted_as_numbers_are(rows: list[tuple[int, int, int, int]]) -> None:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    columns = dict(zip(names, np.array(rows, dtype=np.int64).T, strict=True))
    many = encoder_parameters(**columns, positions=514, outputs=2)
    del columns["vocab_size"]
    macs = encoder_macs(**columns, tokens=512, outputs=2)
    for at, row in enumerate(rows):
        widths = dict(zip(names, row, strict=True))
        assert many.total[at] == encoder_parameters(**widths, positions=514, outputs=2).total
        del widths["vocab_size"]
        assert macs.total[at] == encoder_macs(**widths, tokens=512, outputs=2).total
