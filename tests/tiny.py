"""Random tiny models of every family, built from configs, for tests: no network, well under 100k
parameters each.
"""

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    MarianMTModel,
    PreTrainedModel,
    T5ForConditionalGeneration,
)

from attar.portable.modeling_elastic_marian import ElasticMarianMTModel

VOCAB = 64
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GATED: dict[str, Any] = _COMMON | {"num_key_value_heads": 4, "intermediate_size": 48}
_HEADED: dict[str, Any] = _GATED | {"head_dim": 4}
_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _GATED,
    "mistral": _HEADED,
    "qwen2": _GATED | {"tie_word_embeddings": True},
    "qwen3": _HEADED,
    "gemma": _HEADED,
    "gemma2": _HEADED | {"query_pre_attn_scalar": 4},
    "gemma3_text": _HEADED | {"query_pre_attn_scalar": 4},
    "granite": _GATED,
    "smollm3": _GATED,
    "olmo": _GATED,
    "olmo2": _GATED,
    "phi": _GATED | {"partial_rotary_factor": 0.5},
    "phi3": _GATED,
    "starcoder2": _GATED,
    "gpt2": {
        "vocab_size": VOCAB,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 64,
        "n_inner": 48,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "opt": _COMMON | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gpt_neox": _COMMON | {"intermediate_size": 48, "num_attention_heads": 4},
    "bert": _COMMON | {"intermediate_size": 48, "num_attention_heads": 4},
    "roberta": _COMMON | {"intermediate_size": 48, "num_attention_heads": 4},
    "modernbert": _COMMON
    | {
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "local_attention": 8,
    },
}
ENCODERS = ["bert", "roberta", "modernbert"]
TIED = ["gpt2", "opt", "gpt_neox", *ENCODERS]  # their head size is width / heads
HEADED = [k for k in _CONFIGS if k not in ("olmo2", *TIED)]
_SIDES: dict[str, Any] = {
    "encoder_layers": 3,
    "decoder_layers": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 56,
}
_T5: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 4,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}
_MARIAN: dict[str, Any] = {
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "scale_embedding": True,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}
_ENCODER_DECODERS: dict[str, tuple[type[PreTrainedModel], dict[str, Any]]] = {
    "t5": (T5ForConditionalGeneration, _T5),
    "t5-gated": (
        T5ForConditionalGeneration,
        _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "marian": (MarianMTModel, _MARIAN | _SIDES | {"d_model": 32}),
    "marian-apart": (
        MarianMTModel,
        _MARIAN
        | _SIDES
        | {"d_model": 32, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 56},
    ),
    # the largest of a space like HAT's
    "elastic": (
        ElasticMarianMTModel,
        {
            "vocab_size": VOCAB,
            "encoder_hidden_size": 32,
            "decoder_hidden_size": 32,
            "encoder_attention_size": 16,
            "decoder_attention_size": 16,
            "encoder_ffn_dim": [48] * 3,
            "encoder_attention_heads": [4] * 3,
            "decoder_ffn_dim": [48] * 4,
            "decoder_attention_heads": [4] * 4,
            "cross_attention_heads": [4] * 4,
            "cross_attention_span": [3] * 4,
        },
    ),
}
ENCODER_DECODERS = list(_ENCODER_DECODERS)
CAUSAL = [k for k in _CONFIGS if k not in ENCODERS]


def model(
    family: str = "llama", *, seed: int = 0, auto: Any = None, **changes: Any
) -> PreTrainedModel:
    """A random model of this family, in evaluation mode; biases and norms are random too, so that
    errors there show. `auto` is the auto class; None: for causal language modelling, or the bare
    encoder.
    """
    config = AutoConfig.for_model(family, **(_CONFIGS[family] | changes))
    auto = auto or (AutoModel if family in ENCODERS else AutoModelForCausalLM)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = auto.from_config(config)
    return _random(built, seed)


def encoder_decoder(family: str = "marian", *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random encoder-decoder, as `model`; the bias of a Marian's logits is random, too."""
    made, values = _ENCODER_DECODERS[family]
    built = _random(made(made.config_class(**(values | changes))), seed)
    for _, buffer in built.named_buffers():
        buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(seed)))
    return built


def _random(built: PreTrainedModel, seed: int) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in built.parameters():
            if not p.requires_grad:  # positions that are computed
                continue
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(0.3 * noise if p.dim() > 1 else p + 0.1 * noise)
    return built.eval()


def ids(rows: int = 2, length: int = 12, *, seed: int = 0) -> torch.Tensor:
    """Random token ids `(rows, length)` without special tokens."""
    return torch.randint(3, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))
