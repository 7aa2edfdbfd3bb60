"""A model seen as its layers, units, hidden width and vocabulary, read from the real tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.errors import CompatibilityError
from attar.families.table import FAMILIES, Family

Unit = Literal["kv_groups", "neurons"]
UNITS: tuple[Unit, ...] = ("kv_groups", "neurons")
#: what runs through the whole network
Global = Literal["hidden", "head_channels", "vocabulary"]
GLOBAL: tuple[Global, ...] = ("hidden", "head_channels", "vocabulary")

_CONNECTED = "its layers have widths of their own, behind linear maps from one to the next"
_ROTARY = "its rotary position frequencies are computed from the head size"


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

    def kept(
        self, units: torch.Tensor, *, channels: torch.Tensor | None = None, head_dim: int = 1
    ) -> torch.Tensor:
        """Indices along `axis` that survive when only `units` are kept, and of every head
        (`head_dim` rows in succession) only `channels`; None keeps the heads whole.

        Args:
            units: `(kept units,)` int64.
            channels: `(kept channels,)` int64, each below `head_dim`.
            head_dim: rows of a head, of which a unit has one or more.

        Returns:
            `(kept rows,)` int64, sorted.
        """
        rows = self.rows.index_select(0, units)
        if channels is not None:
            rows = rows.unflatten(1, (-1, head_dim))[..., channels]
        return rows.flatten().sort().values


@dataclass(frozen=True)
class StreamModule:
    """A module that reads the hidden width, writes to it, or (a norm) does both channel by
    channel.
    """

    name: str  # in the model
    module: nn.Module
    reads: bool
    writes: bool

    @property
    def is_norm(self) -> bool:
        """Whether this normalises over the hidden width."""
        return is_norm(self.module)

    def axes(self) -> Iterator[tuple[str, int]]:
        """Name in the model and axis of every parameter that has the hidden width."""
        if self.is_norm:
            yield from ((f"{self.name}.{name}", 0) for name, _ in self.module.named_parameters())
            return
        turned = isinstance(self.module, Conv1D | nn.Embedding)
        if self.reads:
            yield f"{self.name}.weight", 0 if turned else 1
        if self.writes:
            yield f"{self.name}.weight", 1 if turned else 0
            if getattr(self.module, "bias", None) is not None:
                yield f"{self.name}.bias", 0


def is_norm(module: nn.Module) -> bool:
    """Whether this is a LayerNorm or an RMSNorm, by the name of its class."""
    return type(module).__name__.endswith("Norm")


class Layer:
    """One layer of a model, seen as attention with KV groups and a feed-forward network with
    neurons.
    """

    def __init__(self, module: nn.Module, family: Family) -> None:
        self.module = module
        self.family = family
        self.head_dim: int = getattr(self.attention, family.head_size)
        self.attention_out = module.get_submodule(family.attention_out)
        self.mlp_out = module.get_submodule(family.mlp_out)

    @property
    def hidden(self) -> int:
        """Channels inside the layer; those of the residual stream unless it is connected."""
        return fan(self.mlp_out)[1]

    @property
    def neurons(self) -> int:
        """Width of the feed-forward network."""
        return fan(self.mlp_out)[0]

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return fan(self.attention_out)[0] // self.head_dim

    @property
    def kv_groups(self) -> int:
        """Number of key/value heads; each serves `heads / kv_groups` query heads."""
        if self.family.fused_qkv:
            rows = fan(self.module.get_submodule(self.family.fused_qkv))[1]
            return (rows // self.head_dim - self.heads) // 2
        return fan(self.module.get_submodule(self.family.key))[1] // self.head_dim

    @property
    def attention(self) -> nn.Module:
        """The attention module, which knows how wide a head is."""
        return self.module.get_submodule(self.family.attention)

    def count(self, unit: Unit) -> int:
        """How many units of this kind the layer has."""
        return self.kv_groups if unit == "kv_groups" else self.neurons

    def out(self, unit: Unit) -> nn.Module:
        """The projection whose *input* carries the units: a mask there equals removing them."""
        return self.attention_out if unit == "kv_groups" else self.mlp_out

    def columns(self, unit: Unit) -> torch.Tensor:
        """Input channels of `out(unit)` that belong to each unit, `(units, channels per unit)`."""
        n = self.count(unit)
        return torch.arange(fan(self.out(unit))[0]).view(n, -1)

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
        key_rows = torch.arange(n * self.head_dim).view(n, -1)
        if family.fused_qkv:
            keys_at, values_at = columns.numel(), columns.numel() + key_rows.numel()
            rows = torch.cat([columns, key_rows + keys_at, key_rows + values_at], 1)
            if family.fused_by_head:
                rows = torch.arange(rows.numel()).view(n, -1)
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
    """A model seen as its family and its layers, read from the real tensors.

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
        """The model without its head; the layer list is below it."""
        return getattr(self.model, self.model.base_model_prefix, self.model)

    @property
    def layer_list(self) -> nn.ModuleList:
        """The layers as the model holds them."""
        layers = self.base.get_submodule(self.family.layers)
        if not isinstance(layers, nn.ModuleList):
            raise CompatibilityError(f"expected a list of layers at {self.family.layers!r}")
        return layers

    @cached_property
    def head_dim(self) -> int:
        """Channels of one attention head, as the attention modules have it; of the first layer,
        where layers have widths of their own.
        """
        return self.layer(0).head_dim

    @property
    def hidden(self) -> int:
        """Channels of the residual stream."""
        if self.connected:
            return fan(self.layer_list[0].get_submodule("connector"))[0]
        return self.layer(0).hidden

    @property
    def connectable(self) -> bool:
        """Whether our per-layer form of the class can give its layers widths of their own."""
        return self._own_head_size and not self.family.rotary

    @property
    def connected(self) -> bool:
        """Whether layers have widths of their own, behind linear maps from one to the next."""
        return hasattr(self.layer_list[0], "connector")

    @property
    def vocabulary(self) -> int:
        """Rows of the token embeddings."""
        return len(self.embeddings.weight)

    @property
    def embeddings(self) -> nn.Embedding:
        """The token embeddings."""
        table = self.model.get_input_embeddings()
        if not isinstance(table, nn.Embedding):
            raise CompatibilityError(
                f"expected token embeddings that are an nn.Embedding, found {type(table).__name__}"
            )
        return table

    @property
    def layers(self) -> list[Layer]:
        """The layers as attention and feed-forward network, sizes read from the tensors."""
        return [self.layer(i) for i in range(len(self.layer_list))]

    def layer(self, index: int) -> Layer:
        """One of the layers."""
        return Layer(self.layer_list[index], self.family)

    def layer_prefix(self, index: int) -> str:
        """Name of layer `index` as it stands in `model.state_dict()`, with a closing dot."""
        prefix = "" if self.base is self.model else f"{self.model.base_model_prefix}."
        return f"{prefix}{self.family.layers}.{index}."

    def stream(self) -> Iterator[StreamModule]:
        """Every module that touches the hidden width.

        Inside the layers the family names the linear modules, and every norm but those of queries
        and keys has the hidden width. Outside, all embeddings (tokens, positions, segments) write
        to it, a linear module called `dense` (pooler, prediction head, classification head) maps it
        to itself, and any other linear module (output head, classifier) reads it.

        Raises:
            CompatibilityError: a module has parameters and none of these roles.
        """
        inside = self.layer_prefix(0).removesuffix("0.")
        for name, module in self.model.named_modules():
            if name.startswith(inside):
                role = self._role_inside(name.removeprefix(inside).partition(".")[2], module)
            else:
                role = self._role_outside(name, module)
            if role is not None:
                yield StreamModule(name, module, *role)
            elif any(True for _ in module.parameters(recurse=False)) and not (
                _is_head_norm(name, module) or self._vocabulary_bias(module)
            ):
                raise CompatibilityError(
                    f"cannot cut the hidden width of {type(self.model).__name__}: Attar does not "
                    f"know what {name!r} ({type(module).__name__}) does in it"
                )

    def _role_inside(self, name: str, module: nn.Module) -> tuple[bool, bool] | None:
        if is_norm(module):
            return None if _is_head_norm(name, module) else (True, True)
        reads, writes = name in self.family.reads, name in self.family.writes
        return (reads, writes) if reads or writes else None

    def _role_outside(self, name: str, module: nn.Module) -> tuple[bool, bool] | None:
        if isinstance(module, nn.Embedding):
            return False, True
        if is_norm(module):
            return True, True
        if isinstance(module, nn.Linear | Conv1D):
            return True, name.rpartition(".")[2] == "dense"
        return None

    def vocabulary_axes(self) -> Iterator[tuple[str, int]]:
        """Name in the model and axis of every parameter that has one row per token: embeddings,
        output head (the same parameter where they are tied), and its bias.
        """
        head = self.model.get_output_embeddings()
        for name, module in self.model.named_modules():
            if module is self.embeddings or module is head:
                yield f"{name}.weight", 0
            if (module is head and getattr(head, "bias", None) is not None) or (
                self._vocabulary_bias(module)
            ):
                yield f"{name}.bias", 0

    def _vocabulary_bias(self, module: nn.Module) -> bool:
        """Whether this prediction head holds a bias for every token besides its linear module."""
        if isinstance(module, nn.Linear | Conv1D) or is_norm(module):
            return False
        bias = module._parameters.get("bias")
        return bias is not None and bias.shape == (self.vocabulary,)

    def why_not(self, part: Unit | Global) -> str | None:
        """Why this part cannot be removed from this model, or None.

        Heads whose size is tied to width / heads get a reason, because pruning, which keeps the
        width, could not save the result for the stock class. A `SlicePlan` can cut them all the
        same, and `no_form` says whether a class still holds the result.
        """
        config = self.model.config
        if part in ("hidden", "head_channels") and self.connected:
            return _CONNECTED
        if part == "kv_groups":
            if self.family.no_heads:
                return self.family.no_heads
            if getattr(config, "qk_layernorm", False):  # Phi sizes these norms as width // heads
                return "its query/key norms are sized from width / heads"
        if part == "head_channels" and self.family.rotary:
            return _ROTARY
        if part == "hidden" and getattr(config, "word_embed_proj_dim", self.hidden) != self.hidden:
            return "its token embeddings have a width of their own (word_embed_proj_dim)"
        return None

    @property
    def _own_head_size(self) -> bool:
        """Whether our per-layer form of the class builds heads of this size; it knows those of
        self-attention.
        """
        crossed = getattr(self.model.config, "add_cross_attention", False)
        return self.family.own_head_size and not crossed

    def no_form(self) -> str | None:
        """Why no class of transformers can be built with these widths, or None."""
        config, family = self.model.config, self.family
        sizes = {layer.head_dim for layer in self.layers}
        tied = family.tied_head_size and not (self._own_head_size and len(sizes) == 1)
        if tied or getattr(config, "qk_layernorm", False):
            for index, layer in enumerate(self.layers):
                if layer.hidden != layer.heads * layer.head_dim:
                    return (
                        f"{type(config).__name__} computes the head size as hidden_size / "
                        f"num_attention_heads, and layer {index} has {layer.heads} heads of "
                        f"{layer.head_dim} channels at width {layer.hidden}: cut heads and width "
                        "in proportion"
                    )
        first = self.layer_list[0]
        if family.first_norm and is_norm(first.get_submodule(family.first_norm)):
            return (
                f"{type(config).__name__} has no {family.first_norm} in its first layer, and here "
                "the parent's first layer is gone: keep layer 0"
            )
        return None

    def block_parameters(self) -> int:
        """Parameters inside the layers: what pruning can reach, and what goes on top of it
        there.
        """
        return sum(p.numel() for p in self.layer_list.parameters())


def fan(module: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear module, from its weight."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        raise CompatibilityError(
            f"expected a linear layer with a weight, found {type(module).__name__}"
        )
    rows, columns = weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def _is_head_norm(name: str, module: nn.Module) -> bool:
    """Whether this normalises queries or keys."""
    return is_norm(module) and name.rpartition(".")[2].startswith(("q_", "k_"))
