"""The architecture of llama.cpp that fits a model, and the metadata of its GGUF file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor
from transformers import PreTrainedModel

from attar.checkpoint.gguf import rope_factors
from attar.errors import CompatibilityError
from attar.families import Body
from attar.models import positions_of, require_decoder

Quantize = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
"""The type of most matrices of a file."""

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Form:
    """How an architecture of llama.cpp differs from the class of transformers."""

    arch: str
    #: rotates neighbouring channels, not halves: the rows of queries and keys are permuted
    pairs: bool = False
    #: what the class adds to the weights of its norms, and llama.cpp does not
    norm_offset: float = 0.0
    activation: str = "silu"
    biases: tuple[str, ...] = ()  # linear modules that may have one
    #: reads a factor for each rotary frequency, for the RoPE scaling of Llama 3
    rope_factors: bool = False
    always_tied: bool = False  # its output matrix is always that of the embeddings
    heads_fill_width: bool = False  # heads x head size must be the width
    #: a model of this many layers scales its attention by width / heads instead of head size
    wide_scale: int | None = None
    #: every n-th layer has full attention, the others a sliding window; None: no windows
    windows: int | None = None


_LLAMA = Form("llama", pairs=True, biases=(*_ATTENTION, *_MLP), rope_factors=True)
_GEMMA = Form("gemma", norm_offset=1.0, activation="gelu_pytorch_tanh", always_tied=True)
FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "qwen2": Form("qwen2", biases=("q_proj", "k_proj", "v_proj"), heads_fill_width=True),
        "qwen3": Form("qwen3"),
        "gemma": _GEMMA,
        "gemma2": Form(**{**vars(_GEMMA), "arch": "gemma2", "wide_scale": 46, "windows": 2}),
        "gemma3_text": Form(**{**vars(_GEMMA), "arch": "gemma3", "wide_scale": 62, "windows": 6}),
        "granite": Form(**{**vars(_LLAMA), "arch": "granite"}),
        "smollm3": Form("smollm3", pairs=True),
    }
)
#: families whose layers may differ, and the architecture for them
_PER_LAYER = ("llama", "mistral", "qwen2")
_DECI = Form(**{**vars(_LLAMA), "arch": "deci"})


@dataclass(frozen=True)
class Shape:
    """A model as its GGUF file describes it.

    Attributes:
        form: the architecture.
        heads: query heads per layer.
        kv_heads: key and value heads per layer.
        values: metadata by key, without the architecture's prefix.
        rope_factors: divisors of the rotary frequencies, float32; None: no scaling by frequency.
        query_scale: factor for the queries where llama.cpp scales attention differently.
        notes: what a user has to know, sentences without their full stop.
    """

    form: Form
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    values: Mapping[str, Any]
    rope_factors: Tensor | None
    query_scale: float
    notes: tuple[str, ...]


def shape_of(model: PreTrainedModel) -> Shape:
    """Describe a model for llama.cpp.

    Raises:
        CompatibilityError: llama.cpp cannot run it; the message says why.
    """
    require_decoder(model)
    config: Any = model.config
    kind = config.model_type
    if kind not in FORMS:
        raise _refusal(model, f"Attar can export {', '.join(FORMS)}, and its type is {kind}")
    body = Body(model)
    heads, kv_heads, widths = (
        tuple(getattr(layer, name) for layer in body.layers)
        for name in ("heads", "kv_groups", "neurons")
    )
    uniform = all(len(set(each)) == 1 for each in (heads, kv_heads, widths))
    form = FORMS[kind]
    if not uniform and kind not in _PER_LAYER:
        raise _refusal(
            model,
            "its layers differ in width, which llama.cpp supports only for models built like "
            "Llama; prune it with the layout uniform or depth",
        )
    if not uniform:
        form = _DECI
    elif form.heads_fill_width and (
        heads[0] * body.head_dim != body.hidden or _rope_type(config) == "llama3"
    ):
        form = _LLAMA  # with biases: the same network
    _check(model, form, body)
    plain: dict[str, Any] = {
        "context_length": positions_of(model),
        "embedding_length": body.hidden,
        "block_count": len(body.layers),
        "feed_forward_length": widths[0] if uniform else list(widths),
        "vocab_size": body.vocabulary,
        "attention.head_count": heads[0] if uniform else list(heads),
        "attention.head_count_kv": kv_heads[0] if uniform else list(kv_heads),
        "attention.key_length": body.head_dim,
        "attention.value_length": body.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": body.head_dim,
    }
    rope, factors = _rope(model, form)
    windows, notes = _windows(model, form)
    scale = 1.0
    if (scalar := getattr(config, "query_pre_attn_scalar", None)) is not None:
        theirs = body.hidden // heads[0] if form.wide_scale == len(heads) else body.head_dim
        scale = math.sqrt(theirs / scalar)
    values = plain | rope | _extras(config, kind) | windows
    return Shape(form, heads, kv_heads, values, factors, scale, notes)


def _refusal(model: PreTrainedModel, reason: str) -> CompatibilityError:
    name = model.name_or_path or "this model"
    return CompatibilityError(
        f"cannot write {name} ({type(model).__name__}) as GGUF for llama.cpp: {reason}"
    )


def _check(model: PreTrainedModel, form: Form, body: Body) -> None:
    """Refuse what llama.cpp would compute differently, or cannot read."""
    config: Any = model.config
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if activation != form.activation:
        raise _refusal(
            model, f"its activation is {activation}, and llama.cpp's is {form.activation}"
        )
    for name, _ in model.named_parameters():
        module, _, leaf = name.rpartition(".")
        if leaf == "bias" and module.rpartition(".")[2] not in form.biases:
            raise _refusal(model, f"the architecture {form.arch} has no place for {name}")
    if form.always_tied and not _tied(model):
        raise _refusal(model, "llama.cpp ties output matrix and embeddings, and here they differ")
    if getattr(config, "use_bidirectional_attention", False):
        raise _refusal(model, "its attention is bidirectional")
    if form.arch == "gemma3" and (config.attn_logit_softcapping or config.final_logit_softcapping):
        raise _refusal(model, "llama.cpp does not cap the logits of Gemma 3, and this model does")
    rotated = getattr(config, "no_rope_layers", None) or ()
    if list(rotated) != [int((i + 1) % 4 != 0) for i in range(len(rotated))]:
        raise _refusal(
            model,
            "llama.cpp omits rotary embeddings in every fourth layer, and this model in others",
        )
    if min(layer.neurons for layer in body.layers) == 0:
        raise _refusal(
            model, "a layer has no neurons, and llama.cpp skips the attention of such a layer"
        )


def _tied(model: PreTrainedModel) -> bool:
    output: Any = model.get_output_embeddings()
    return output is None or output.weight is model.get_input_embeddings().weight


def _extras(config: Any, kind: str) -> dict[str, Any]:
    """Metadata of single families."""
    if kind == "granite":
        return {
            "logit_scale": float(config.logits_scaling),
            "residual_scale": float(config.residual_multiplier),
            "embedding_scale": float(config.embedding_multiplier),
            "attention.scale": float(config.attention_multiplier),
        }
    if kind == "gemma2":
        # a cap that no logit comes near stands for none
        return {
            "attn_logit_softcapping": float(config.attn_logit_softcapping or 1e9),
            "final_logit_softcapping": float(config.final_logit_softcapping or 1e9),
        }
    return {}


# ------------------------------------------------------------------------------- attention windows


def _windows(model: PreTrainedModel, form: Form) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Metadata of sliding-window attention, and notes."""
    config: Any = model.config
    kinds = getattr(config, "layer_types", None) or ()
    window: Any = getattr(config, "sliding_window", None)
    most = positions_of(model)
    if form.windows is not None:
        pattern = [i % form.windows < form.windows - 1 for i in range(len(kinds))]
        if [kind == "sliding_attention" for kind in kinds] != pattern:
            raise _refusal(
                model,
                f"llama.cpp gives every layer but one in {form.windows} a sliding window, and "
                "the layers of this model follow another pattern; keep all layers of this family",
            )
        return {"attention.sliding_window": int(window)}, ()
    narrow = "sliding_attention" in kinds if kinds else window is not None
    if not narrow or window is None or (most is not None and most <= window):
        return {}, ()
    note = (
        "llama.cpp has no sliding-window attention for this family, so the context length in the "
        f"file is {window} tokens, one window"
    )
    return {"context_length": int(window)}, (note,)


