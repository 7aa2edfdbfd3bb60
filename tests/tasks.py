"""A few rows for every kind of labelled task, and two tokenizers to read them with."""

import math
from functools import cache
from typing import Any

import torch.nn.functional as F
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.data.labelled.task import Task, TaskKind
from attar.data.sources import Batch
from attar.data.tokens import train_bpe

WORDS = ["ann", "met", "bob", "smith", "in", "paris", "who", "is", "unhappy", "?"]
TAGS = ("O", "B-PER", "I-PER", "B-LOC")
TASKS: dict[TaskKind, Task] = {
    "single_label": Task("single_label", ("no", "maybe", "yes")),
    "regression": Task("regression"),
    "multi_label": Task("multi_label", ("red", "green", "blue")),
    "token_classification": Task("token_classification", TAGS),
    "question_answering": Task("question_answering", pair=True),
}
SENTENCES = ["ann met bob smith in paris", "bob is unhappy", "who met ann ?"]
LABELS: dict[TaskKind, list[Any]] = {
    "single_label": [2, -100, 0],
    "regression": [0.5, math.nan, -2.0],
    "multi_label": [[0, 2], [-100], []],
    "token_classification": [[1, 0, 1, 2, 0, 3], [-100, -100, -100], [0, 0, -100, 0]],
}
QUESTIONS = {
    "question": ["who met bob ?", "who is ann ?", "is bob in paris ?"],
    "context": ["in paris ann met bob smith", "bob is unhappy", "ann is in paris"],
    "answers": [
        {"text": ["bob smith", "bob"], "answer_start": [17, 17]},
        {"text": [], "answer_start": []},
        {"text": [""], "answer_start": [-100]},
    ],
}


@cache
def bert() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer whose vocabulary lacks the longer words."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS[:8], "un", "##happy", "?", "##s"]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=tokenizer)


@cache
def bytes_() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that adds no special token."""
    text = Dataset.from_dict({"text": [" ".join(WORDS[:8]) * 20]})
    return train_bpe(text, vocab_size=275, context=64)


def rows(kind: TaskKind, pair: bool = False) -> Dataset:
    if kind == "question_answering":
        return Dataset.from_dict(QUESTIONS | {"source": [7, 8, 9]})
    words = kind == "token_classification"
    texts = [s.split() for s in SENTENCES] if words else SENTENCES
    columns: dict[str, Any] = {"words" if words else "text": texts, "label": LABELS[kind]}
    second = {"text_pair": ["bob is", "who met ann", "in paris"]} if pair else {}
    return Dataset.from_dict(columns | second | {"source": [7, 8, 9]})


def examples(kind: TaskKind, tokenizer: PreTrainedTokenizerFast) -> Examples:
    encoded = encode(rows(kind), tokenizer, task=TASKS[kind])
    return Examples(encoded, task=TASKS[kind], tokenizer=tokenizer)


def batch_of(
    kind: TaskKind, tokenizer: PreTrainedTokenizerFast, *, multiple: int | None = None
) -> Batch:
    """All rows, padded further to a multiple."""
    source = examples(kind, tokenizer)
    batch = source.batch(range(len(source)))
    if multiple is None:
        return batch
    width = batch["input_ids"].shape[1]
    filler = {"input_ids": tokenizer.pad_token_id, "labels": -100}
    return {
        name: F.pad(value, (0, -width % multiple), value=filler.get(name, 0))
        if value.ndim == 2 and value.shape[1] == width
        else value
        for name, value in batch.items()
    }
