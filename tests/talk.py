"""Conversations for tests, and a tokenizer with a chat template that does not mark answers."""

import random
from functools import cache
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from attar.data.tokens import train_bpe

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCAB = 296
"""Ids of the tokenizer."""
_WORDS = ["red", "green", "blue", "sun", "moon", "sea", "tree", "stone"]


@cache
def _trained() -> PreTrainedTokenizerFast:
    text = " ".join(_WORDS * 20) + "\nuser\nassistant\n" * 20
    made = train_bpe(Dataset.from_dict({"text": [text]}), vocab_size=300, context=64)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return made


def tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of `VOCAB` ids."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=_trained().backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=64,
    )
    made.chat_template = template
    return made


def turn(role: str, content: str) -> dict[str, str]:
    """A message."""
    return {"role": role, "content": content}


def conversations(count: int = 60, *, seed: int = 0) -> list[list[dict[str, str]]]:
    """Of one or two answers each, all different."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        said = [" ".join(rng.choices(_WORDS, k=rng.randint(1, 4))) for _ in range(4)]
        talk = [turn("user", f"{said[0]} {i}"), turn("assistant", said[1])]
        if i % 2:
            talk += [turn("user", said[2]), turn("assistant", said[3])]
        found.append(talk)
    return found


def rows(count: int = 60, **more: Any) -> Dataset:
    """A data set with a column of messages."""
    return Dataset.from_dict({"messages": conversations(count), **more})
