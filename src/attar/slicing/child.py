"""A smaller network that owns no weights: it runs on slices of its parent's, of the moment.

That is what the networks of a weight-sharing supernet are. A :class:`Child` is built once for an
architecture and called many times; gradients reach the parent.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from attar.arch import Arch
from attar.errors import CompatibilityError
from attar.families import Body, is_encoder_decoder
from attar.slicing.connected import (
    HeadSlicing,
    connected_arch,
    connected_skeleton,
    connected_slices,
    plain_plan,
)
from attar.slicing.cut import slice_model
from attar.slicing.encoder_decoder import Layers, encoder_decoder_child
from attar.slicing.mask import layer_scale
from attar.slicing.plan import SlicePlan
from attar.slicing.slice import Slice, Take


@dataclass(frozen=True)
class Child:
    """One network of a parent.

    Attributes:
        skeleton: its modules; the parameters are on the meta device, the buffers are real.
        slices: where its parameters lie, by their names in `skeleton.named_parameters()`. Those of
            tables that depend on the width alone (sinusoidal positions) lie nowhere and are real.
    """

    skeleton: PreTrainedModel
    slices: Mapping[str, Slice]

    def weights(self, take: Take) -> dict[str, Tensor]:
        """The parameters of the moment, by name."""
        return {name: take(where) for name, where in self.slices.items()}

    def run(self, weights: Mapping[str, Tensor], **inputs: Any) -> Any:
        """The model's output with these weights.

        Args:
            weights: what `weights` gave.
            inputs: what the model's forward takes.
        """
        return functional_call(self.skeleton, dict(weights), kwargs=inputs)

    def run_base(self, weights: Mapping[str, Tensor], **inputs: Any) -> Any:
        """The same without the model's head, such as one over a whole vocabulary."""
        base: Any = self.skeleton.base_model
        start = "" if base is self.skeleton else f"{self.skeleton.base_model_prefix}."
        own = {n.removeprefix(start): w for n, w in weights.items() if n.startswith(start)}
        return functional_call(base, own, kwargs=inputs)

    def extract(self, weights: Mapping[str, Tensor]) -> PreTrainedModel:
        """An ordinary model with a copy of these weights, in evaluation mode; tied parameters stay
        tied."""
        memo: dict[int, Any] = {
            id(parameter): nn.Parameter(weights[name].detach().clone().contiguous())
            for name, parameter in self.skeleton.named_parameters()
            if name in self.slices
        }
        return copy.deepcopy(self.skeleton, memo).eval()


def plain(parent: PreTrainedModel) -> Take:
    """Slices of the parent's own parameters."""
    parameters = dict(parent.named_parameters())

    def take(where: Slice) -> Tensor:
        if where.name not in parameters:
            raise CompatibilityError(
                f"the {type(parent).__name__} has no {where.name}, one of the linear maps between "
                "layers that have hidden widths of their own; give the supernet Bottlenecks"
            )
        return where.of(parameters[where.name])

    return take


def child_of(
    parent: PreTrainedModel,
    arch: Arch,
    *,
    layers: Sequence[int] | Layers | None = None,
    head_slicing: HeadSlicing = "head",
) -> Child:
    """The network of this architecture that keeps the first of everything of its parent.

    Args:
        parent: a model of a supported family, also an encoder-decoder.
        arch: of the child; widths that are None stay as they are.
        layers: the parent's layers that stay: their numbers (of an encoder-decoder, those of the
            encoder and those of the decoder), `first`, or `spread` for evenly spread ones
            (`SlicePlan.prefix`), as is None.
        head_slicing: what heads keep where layers have hidden widths of their own: `head` the first
            channels of every head; `flat` the first rows of all heads, as SuperShaper's code does,
            so that heads are made of other heads' rows.

    Raises:
        CompatibilityError: the parent is smaller than `arch` somewhere, is no BERT or RoBERTa where
            layers are to have hidden widths of their own, or no class of encoder-decoders holds
            such a child.
    """
    if is_encoder_decoder(parent):
        return Child(*encoder_decoder_child(parent, arch, layers=layers or "spread"))
    _require_one_stack(parent, arch)
    if layers == "first":
        layers = range(arch.num_hidden_layers)
    numbers: Any = None if layers == "spread" else layers
    if any(shape.hidden_size is not None for shape in arch.layers):
        arch = connected_arch(parent, arch)
        plan = plain_plan(parent, arch, layers=numbers)
        rows = connected_slices(parent, arch, plan=plan, head_slicing=head_slicing)
        slices = {name: Slice(where, axes) for name, where, axes in rows}
        return Child(connected_skeleton(parent, arch, plan=plan), slices)
    return child_by(parent, SlicePlan.prefix(parent, arch, layers=numbers))


def _require_one_stack(parent: PreTrainedModel, arch: Arch) -> None:
    """Refuse widths that only encoder-decoders have."""
    crossing = any(shape.cross_attention_heads is not None for shape in arch.layers)
    has = {
        "a decoder": arch.decoder is not None,
        "attention_size": arch.attention_size is not None,
        "cross_attention_heads": crossing,
    }
    if foreign := [name for name, there in has.items() if there]:
        raise CompatibilityError(
            f"expected the widths of one stack of layers, as {type(parent).__name__} has; found "
            f"{foreign[0]}, which only encoder-decoders have: leave it out"
        )


def child_by(parent: PreTrainedModel, plan: SlicePlan) -> Child:
    """The network that keeps of its parent what a plan says.

    Raises:
        CompatibilityError: the plan does not fit the parent.
    """
    plan.check(parent)
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
        for p in parent.parameters()
    }
    memo |= {id(b): b for b in parent.buffers()}
    skeleton = slice_model(copy.deepcopy(parent, memo), plan, in_place=True)
    return Child(skeleton, _slices(parent, plan))


def _slices(parent: PreTrainedModel, plan: SlicePlan) -> dict[str, Slice]:
    """Where the parameters of the sliced model lie, by the names that they have in it."""
    body, indices = Body(parent), plan.indices(parent)
    renamed = {body.layer_prefix(k.layer): body.layer_prefix(i) for i, k in enumerate(plan.layers)}
    every = {body.layer_prefix(i): i for i in range(len(body.layer_list))}
    slices: dict[str, Slice] = {}
    for name, _ in parent.named_parameters():
        prefix = next((p for p in every if name.startswith(p)), None)
        if prefix is None:
            slices[name] = Slice(name, indices.get(name, {}))
        elif prefix in renamed:
            inside = name.removeprefix(prefix)
            factor = 1.0
            if inside.startswith(f"{body.family.fused_qkv}."):
                factor = layer_scale(parent, every[prefix], after=every[renamed[prefix]])
            slices[renamed[prefix] + inside] = Slice(name, indices.get(name, {}), factor)
    return slices


def functional_forward(model: PreTrainedModel, plan: SlicePlan, **inputs: Any) -> Any:
    """Run the sliced network on slices of the parent's own parameters, so that gradients reach the
    parent.

    Args:
        model: the parent.
        plan: what stays.
        inputs: what the model's forward takes (`input_ids=...`, `labels=...`), with the sliced
            model's token ids (`plan.renumber`).

    Returns:
        The model's output object.
    """
    child = child_by(model, plan)
    return child.run(child.weights(plain(model)), **inputs)
