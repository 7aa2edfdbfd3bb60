"""Where heads, key/value groups, neurons and embeddings live in each transformers model family.

Everything that cuts, masks or counts a model asks this module and nothing else knows a parameter's
name. A *unit* is what can be removed whole: a **KV group** (a key/value head with the query heads
that share it) or a **neuron** of the feed-forward network. A :class:`Cut` says which rows of one
parameter belong to each unit, so that fused and transposed layouts need no special case.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.errors import CompatibilityError

Unit = Literal["kv_groups", "neurons"]
UNITS: tuple[Unit, ...] = ("kv_groups", "neurons")

_TIED_HEADS = (
    "its head size is tied to width / heads, so a stock checkpoint with fewer heads does not exist"
)
_WIDE_NORM = (
    "it normalises queries and keys over all heads at once, so removing a head changes the others"
)


@dataclass(frozen=True)
class Family:
    """Names inside one decoder layer, and the config keys that size it."""

    layers: str = "layers"  # path of the layer list inside the base model
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    fused_qkv: str | None = (
        None  # one projection whose rows are all queries, then keys, then values
    )
    attention_out: str = "self_attn.o_proj"
    mlp_in: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    fused_mlp_in: bool = False  # one projection whose rows are all gates, then all ups
    mlp_out: str = "mlp.down_proj"
    ffn_key: str = "intermediate_size"
    no_heads: str | None = None  # why heads cannot be removed
    heads_divide_width: bool = (
        False  # the config class refuses head counts that do not divide the width
    )


FAMILIES: dict[str, Family] = {
    "llama": Family(heads_divide_width=True),
    "mistral": Family(),
    "qwen2": Family(),
    "qwen3": Family(),
    "gemma": Family(),
    "gemma2": Family(heads_divide_width=True),
    "gemma3_text": Family(heads_divide_width=True),
    "granite": Family(),
    "smollm3": Family(),
    "olmo": Family(),
    "olmo2": Family(no_heads=_WIDE_NORM),
    "phi": Family(attention_out="self_attn.dense", mlp_in=("mlp.fc1",), mlp_out="mlp.fc2"),
    "phi3": Family(fused_qkv="self_attn.qkv_proj", mlp_in=("mlp.gate_up_proj",), fused_mlp_in=True),
    "starcoder2": Family(mlp_in=("mlp.c_fc",), mlp_out="mlp.c_proj"),
    "gpt2": Family(
        layers="h",
        attention_out="attn.c_proj",
        mlp_in=("mlp.c_fc",),
        mlp_out="mlp.c_proj",
        ffn_key="n_inner",
        no_heads=_TIED_HEADS,
    ),
    "opt": Family(
        layers="decoder.layers",
        attention_out="self_attn.out_proj",
        mlp_in=("fc1",),
        mlp_out="fc2",
        ffn_key="ffn_dim",
        no_heads=_TIED_HEADS,
    ),
    "gpt_neox": Family(
        attention_out="attention.dense",
        mlp_in=("mlp.dense_h_to_4h",),
        mlp_out="mlp.dense_4h_to_h",
        no_heads=_TIED_HEADS,
    ),
    "bert": Family(
        layers="encoder.layer",
        attention_out="attention.output.dense",
        mlp_in=("intermediate.dense",),
        mlp_out="output.dense",
        no_heads=_TIED_HEADS,
    ),
}


@dataclass(frozen=True)
class Cut:
    """The rows of one parameter that belong to each unit.

    `rows` is `(units, rows per unit)`; keeping the units `k` keeps the sorted indices `rows[k]`
    along `axis`.
    """

    module: str  # dotted name of the linear module inside the layer
    parameter: Literal["weight", "bias"]
    axis: int
    unit: Unit
    rows: torch.Tensor

    @property
    def name(self) -> str:
        """Name of the parameter inside the layer."""
        return f"{self.module}.{self.parameter}"

    def kept(self, units: torch.Tensor) -> torch.Tensor:
        """Indices along `axis` that survive when only `units` are kept."""
        return self.rows[units].flatten().sort().values


class Layer:
    """One layer of a model, seen as attention with KV groups and a feed-forward network with
    neurons.
    """

    def __init__(self, module: nn.Module, family: Family, head_dim: int | None) -> None:
        self.module = module
        self.family = family
        self.head_dim = head_dim
        self.attention_out = module.get_submodule(family.attention_out)
        self.mlp_out = module.get_submodule(family.mlp_out)

    @property
    def neurons(self) -> int:
        """Width of the feed-forward network."""
        return _fan(self.mlp_out)[0]

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return _fan(self.attention_out)[0] // self._head_dim

    @property
    def kv_groups(self) -> int:
        """Number of key/value heads; each serves `heads / kv_groups` query heads."""
        if self.family.no_heads == _TIED_HEADS:
            return self.heads
        if self.family.fused_qkv:
            rows = _fan(self.module.get_submodule(self.family.fused_qkv))[1]
            return (rows // self._head_dim - self.heads) // 2
        return _fan(self.module.get_submodule(self.family.key))[1] // self._head_dim

    @property
    def _head_dim(self) -> int:
        if self.head_dim is None:
            raise CompatibilityError("this model does not say how wide a head is (config.head_dim)")
        return self.head_dim

    def count(self, unit: Unit) -> int:
        """How many units of this kind the layer has."""
        return self.kv_groups if unit == "kv_groups" else self.neurons

    def out(self, unit: Unit) -> nn.Module:
        """The projection whose *input* carries the units: a mask there equals removing them."""
        return self.attention_out if unit == "kv_groups" else self.mlp_out

    def columns(self, unit: Unit) -> torch.Tensor:
        """Input channels of `out(unit)` that belong to each unit, `(units, channels per unit)`."""
        n = self.count(unit)
        return torch.arange(_fan(self.out(unit))[0]).view(n, -1)

    def cuts(self, unit: Unit) -> Iterator[Cut]:
        """Every parameter that shrinks when units of this kind are removed."""
        family, columns = self.family, self.columns(unit)
        n = len(columns)
        if unit == "neurons":
            for name in family.mlp_in:
                width = self.neurons
                rows = torch.stack([columns[:, 0], columns[:, 0] + width], 1)
                yield from self._out_cuts(name, unit, rows if family.fused_mlp_in else columns)
            yield self._in_cut(family.mlp_out, unit, columns)
            return
        key_rows = torch.arange(n * self._head_dim).view(n, -1)
        if family.fused_qkv:
            keys_at, values_at = columns.numel(), columns.numel() + key_rows.numel()
            rows = torch.cat([columns, key_rows + keys_at, key_rows + values_at], 1)
            yield from self._out_cuts(family.fused_qkv, unit, rows)
        else:
            yield from self._out_cuts(family.query, unit, columns)
            yield from self._out_cuts(family.key, unit, key_rows)
            yield from self._out_cuts(family.value, unit, key_rows)
        yield self._in_cut(family.attention_out, unit, columns)

    def _out_cuts(self, name: str, unit: Unit, rows: torch.Tensor) -> Iterator[Cut]:
        module = self.module.get_submodule(name)
        yield Cut(name, "weight", 1 if isinstance(module, Conv1D) else 0, unit, rows)
        if getattr(module, "bias", None) is not None:
            yield Cut(name, "bias", 0, unit, rows)

    def _in_cut(self, name: str, unit: Unit, rows: torch.Tensor) -> Cut:
        module = self.module.get_submodule(name)
        return Cut(name, "weight", 0 if isinstance(module, Conv1D) else 1, unit, rows)


class Body:
    """The prunable body of a model: its family and its layers, read from the real tensors.

    Raises:
        CompatibilityError: the model's family is not one of `FAMILIES`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        kind = model.config.model_type
        if kind not in FAMILIES:
            raise CompatibilityError(
                f"expected a model of one of the families {', '.join(FAMILIES)}; found {kind!r} "
                f"({type(model).__name__}), whose units Attar does not know how to remove"
            )
        self.model = model
        self.family = FAMILIES[kind]

    @property
    def base(self) -> nn.Module:
        """The model without its head; the layer list hangs below it."""
        return getattr(self.model, self.model.base_model_prefix, self.model)

    @property
    def layer_list(self) -> nn.ModuleList:
        """The layers as the model holds them."""
        found = self.base.get_submodule(self.family.layers)
        if not isinstance(found, nn.ModuleList):
            raise CompatibilityError(f"expected a list of layers at {self.family.layers!r}")
        return found

    @cached_property
    def head_dim(self) -> int | None:
        """Width of one attention head."""
        config = self.model.config
        explicit = getattr(config, "head_dim", None)
        return explicit or config.hidden_size // config.num_attention_heads

    @property
    def layers(self) -> list[Layer]:
        """The layers as attention and feed-forward network, sizes read from the tensors."""
        return [Layer(module, self.family, self.head_dim) for module in self.layer_list]

    def layer_prefix(self, index: int) -> str:
        """Name of layer `index` as it stands in `model.state_dict()`, with a closing dot."""
        prefix = "" if self.base is self.model else f"{self.model.base_model_prefix}."
        return f"{prefix}{self.family.layers}.{index}."

    def why_not(self, unit: Unit) -> str | None:
        """The reason why units of this kind cannot be removed from this model, or None."""
        if unit == "neurons":
            return None
        if self.family.no_heads:
            return self.family.no_heads
        if getattr(
            self.model.config, "qk_layernorm", False
        ):  # Phi sizes these norms as width // heads
            return "its query/key norms are sized from width / heads"
        return None

    def block_parameters(self) -> int:
        """Parameters inside the layers: what pruning can reach, and what goes on top of it
        there.
        """
        return sum(p.numel() for p in self.layer_list.parameters())


def _fan(module: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear module, from its weight."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        raise CompatibilityError(
            f"expected a linear layer with a weight, found {type(module).__name__}"
        )
    rows, columns = weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)
