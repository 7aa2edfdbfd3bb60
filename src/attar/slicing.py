"""Taking parts of a model away: one plan, three equal ways to carry it out.

A :class:`SlicePlan` names, by their original numbers, the layers, KV groups and neurons that stay.
The law that tests hold it to::

    slice_model(m, plan)(x) == m(x) under masked(m, plan) == functional_forward(m, plan, x)

Removing a unit equals zeroing its channels on the *input* of the output projection, which is where
masks sit.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from attar.arch import Arch, LayerShape, layer_keys
from attar.checkpoint import has_stock_form
from attar.errors import CompatibilityError, DataError
from attar.families import FAMILIES, UNITS, Body, Family, Layer, Unit

PLAN_FORMAT = 1


@dataclass(frozen=True)
class LayerKeep:
    """What stays of one layer: original numbers, strictly increasing."""

    layer: int
    kv_groups: tuple[int, ...]
    neurons: tuple[int, ...]

    def kept(self, unit: Unit) -> tuple[int, ...]:
        """The numbers that stay, of one kind of unit."""
        return self.kv_groups if unit == "kv_groups" else self.neurons


@dataclass(frozen=True)
class SlicePlan:
    """Which layers, KV groups and neurons of a parent stay; layers that are not listed are
    dropped.
    """

    layers: tuple[LayerKeep, ...]

    @classmethod
    def identity(cls, model: PreTrainedModel) -> "SlicePlan":
        """The plan that keeps everything."""
        return cls(
            tuple(
                LayerKeep(i, tuple(range(layer.kv_groups)), tuple(range(layer.neurons)))
                for i, layer in enumerate(Body(model).layers)
            )
        )

    def then(self, later: "SlicePlan") -> "SlicePlan":
        """This plan followed by one made for its result, as one plan for the original parent."""
        return SlicePlan(
            tuple(
                LayerKeep(
                    (mine := self.layers[keep.layer]).layer,
                    tuple(mine.kv_groups[i] for i in keep.kv_groups),
                    tuple(mine.neurons[i] for i in keep.neurons),
                )
                for keep in later.layers
            )
        )

    def check(self, model: PreTrainedModel) -> None:
        """Refuse a plan that does not fit the model.

        Raises:
            CompatibilityError: a number is out of range or out of order, or a layer would be left
                empty.
        """
        layers = Body(model).layers
        _check_numbers("layers", [k.layer for k in self.layers], len(layers))
        for keep in self.layers:
            for unit in UNITS:
                here = f"{unit} of layer {keep.layer}"
                _check_numbers(here, keep.kept(unit), layers[keep.layer].count(unit))

    def indices(self, model: PreTrainedModel) -> dict[str, tuple[int, Tensor]]:
        """For every parameter that shrinks: its name, the axis, and the indices that stay along
        it.
        """
        body, found = Body(model), {}
        layers = body.layers
        for keep in self.layers:
            layer = layers[keep.layer]
            for unit in UNITS:
                kept = torch.tensor(keep.kept(unit), dtype=torch.long)
                if len(kept) == layer.count(unit):
                    continue
                for cut in layer.cuts(unit):
                    found[body.layer_prefix(keep.layer) + cut.name] = (cut.axis, cut.kept(kept))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        rows = [
            {"layer": k.layer, "kv_groups": list(k.kv_groups), "neurons": list(k.neurons)}
            for k in self.layers
        ]
        return {"format": PLAN_FORMAT, "layers": rows}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "SlicePlan":
        """Read what `to_dict` wrote.

        Raises:
            DataError: it is not a plan.
        """
        try:
            if stored["format"] != PLAN_FORMAT:
                raise DataError(
                    f"expected a plan of format {PLAN_FORMAT}, found {stored['format']!r}"
                )
            rows = [
                LayerKeep(
                    int(r["layer"]), tuple(map(int, r["kv_groups"])), tuple(map(int, r["neurons"]))
                )
                for r in stored["layers"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"expected a plan with 'format' and 'layers', found another JSON ({error!r})"
            ) from None
        return cls(tuple(rows))

    def to_json(self) -> str:
        """The plan as one JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "SlicePlan":
        """Read what `to_json` wrote; DataError if it is damaged or no plan."""
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise DataError(
                f"expected a plan in JSON; it breaks off or is damaged ({error})"
            ) from None


def _check_numbers(what: str, numbers: Sequence[int], count: int) -> None:
    if not numbers:
        raise CompatibilityError(
            f"a plan must keep at least one of the {what}; this one keeps none"
        )
    if list(numbers) != sorted(set(numbers)) or numbers[0] < 0 or numbers[-1] >= count:
        raise CompatibilityError(
            f"expected strictly increasing numbers below {count} for the {what}; found "
            f"{list(numbers)[:6]}{'...' if len(numbers) > 6 else ''}: was this plan made for "
            f"another model?"
        )


# ---------------------------------------------------------------------------------------- slicing


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
        for name, (axis, kept) in indices.items():
            parameter = model.get_parameter(name)
            parameter.data = _select(parameter.data, axis, kept)
            parameter.grad = None
    else:
        model = _copy(model, indices, _dropped_parameters(model, plan))
    _settle(model, plan)
    return model


def _select(tensor: Tensor, axis: int, kept: Tensor) -> Tensor:
    return tensor.index_select(axis, kept.to(tensor.device))


def _dropped_parameters(model: PreTrainedModel, plan: SlicePlan) -> set[int]:
    """Identities of parameters in layers that go as a whole."""
    keep = {k.layer for k in plan.layers}
    layers = Body(model).layer_list
    return {id(p) for i, layer in enumerate(layers) if i not in keep for p in layer.parameters()}


