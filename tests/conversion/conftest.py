"""A tokenizer that is small enough for tiny models, and models with rows for it."""

from pathlib import Path

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

import attar
from attar.data.tokens import train_bpe


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """300 tokens, trained as `attar pretrain` does."""
    folder = Path(attar.__file__).parent / "data"
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))]
    return train_bpe(Dataset.from_dict({"text": texts}), vocab_size=300, context=64)
