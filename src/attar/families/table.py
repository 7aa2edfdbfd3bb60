"""The families that Attar knows: names inside one layer of each, and config keys that size it."""

from dataclasses import dataclass, replace

_TIED_HEADS = (
    "its head size is tied to width / heads, so a stock checkpoint with fewer heads does not exist"
)
_WIDE_NORM = (
    "it normalises queries and keys over all heads at once, so removing a head changes the others"
)


@dataclass(frozen=True)
class Family:
    """Names inside one layer, and the config keys that size it."""

    layers: str = "layers"  # path of the layer list inside the base model
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    # one projection whose rows are all queries, then keys, then values
    fused_qkv: str | None = None
    fused_by_head: bool = False  # its rows are query, key, value of the first head, and so on
    sizes_from_config: bool = False  # its forward pass reads the numbers of heads from the config
    attention_out: str = "self_attn.o_proj"
    mlp_in: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    fused_mlp_in: bool = False  # one projection whose rows are all gates, then all ups
    mlp_out: str = "mlp.down_proj"
    ffn_key: str = "intermediate_size"
    head_size: str = "head_dim"  # attribute of the attention module: channels of one head
    rotary: bool = True
    tied_head_size: bool = False  # the config class computes the head size as width / heads
    # our per-layer form of the class takes the head size from `head_dim` all the same
    own_head_size: bool = False
    wide_norm: bool = False  # queries and keys are normalised over all heads at once
    # the config class refuses head counts that do not divide the width
    heads_divide_width: bool = False
    width_over_heads: bool = False  # llama.cpp and old vLLM take width / heads for the head size
    positions_from_pad: bool = False  # position numbers start after the id of the padding token
    first_norm: str | None = None  # a norm that the class leaves out of the first layer

    @property
    def no_heads(self) -> str | None:
        """Why pruning cannot remove heads, or None."""
        if self.wide_norm:
            return _WIDE_NORM
        return _TIED_HEADS if self.tied_head_size else None

    @property
    def attention(self) -> str:
        """Path of the attention module inside a layer."""
        return (self.fused_qkv or self.query).rpartition(".")[0]

    @property
    def reads(self) -> tuple[str, ...]:
        """Linear modules inside a layer whose input is the hidden width."""
        projections = (self.fused_qkv,) if self.fused_qkv else (self.query, self.key, self.value)
        return (*projections, *self.mlp_in)

    @property
    def writes(self) -> tuple[str, ...]:
        """Linear modules inside a layer whose output is the hidden width."""
        return (self.attention_out, self.mlp_out)


_BERT = Family(
    layers="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_out="attention.output.dense",
    mlp_in=("intermediate.dense",),
    mlp_out="output.dense",
    head_size="attention_head_size",
    rotary=False,
    tied_head_size=True,
    own_head_size=True,
)

FAMILIES: dict[str, Family] = {
    "llama": Family(heads_divide_width=True),
    "mistral": Family(),
    "qwen2": Family(width_over_heads=True),
    "qwen3": Family(),
    "gemma": Family(),
    "gemma2": Family(heads_divide_width=True),
    "gemma3_text": Family(heads_divide_width=True),
    "granite": Family(),
    "smollm3": Family(),
    "olmo": Family(width_over_heads=True),
    "olmo2": Family(wide_norm=True),
    "phi": Family(
        attention_out="self_attn.dense",
        mlp_in=("mlp.fc1",),
        mlp_out="mlp.fc2",
        width_over_heads=True,
    ),
    "phi3": Family(
        fused_qkv="self_attn.qkv_proj",
        sizes_from_config=True,
        mlp_in=("mlp.gate_up_proj",),
        fused_mlp_in=True,
        width_over_heads=True,
    ),
    "starcoder2": Family(mlp_in=("mlp.c_fc",), mlp_out="mlp.c_proj", width_over_heads=True),
    "gpt2": Family(
        layers="h",
        fused_qkv="attn.c_attn",
        attention_out="attn.c_proj",
        mlp_in=("mlp.c_fc",),
        mlp_out="mlp.c_proj",
        ffn_key="n_inner",
        rotary=False,
        tied_head_size=True,
    ),
    "opt": Family(
        layers="decoder.layers",
        attention_out="self_attn.out_proj",
        mlp_in=("fc1",),
        mlp_out="fc2",
        ffn_key="ffn_dim",
        rotary=False,
        tied_head_size=True,
    ),
    "gpt_neox": Family(
        fused_qkv="attention.query_key_value",
        fused_by_head=True,
        attention_out="attention.dense",
        mlp_in=("mlp.dense_h_to_4h",),
        mlp_out="mlp.dense_4h_to_h",
        head_size="head_size",
        tied_head_size=True,
    ),
    "bert": _BERT,
    "roberta": replace(_BERT, positions_from_pad=True),
    "modernbert": Family(
        fused_qkv="attn.Wqkv",
        attention_out="attn.Wo",
        mlp_in=("mlp.Wi",),
        fused_mlp_in=True,
        mlp_out="mlp.Wo",
        tied_head_size=True,
        own_head_size=True,
        first_norm="attn_norm",
    ),
}