# ----------------------------------------------------------------------------------- rotary tables


def _parameters(config: Any) -> Mapping[str, Any]:
    """Rotary parameters of the layers with full attention."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get("full_attention", rope)


def _rope_type(config: Any) -> str:
    return _parameters(config).get("rope_type", "default")


def _rope(model: PreTrainedModel, form: Form) -> tuple[dict[str, Any], Tensor | None]:
    """Metadata of rotary embeddings, and the divisors of their frequencies.

    Raises:
        CompatibilityError: llama.cpp would compute other embeddings.
    """
    config: Any = model.config
    rope, kind = _parameters(config), _rope_type(config)
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _refusal(model, "only a part of each head is rotated, and llama.cpp rotates all")
    base = float(rope["rope_theta"])
    values: dict[str, Any] = {"rope.freq_base": base}
    if local := (getattr(config, "rope_parameters", None) or {}).get("sliding_attention"):
        if local.get("rope_type", "default") != "default":
            raise _refusal(model, "its layers with a sliding window use RoPE scaling")
        values["rope.freq_base_swa"] = float(local["rope_theta"])
    if kind == "default":
        return values, None
    factor = float(rope.get("factor") or 1.0)
    if kind == "linear":
        return values | {"rope.scaling.type": "linear", "rope.scaling.factor": factor}, None
    if kind == "llama3" and form.rope_factors:
        return values, rope_factors(config)
    changed = [k for k in ("attention_factor", "mscale", "mscale_all_dim") if rope.get(k)]
    plain = rope.get("beta_fast") in (None, 32) and rope.get("beta_slow") in (None, 1)
    if kind == "yarn" and plain and not changed and rope.get("truncate", True):
        first = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        return values | {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": factor,
            "rope.scaling.original_context_length": int(first),
        }, None
    raise _refusal(model, f"llama.cpp cannot express its RoPE scaling {kind!r}")