def _copy(
    model: PreTrainedModel, indices: Mapping[str, tuple[int, Tensor]], dropped: set[int]
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
            data = _select(data, *indices[name])
        else:
            data = data.clone()
        memo[id(parameter)] = nn.Parameter(data, requires_grad=parameter.requires_grad)
    return copy.deepcopy(model, memo)


def _settle(model: PreTrainedModel, plan: SlicePlan) -> None:
    """Bring everything that is not a parameter in line: the layer list, module attributes and the
    config.
    """
    body = Body(model)
    layers = body.layer_list
    kept = [layers[k.layer] for k in plan.layers]
    if len(kept) < len(layers):
        cut_layers(model, [k.layer for k in plan.layers])
    arch = Arch.of(model)
    config = model.config
    if not body.family.no_heads:
        config.head_dim = body.head_dim
    describe(config, arch)
    for index, (layer, shape) in enumerate(zip(body.layers, arch.layers, strict=True)):
        _settle_layer(layer, config.per_layer_config[index])
        module: Any
        for module in layer.module.modules():
            if hasattr(module, "intermediate_size"):
                module.intermediate_size = shape.intermediate_size
            if hasattr(module, "num_key_value_heads"):
                module.num_key_value_heads = shape.num_key_value_heads


def _settle_layer(layer: Layer, config: Any) -> None:
    """Restate `in_features` and the like, and give fused attention the config that its forward
    reads sizes from.
    """
    module: Any
    for module in layer.module.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() != 2:
            continue
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        elif hasattr(module, "nf"):
            module.nx, module.nf = weight.shape
    if layer.family.fused_qkv:
        attention = layer.module.get_submodule(layer.family.fused_qkv.rpartition(".")[0])
        setattr(attention, "config", config)  # noqa: B010 - a plain assignment would be typed as a submodule


def cut_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Keep only these layers, in place: the list, the layer numbers that caches use, and the
    config's per-layer lists.
    """
    layers = Body(model).layer_list
    before = len(layers)
    stay = [layers[i] for i in kept]
    del layers[:]
    layers.extend(stay)
    for index, layer in enumerate(layers):
        module: Any
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
    config = model.config
    for key in ("layer_types", "no_rope_layers", "mlp_layer_types"):
        listed = getattr(config, key, None)
        if isinstance(listed, list) and len(listed) == before:
            setattr(config, key, [listed[i] for i in kept])
    config.per_layer_config = None
    config.num_hidden_layers = len(stay)


def describe(config: Any, arch: Arch) -> None:
    """Write an architecture into a transformers config: stock keys if all layers are alike and a
    stock class takes them, else `per_layer_config`.
    """
    family = FAMILIES[config.model_type]
    config.per_layer_config = None
    stock = arch.uniform and (
        has_stock_form(config) or _writable(arch.layers[0], config, family) == arch.layers[0]
    )
    if stock:
        for key, value in layer_keys(arch.layers[0], family).items():
            setattr(config, key, value)
    else:
        widest = max(arch.layers, key=lambda layer: layer.num_attention_heads)
        for key, value in layer_keys(_writable(widest, config, family), family).items():
            setattr(config, key, value)
        config.per_layer_config = arch.overrides(family)
        # transformers validates, and some caches are sized, by the global widths
        config.allow_global_per_layer_attribute_access = True


def _writable(shape: LayerShape, config: Any, family: Family) -> LayerShape:
    """Global widths that the config class takes beside per-layer ones: the shape itself, or one
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
    with torch.no_grad():
        for name, (axis, kept) in plan.indices(model).items():
            parameter = model.get_parameter(name)
            gone = torch.ones(parameter.shape[axis], dtype=torch.bool)
            gone[kept] = False
            parameter.index_fill_(axis, gone.nonzero()[:, 0].to(parameter.device), 0)


# ---------------------------------------------------------------------------------------- masking


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
    """Make `model` compute what `slice_model(model, plan)` would, for the length of the block."""
    plan.check(model)
    layers = Body(model).layers
    with UnitMasks(model) as masks:
        masks.set_layers([k.layer for k in plan.layers])
        for keep in plan.layers:
            for unit in UNITS:
                vector = torch.zeros(layers[keep.layer].count(unit))
                vector[list(keep.kept(unit))] = 1
                if not bool(vector.all()):
                    masks.set(keep.layer, unit, vector)
        yield model


def functional_forward(model: PreTrainedModel, plan: SlicePlan, **inputs: Any) -> Any:
    """Run the sliced network on slices of the parent's own parameters, so that gradients reach the
    parent.

    Args:
        model: the parent.
        plan: what stays.
        inputs: what the model's forward takes (`input_ids=...`, `labels=...`).

    Returns:
        The model's output object.
    """
    plan.check(model)
    body, indices = Body(model), plan.indices(model)
    # a skeleton without weights: parameters on the meta device, buffers shared with the parent
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
        for p in model.parameters()
    }
    memo |= {id(b): b for b in model.buffers()}
    skeleton = slice_model(copy.deepcopy(model, memo), plan, in_place=True)
    renamed = {body.layer_prefix(k.layer): body.layer_prefix(i) for i, k in enumerate(plan.layers)}
    every = {body.layer_prefix(i) for i in range(len(body.layer_list))}
    weights = {}
    for name, parameter in model.named_parameters():
        view = _select(parameter, *indices[name]) if name in indices else parameter
        prefix = next((p for p in every if name.startswith(p)), None)
        if prefix is None:
            weights[name] = view
        elif prefix in renamed:
            weights[renamed[prefix] + name.removeprefix(prefix)] = view
    return functional_call(skeleton, weights, kwargs=inputs)
