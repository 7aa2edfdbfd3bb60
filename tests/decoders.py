"""Tiny decoders and encoder-decoders in float64, for tests of decoding."""

from typing import Any

import torch
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

import tiny

WINDOWED = ("mistral", "gemma2", "gemma3_text", "starcoder2")


def model_of(family: str) -> PreTrainedModel:
    changes: dict[str, Any] = {"sliding_window": 8} if family in WINDOWED else {}
    changes["n_positions" if family == "gpt2" else "max_position_embeddings"] = 256
    model = tiny.model(family, **changes)
    return model if family == "gemma2" else model.double()  # its softmax is in float32 anyway


def encoder_decoder() -> Any:
    config = T5Config(
        vocab_size=tiny.VOCAB,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return T5ForConditionalGeneration(config).double().eval()
