"""What a model and a tokenizer are called, and short hashes that tell them apart."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.models import DocumentTokenizer


def name_of(model: str | Path | PreTrainedModel | None) -> str:
    """Folder or Hub name of a model; empty for none, and for one that was never stored."""
    if model is None:
        return ""
    return model.name_or_path or "" if isinstance(model, PreTrainedModel) else str(model)


def fingerprint(model: nn.Module) -> str:
    """A short hash of a model: names, shapes and a spread of at most 4,096 values of every tensor.

    The type of the values does not count, so that a model in bfloat16 is the same one while it is
    computed in float32.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 4096)].cpu().to(torch.float32)
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A short hash of a tokenizer's vocabulary: equal exactly when ids mean the same tokens."""
    vocabulary: list[Any] = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if isinstance(tokenizer, DocumentTokenizer):  # names of parts of windows say nothing
        vocabulary.append(tokenizer.content_hash)
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()[:16]
