"""Text whose spans are corrupted, and a T5 that reads it."""

import random
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from attar.methods.spactor.training import DetectionQuality
from attar.pretraining.config import PretrainConfig
from attar.train.corruption import T5SpanCorruptionCollator, text_tokens
from attar.train.span_rows import SpanRows


def tokenizer(
    sentinels: int = 40, *, descending: bool = True, **changes: Any
) -> PreTrainedTokenizerFast:
    """Padding 0, an end 1, 98 words, and sentinels, whose ids descend in T5."""
    marks = [f"<extra_id_{i}>" for i in range(sentinels)]
    words = ["<pad>", "</s>", *(f"w{i}" for i in range(98))]
    words += reversed(marks) if descending else marks
    known = {word: i for i, word in enumerate(words)}
    special = {"pad_token": "<pad>", "eos_token": "</s>"} | changes
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(known, unk_token="w0")), **special
    )


#: of a new T5 that trains in no time
CONFIG = PretrainConfig(
    vocab_size=380,
    context=32,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_steps=6,
    per_device_train_batch_size=4,
    learning_rate=2e-2,
    warmup_steps=5,
    save_steps=2,
    logging_steps=20,
    eval_tokens=600,
)
QUALITY = DetectionQuality(
    auc=0.5, recall=0.5, precision=0.5, replaced=0.1, nats_mlm=1.0, nats=1.0, nats_replaced=1.0
)
VOCAB = 142  # of the tokenizer, and two rows that no token has


def t5(*, tied: bool = True, seed: int = 0) -> PreTrainedModel:
    """A random T5 without dropout, whose output table is its input table, or its own."""
    model = tiny.encoder_decoder(
        "t5",
        seed=seed,
        num_layers=2,
        num_decoder_layers=1,
        vocab_size=VOCAB,
        eos_token_id=1,
        dropout_rate=0.0,
    )
    if not tied:
        head: Any = model
        head.lm_head.weight = torch.nn.Parameter(head.lm_head.weight.detach() * 0.5)
    return model


def source(model: PreTrainedModel, count: int = 8, **options: Any) -> SpanRows:
    """Rows of a text in which words come again, with places to mask."""
    places = options.pop("places", None)
    options = {"input_length": 32, "mask_share": 0.2, "seed": 0} | options
    collator = T5SpanCorruptionCollator(tokenizer(), **options)
    noise = torch.Generator().manual_seed(0)
    starts = torch.randint(0, 98, (count, 1), generator=noise)
    data = 2 + (starts + 3 * torch.arange(collator.lengths.raw)) % 98
    text = text_tokens(tokenizer(), VOCAB)
    return SpanRows(data, collator, model=model, places=places, text=text)


def texts(documents: int = 80, *, odd: str = "") -> DatasetDict:
    """Documents of a few words, each of which begins with `odd`."""
    rng = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta", "return", "import", "0", "42", "\n"]
    rows = [odd + " ".join(rng.choices(words, k=40)) for _ in range(documents)]
    cuts = {"train": rows[:-20], "validation": rows[-20:-10], "test": rows[-10:]}
    return DatasetDict({name: Dataset.from_dict({"text": rows}) for name, rows in cuts.items()})
