"""A tokenizer of single characters for the tiny models, texts, and losses a token at a time."""

from typing import Any

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

TEXTS = ["hello world", "", "naïve café ☕ and more text here", "x = 1\n\ty = 2\r\n", "final words"]


# 61 characters take the ids 3..63 of the tiny models; every other one is unknown.
LETTERS = sorted(set("".join(TEXTS)) | set("abcdefghijklmnopqrstuvwxyz"))[:61]


def word_level(vocabulary: dict[str, int], split: str, eos: str) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the matches of a regular expression."""
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token=eos))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(split), behavior="isolated")
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos, unk_token=eos)


def letters() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are single characters."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {c: i for i, c in enumerate(LETTERS, 3)}
    return word_level(vocabulary, r"[\s\S]", "</s>")


def letters_behind_bos() -> PreTrainedTokenizerFast:
    """The same, with BOS before each text, as Llama and Gemma have it."""
    tokenizer = letters()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    backend: Any = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def documents(texts: list[str]) -> Dataset:
    return Dataset.from_dict({"text": texts})


def stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[int]:
    ids: list[int] = []
    for text in texts:
        if text:
            ids += [2, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    return ids


@torch.no_grad()
def token_loss(model: Any, ids: list[int], target: int, start: int) -> float:
    """Loss of `ids[target]` with `ids[start:target]` before it, by itself."""
    logits = model(input_ids=torch.tensor([ids[start:target]])).logits[0, -1].double()
    return float(torch.logsumexp(logits, 0) - logits[ids[target]])
