"""Cutting a model down to a plan: as a smaller model, or in place."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.arch import Arch, LayerShape, layer_keys
from attar.checkpoint import accept_widths, follow_config, has_stock_form
from attar.errors import CompatibilityError
from attar.families import FAMILIES, GLOBAL, Body, Family
from attar.models import keep_layers
from attar.slicing.mask import head_scale, layer_scale
from attar.slicing.plan import SlicePlan


def slice_model(
    model: PreTrainedModel, plan: SlicePlan, *, in_place: bool = False
) -> PreTrainedModel:
    """Delete what the plan does not keep.

    Args:
        model: a model of a supported family.
        plan: what stays.
        in_place: shrink `model` itself, tensor by tensor, so that no second copy of the weights
            ever exists.

    Returns:
        The smaller model, whose config says so: stock keys where all layers are alike,
        `per_layer_config` where they differ.

    Raises:
        CompatibilityError: the plan does not fit the model.
    """
    plan.check(model)
    indices = plan.indices(model)
    if in_place:
        for name, axes in indices.items():
            parameter = model.get_parameter(name)
            parameter.data = _select(parameter.data, axes)
            parameter.grad = None
    else:
        model = _copy(model, indices, _dropped_parameters(model, plan))
    _settle(model, plan)
    return model


def _select(tensor: Tensor, axes: Mapping[int, Tensor]) -> Tensor:
    """The kept indices along each axis, copied."""
    for axis, kept in axes.items():
        tensor = tensor.index_select(axis, kept.to(tensor.device))
    return tensor


def _dropped_parameters(model: PreTrainedModel, plan: SlicePlan) -> set[int]:
    """Identities of parameters in layers that go as a whole."""
    keep = {k.layer for k in plan.layers}
    layers = Body(model).layer_list
    return {id(p) for i, layer in enumerate(layers) if i not in keep for p in layer.parameters()}


def _copy(
    model: PreTrainedModel, indices: Mapping[str, Mapping[int, Tensor]], dropped: set[int]
) -> PreTrainedModel:
    """Copy a model's structure around new, already sliced parameters; shared (tied) parameters stay
    shared.
    """
    memo: dict[int, Any] = {}
    for name, parameter in model.named_parameters():
        data = parameter.detach()
        if id(parameter) in dropped:
            data = data.new_empty(0)
        elif name in indices:
            data = _select(data, indices[name])
        else:
            data = data.clone()
        memo[id(parameter)] = nn.Parameter(data, requires_grad=parameter.requires_grad)
    return copy.deepcopy(model, memo)


def _settle(model: PreTrainedModel, plan: SlicePlan) -> None:
    """Bring everything that is not a parameter in line: the layer list, module attributes, token
    ids and the config.
    """
    body = Body(model)
    if len(plan.layers) < len(body.layer_list):
        cut_layers(model, [k.layer for k in plan.layers])
    if plan.head_channels is not None:
        before, after = body.head_dim, len(plan.head_channels)
        for layer in body.layers:
            attention: Any = layer.attention
            setattr(attention, body.family.head_size, after)
            attention.scaling = attention.scaling * head_scale(model, before, after=after)
        body = Body(model)  # which reads the head size again
    if plan.vocabulary is not None:
        _renumber_tokens(model, plan)
    arch = Arch.of(model)
    describe(model.config, arch)
    follow_config(model)
    for module in model.modules():
        _restate(module, arch)
    if plan.hidden is not None:
        for part in body.stream():
            _restate_width(part.module, len(plan.hidden))
    for index, (layer, shape) in enumerate(zip(body.layers, arch.layers, strict=True)):
        _restate_layer(layer.module, shape)
        _restate_heads(layer.attention, shape, layer.head_dim)
        if layer.family.sizes_from_config:
            attention = layer.attention
            setattr(attention, "config", model.config.per_layer_config[index])  # noqa: B010 - a plain assignment would be typed as a submodule


def _restate(module: Any, arch: Arch) -> None:
    """Restate `in_features`, `num_embeddings` and the like from the weight, and the model-wide
    widths.
    """
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, Conv1D):
        module.nx, module.nf = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif isinstance(module, PreTrainedModel) and hasattr(module, "vocab_size"):
        setattr(module, "vocab_size", arch.vocab_size)  # noqa: B010 - a plain assignment would be typed as a submodule
    for name in ("hidden_size", "embed_dim"):
        if isinstance(getattr(module, name, None), int):
            setattr(module, name, arch.hidden_size)


def _restate_layer(layer: nn.Module, shape: LayerShape) -> None:
    module: Any
    for module in layer.modules():
        if hasattr(module, "intermediate_size"):
            module.intermediate_size = shape.intermediate_size
        if hasattr(module, "num_key_value_heads"):
            module.num_key_value_heads = shape.num_key_value_heads


def _restate_heads(attention: Any, shape: LayerShape, head_dim: int) -> None:
    """The attributes that attention modules reshape by."""
    heads = shape.num_attention_heads
    for name in ("num_heads", "num_attention_heads"):
        if hasattr(attention, name):
            setattr(attention, name, heads)
    for name in ("all_head_size", "split_size"):
        if hasattr(attention, name):
            setattr(attention, name, heads * head_dim)


def _restate_width(module: Any, hidden: int) -> None:
    """The hidden width that norms and scaled embeddings keep besides their weights."""
    if hasattr(module, "normalized_shape"):
        module.normalized_shape = (hidden,)
    if hasattr(module, "scalar_embed_scale"):  # Gemma: the root of the width, as from its config
        module.scalar_embed_scale = hidden**0.5
        module.embed_scale = torch.full_like(module.embed_scale, hidden**0.5)


def _renumber_tokens(model: PreTrainedModel, plan: SlicePlan) -> None:
    """Give the special tokens of the configs their new ids; None where their row is cut."""
    new = {old: index for index, old in enumerate(plan.vocabulary or ())}

    def renumbered(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [new[token] for token in value if token in new] or None
        return new.get(value)

    config: Any
    for config in (model.config, getattr(model, "generation_config", None)):
        for key, value in list(vars(config).items()) if config is not None else ():
            if key.endswith("_token_id") and value is not None:
                setattr(config, key, renumbered(value))
    embeddings: Any = Body(model).embeddings
    embeddings.padding_idx = new.get(embeddings.padding_idx)
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and hasattr(module, "padding_idx"):
            setattr(module, "padding_idx", embeddings.padding_idx)  # noqa: B010 - as above


def cut_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Keep only these layers, in place: the list, the layer numbers that caches use and some
    scales depend on, and the config's per-layer lists.
    """
    body = Body(model)
    layers = body.layer_list
    stay = [layers[i] for i in kept]
    del layers[:]
    layers.extend(stay)
    for index, layer in enumerate(layers):
        module: Any
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
        factor = layer_scale(model, kept[index], after=index)
        if factor != 1:
            attention: Any = layer.get_submodule(body.family.attention)
            attention.scaling = attention.scaling / factor
            for parameter in layer.get_submodule(str(body.family.fused_qkv)).parameters():
                parameter.data = scale_queries(parameter.data, factor)
    model.config.per_layer_config = None
    keep_layers(model.config, kept)


