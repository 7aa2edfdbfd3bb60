"""Switching parts of a model off without touching a weight."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from attar.errors import CompatibilityError
from attar.families import UNITS, Body, Unit
from attar.slicing.plan import SlicePlan


class UnitMasks:
    """Switches units and whole layers of a model off by forward hooks, without touching a weight.

    Use as a context manager; inside it, `set` and `set_layer` take effect at the next forward pass,
    and leaving it removes every hook. A fresh mask keeps everything.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._layers = Body(model).layers
        self._like = next(model.parameters())
        self._masks: dict[tuple[int, Unit], Tensor] = {}
        self._skipped: set[int] = set()
        self._handles: list[Any] = []

    def set(self, layer: int, unit: Unit, keep: Tensor) -> None:
        """Keep units where `keep` is non-zero; `keep` is `(units,)`, or `(B, units)` with a mask of
        its own for every row.
        """
        per_unit = self._layers[layer].columns(unit).shape[1]
        channels = keep.to(self._like).repeat_interleave(per_unit, -1)
        self._masks[layer, unit] = channels.unsqueeze(-2) if keep.dim() == 2 else channels

    def set_layers(self, kept: Sequence[int]) -> None:
        """Let every layer that is not in `kept` hand its input through unchanged."""
        self._skipped = set(range(len(self._layers))) - set(kept)

    def clear(self) -> None:
        """Keep everything again."""
        self._masks.clear()
        self._skipped = set()

    def __enter__(self) -> "UnitMasks":
        for index, layer in enumerate(self._layers):
            for unit in UNITS:
                hook = self._mask_hook(index, unit)
                self._handles.append(layer.out(unit).register_forward_pre_hook(hook))
            self._handles.append(
                layer.module.register_forward_hook(self._skip_hook(index), with_kwargs=True)
            )
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _mask_hook(self, layer: int, unit: Unit) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            mask = self._masks.get((layer, unit))
            return None if mask is None else (args[0] * mask, *args[1:])

        return hook

    def _skip_hook(self, layer: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if layer not in self._skipped:
                return None
            entered = args[0] if args else kwargs["hidden_states"]
            return (entered, *output[1:]) if isinstance(output, tuple) else entered

        return hook


@contextmanager
def masked(model: PreTrainedModel, plan: SlicePlan) -> Iterator[PreTrainedModel]:
    """Make `model` compute what `slice_model(model, plan)` would, for the length of the block.

    The model takes its own token ids and gives outputs of its own shapes. Hidden channels that go
    are zero after the embeddings and after every block, and the norms take their statistics over
    the channels that stay. Logits of tokens that go are `-inf`, so that a loss or a softmax over
    them is one over the tokens that stay.
    """
    plan.check(model)
    layers = Body(model).layers
    handles: list[RemovableHandle] = []
    try:
        for hooks in (_hidden_hooks, _head_hooks, _token_hooks):
            handles.extend(hooks(model, plan))
        with UnitMasks(model) as masks:
            masks.set_layers([k.layer for k in plan.layers])
            for keep in plan.layers:
                for unit in UNITS:
                    vector = torch.zeros(layers[keep.layer].count(unit))
                    vector[list(keep.kept(unit))] = 1
                    if not bool(vector.all()):
                        masks.set(keep.layer, unit, vector)
            yield model
    finally:
        for handle in handles:
            handle.remove()


def _hidden_hooks(model: PreTrainedModel, plan: SlicePlan) -> Iterator[RemovableHandle]:
    """Zero what goes after each module that writes to the residual stream; narrow the norms."""
    body = Body(model)
    if plan.hidden is None or len(plan.hidden) == body.hidden:
        return
    like = next(model.parameters())
    kept = torch.tensor(plan.hidden, device=like.device)
    mask = torch.zeros(body.hidden, dtype=like.dtype, device=like.device).index_fill(0, kept, 1)
    for part in body.stream():
        if part.is_norm:
            yield part.module.register_forward_hook(_narrow_norm(part.module, kept))
        elif part.writes:
            # Gemma multiplies its embeddings by the root of the width, and so does the sliced model
            scaled = hasattr(part.module, "scalar_embed_scale")
            scale = math.sqrt(len(kept) / body.hidden) if scaled else 1.0
            yield part.module.register_forward_hook(_times(mask * scale))


def _times(factor: Tensor) -> Any:
    """A forward hook that multiplies the output; `factor` is `(channels,)`."""

    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output * factor

    return hook


def _narrow_norm(norm: nn.Module, kept: Tensor) -> Any:
    """A forward hook that normalises the kept channels alone, and gives zero for the others."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty(len(kept), device="meta")) for p in norm.parameters()
    }
    narrow: Any = copy.deepcopy(norm, memo)
    if hasattr(narrow, "normalized_shape"):
        narrow.normalized_shape = (len(kept),)

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        weights = {name: p.index_select(0, kept) for name, p in module.named_parameters()}
        narrowed = functional_call(narrow, weights, (args[0].index_select(-1, kept),))
        return torch.zeros_like(output).index_copy(-1, kept, narrowed)

    return hook


def _head_hooks(model: PreTrainedModel, plan: SlicePlan) -> Iterator[RemovableHandle]:
    """Zero the head channels that go: in the queries, which also take the scale that narrower heads
    have, and in what the heads give.
    """
    body = Body(model)
    if plan.head_channels is None or len(plan.head_channels) == body.head_dim:
        return
    like = next(model.parameters())
    mask = torch.zeros(body.head_dim, dtype=like.dtype, device=like.device)
    mask[list(plan.head_channels)] = 1
    scale = head_scale(model, body.head_dim, after=len(plan.head_channels))
    for layer in body.layers:
        channels = mask.repeat(layer.heads)
        query = body.family.fused_qkv or body.family.query
        # a fused projection gives queries, keys and values in this order
        others = torch.ones_like(channels).repeat(2 if body.family.fused_qkv else 0)
        factor = torch.cat([channels * scale, others])
        yield layer.module.get_submodule(query).register_forward_hook(_times(factor))
        yield layer.attention_out.register_forward_pre_hook(_times_input(channels))


def _times_input(factor: Tensor) -> Any:
    """A forward hook that multiplies the input; `factor` is `(channels,)`."""

    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0] * factor, *args[1:])

    return hook


def head_scale(model: PreTrainedModel, before: int, *, after: int) -> float:
    """What attention scores are multiplied by when heads get narrower: models divide them by the
    root of the head size (GPT-2 only if its config says so).
    """
    return math.sqrt(before / after) if getattr(model.config, "scale_attn_weights", True) else 1.0


def layer_scale(model: PreTrainedModel, before: int, *, after: int) -> float:
    """What queries are multiplied by when layer `before` becomes number `after`, counted from 0:
    GPT-2 divides attention scores by the number of the layer, if its config says so.
    """
    numbered = getattr(model.config, "scale_attn_by_inverse_layer_idx", False)
    return (after + 1) / (before + 1) if numbered else 1.0


def _token_hooks(model: PreTrainedModel, plan: SlicePlan) -> Iterator[RemovableHandle]:
    """Give tokens that go a logit of minus infinity."""
    body, head = Body(model), model.get_output_embeddings()
    if plan.vocabulary is None or len(plan.vocabulary) == body.vocabulary or head is None:
        return
    gone = torch.ones(body.vocabulary, dtype=torch.bool, device=body.embeddings.weight.device)
    gone[list(plan.vocabulary)] = False

    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.masked_fill(gone, -math.inf)

    def after_soft_cap(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if getattr(output, "loss", None) is not None:
            raise CompatibilityError(
                "expected no labels for a masked vocabulary under soft-capped logits, because the "
                "model's own loss caps the logits of tokens that go; compute the loss from the "
                "logits"
            )
        output.logits = output.logits.masked_fill(gone, -math.inf)
        return output

    yield head.register_forward_hook(hook)
    if getattr(model.config, "final_logit_softcapping", None):
        yield model.register_forward_hook(after_soft_cap)
