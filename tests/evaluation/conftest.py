"""A tiny model, and a tokenizer of characters that fits it."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import characters
import tiny


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return characters.letters()


@pytest.fixture
def model() -> Any:
    return tiny.model("llama")
