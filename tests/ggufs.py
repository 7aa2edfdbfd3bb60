"""GGUF files of tiny models, written with the package gguf alone."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

#: names of transformers and of llama.cpp
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
#: RoPE scaling of Llama 3, for a tiny model
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
WORDS = ["<unk>", "<s>", "</s>", "ab", *"abcdefghijklmnopqrstuvwxyz", "Ġ", *"0123456789"]


def write_llama(
    file: Path,
    model: Any,
    *,
    architecture: str = "llama",
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    tokenizer: bool = True,
    more: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
) -> Path:
    """A Llama as llama.cpp's own converter writes it, with a tokenizer of one token a letter.

    Args:
        file: the path.
        model: a Llama of transformers.
        architecture: the architecture that the file declares.
        kind: the type of its matrices.
        tokenizer: False leaves it out.
        more: further metadata.
        tensors: further tensors.
    """
    config, out = model.config, gguf.GGUFWriter(file, architecture)
    out.add_context_length(config.max_position_embeddings)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_embedding_length(config.hidden_size)
    out.add_rope_dimension_count(config.head_dim)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_vocab_size(config.vocab_size)
    for key, value in (more or {}).items():
        add = {
            str: out.add_string,
            float: out.add_float32,
            list: out.add_array,
            int: out.add_uint32,
        }
        add[type(value)](key, value)
    if tokenizer:
        _add_tokenizer(out, size=config.vocab_size)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for theirs, ours in _NAMES.items():
            name = name.replace(theirs, ours)
        heads = {
            "attn_q": config.num_attention_heads,
            "attn_k": config.num_key_value_heads,
        }.get(name.split(".")[-2])
        value = weight.float()
        if heads:  # llama.cpp rotates neighbouring channels
            rows, width = value.shape
            value = value.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2)
            value = value.reshape(rows, width)
        _add(out, name, value, kind if value.dim() > 1 else gguf.GGMLQuantizationType.F32)
    for name, array in (tensors or {}).items():
        out.add_tensor(name, array)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return file


def _add_tokenizer(out: gguf.GGUFWriter, *, size: int) -> None:
    words = [*WORDS, *(f"<extra_{i}>" for i in range(size - len(WORDS)))]
    out.add_tokenizer_model("gpt2")
    out.add_token_list(words)
    out.add_token_types([3] * 3 + [1] * (len(words) - 3))
    out.add_token_merges(["a b"])
    out.add_eos_token_id(2)
    out.add_bos_token_id(1)


def _add(out: Any, name: str, value: torch.Tensor, kind: gguf.GGMLQuantizationType) -> None:
    out.add_tensor(name, gguf.quants.quantize(value.numpy(), kind), raw_dtype=kind)