def scale_queries(tensor: Tensor, factor: float) -> Tensor:
    """Multiply the queries in a fused projection, which end its tensors: `(..., 3 width)`."""
    queries, others = tensor.tensor_split([tensor.shape[-1] // 3], -1)
    return torch.cat([queries * factor, others], -1)


def describe(config: Any, arch: Arch) -> None:
    """Write an architecture into a transformers config: stock keys if all layers are alike and a
    stock class takes them, else `per_layer_config`; `head_dim` where heads are not as wide as
    the stock class computes them; `layer_connectors` where layers have hidden widths of their own.
    Widths that are None stay as they are.
    """
    family = FAMILIES[config.model_type]
    config.per_layer_config = None
    if arch.hidden_size is not None:
        if getattr(config, "word_embed_proj_dim", None) == config.hidden_size:
            config.word_embed_proj_dim = arch.hidden_size
        config.hidden_size = arch.hidden_size
    if arch.vocab_size is not None:
        config.vocab_size = arch.vocab_size
    if family.tied_head_size:
        config.num_attention_heads = max(layer.num_attention_heads for layer in arch.layers)
        if family.own_head_size:
            _describe_heads(config, arch)
    elif arch.head_dim is not None:
        config.head_dim = arch.head_dim
    connected = any(layer.hidden_size is not None for layer in arch.layers)
    vars(config).pop("layer_connectors", None)
    if connected:
        config.layer_connectors = True
    stock = (
        not connected
        and arch.uniform
        and (has_stock_form(config) or _writable(arch.layers[0], config, family) == arch.layers[0])
    )
    if stock:
        for key, value in layer_keys(arch.layers[0], family).items():
            setattr(config, key, value)
    else:
        widest = max(arch.layers, key=lambda layer: layer.num_attention_heads)
        widest = replace(widest, hidden_size=None)  # the global one is that of the stream
        for key, value in layer_keys(_writable(widest, config, family), family).items():
            setattr(config, key, value)
        config.per_layer_config = arch.overrides(family)
        # transformers validates, and some caches are sized, by the global widths
        config.allow_global_per_layer_attribute_access = True
        accept_widths(config)


def _describe_heads(config: Any, arch: Arch) -> None:
    """Write the head size where it is not the one that the stock class computes."""
    size = arch.head_dim
    if size is None and arch.layers[0].hidden_size is None:
        size = getattr(config, "head_dim", None)
    vars(config).pop("head_dim", None)
    filled = (
        layer.num_attention_heads * (size or 0) == (layer.hidden_size or config.hidden_size)
        for layer in arch.layers
    )
    if size is not None and not all(filled):
        config.head_dim = size


def _writable(shape: LayerShape, config: Any, family: Family) -> LayerShape:
    """Global widths that the config class takes besides per-layer ones: the shape itself, or one
    head where its head count does not divide the width and would be refused.
    """
    if not family.heads_divide_width or config.hidden_size % shape.num_attention_heads == 0:
        return shape
    return replace(shape, num_attention_heads=1, num_key_value_heads=1)


def zero_out(model: PreTrainedModel, plan: SlicePlan) -> None:
    """Zero what the plan does not keep, in place: the original shapes, the pruned function (the
    `padded` layout).
    """
    plan.check(model)
    body = Body(model)
    if len(plan.layers) < len(body.layer_list):
        raise CompatibilityError(
            "a padded checkpoint cannot leave layers out; use the depth layout"
        )
    if any(plan.kept(part) is not None for part in GLOBAL):
        raise CompatibilityError(
            "a padded checkpoint cannot lose hidden channels, head channels or tokens: zeros would "
            "still count in norms, scales and probabilities; slice the model instead"
        )
    with torch.no_grad():
        for name, axes in plan.indices(model).items():
            parameter = model.get_parameter(name)
            for axis, kept in axes.items():
                gone = torch.ones(parameter.shape[axis], dtype=torch.bool)
                gone[kept] = False
                parameter.index_fill_(axis, gone.nonzero()[:, 0].to(parameter.device), 0)
