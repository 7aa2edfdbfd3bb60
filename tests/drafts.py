"""A target and its draft, and prompts for both."""

from typing import Any

import torch

import decoders
import tiny
from attar.data.prompts import Prompt
from attar.methods.distillspec.config import DistillSpecConfig

PROMPTS = [
    Prompt(tuple(tiny.ids(1, 4 + i % 3, seed=i)[0].tolist()), tuple(range(20, 23 + i % 4)))
    for i in range(24)
]
CONFIG = DistillSpecConfig(
    max_steps=8,
    per_device_train_batch_size=4,
    learning_rate=3e-3,
    max_new_tokens=6,
    eval_steps=4,
    eval_prompts=4,
    save_steps=3,
    logging_steps=2,
    seed=3,
)


def pair(family: str = "llama") -> tuple[Any, Any]:
    """A target, and a draft that is the target with noise."""
    made = [
        decoders.encoder_decoder().float() if family == "t5" else tiny.model(family)
        for _ in range(2)
    ]
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in made[1].parameters():
            weight.add_(0.15 * torch.randn(weight.shape, generator=noise))
        for model in made:
            model.get_output_embeddings().weight.mul_(0.5)
    return made[0], made[1]
