"""Random tiny models of every family, built from configs, for tests: no network, well under 100k
parameters each.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

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
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = auto.from_config(config)
    with torch.no_grad():
        for p in built.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(0.3 * noise if p.dim() > 1 else p + 0.1 * noise)
    return built.eval()


def ids(rows: int = 2, length: int = 12, *, seed: int = 0) -> torch.Tensor:
    """Random token ids `(rows, length)` without special tokens."""
    return torch.randint(3, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))
