"""New models of a shape, with random weights."""

from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from attar.errors import require
from attar.pretraining.config import PretrainConfig


def build_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A Llama of this shape with random weights that depend on the seed alone.

    Raises:
        ConfigError: key and value heads do not divide the query heads.
    """
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    expected = f"a divisor of num_attention_heads={heads}"
    require(heads % groups == 0, "num_key_value_heads", groups, expected)
    end: Any = tokenizer.eos_token_id
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        max_position_embeddings=config.context,
        tie_word_embeddings=config.tie_word_embeddings,
        bos_token_id=end,
        eos_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return LlamaForCausalLM(shape)


def build_t5(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerBase
) -> T5ForConditionalGeneration:
    """A T5 of this shape, with gated feed-forward layers (T5 1.1) and without dropout, with random
    weights that depend on the seed alone."""
    pad: Any = tokenizer.pad_token_id
    end: Any = tokenizer.eos_token_id
    begin: dict[str, Any] = {"decoder_start_token_id": pad}
    shape = T5Config(
        vocab_size=len(tokenizer),
        d_model=config.hidden_size,
        d_kv=config.hidden_size // config.num_attention_heads,
        d_ff=config.intermediate_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=pad,
        eos_token_id=end,
        **begin,
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return T5ForConditionalGeneration(shape)
