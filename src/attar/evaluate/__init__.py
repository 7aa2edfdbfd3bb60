"""How good a causal language model is: perplexity, bits per byte, task scores."""

from attar.evaluate.bits import BitsPerByte, bits_per_byte, unigram_bits
from attar.evaluate.harness import tasks
from attar.evaluate.likelihood import (
    AUTOCAST_FROM,
    DEFAULT_CONTEXT,
    Score,
    autocast,
    native_bfloat16,
    nll,
    score,
)

__all__ = [
    "AUTOCAST_FROM",
    "DEFAULT_CONTEXT",
    "BitsPerByte",
    "Score",
    "autocast",
    "bits_per_byte",
    "native_bfloat16",
    "nll",
    "score",
    "tasks",
    "unigram_bits",
]
