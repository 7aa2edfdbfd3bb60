"""`SlicePlan`: what of a parent stays, by its original numbers."""

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.arch import Arch
from attar.errors import CompatibilityError, DataError
from attar.families import GLOBAL, UNITS, Body, Global, Unit
from attar.foreign import parse_json

PLAN_FORMAT = 2


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
    """What is kept of a parent.

    Attributes:
        layers: the layers that stay and what of them; layers that are not listed are dropped.
        hidden: channels of the residual stream that stay, strictly increasing; None: all.
        head_channels: channels of every head that stay, the same in all heads; None: all.
        vocabulary: token ids that stay, strictly increasing; the sliced model renumbers them,
            in this order (`renumber`), and needs a tokenizer that does so, too. None: all.
    """

    layers: tuple[LayerKeep, ...]
    hidden: tuple[int, ...] | None = None
    head_channels: tuple[int, ...] | None = None
    vocabulary: tuple[int, ...] | None = None

    @classmethod
    def identity(cls, model: PreTrainedModel) -> "SlicePlan":
        """The plan that keeps everything."""
        return cls(
            tuple(
                LayerKeep(i, tuple(range(layer.kv_groups)), tuple(range(layer.neurons)))
                for i, layer in enumerate(Body(model).layers)
            )
        )

    @classmethod
    def prefix(
        cls, model: PreTrainedModel, arch: Arch, *, layers: Sequence[int] | None = None
    ) -> "SlicePlan":
        """The plan that makes this architecture out of a model by keeping the first of everything:
        what the networks of a weight-sharing supernet have in common.

        Args:
            model: the parent.
            arch: of the sliced model; widths that are None stay as they are.
            layers: the parent's layers that stay; None spreads them evenly (`spread_layers`).

        Raises:
            CompatibilityError: the model is smaller than `arch` somewhere, or its KV groups have
                another number of query heads.
        """
        body, count = Body(model), arch.num_hidden_layers
        ours, total = body.layers, len(body.layer_list)
        sizes = {
            "layers": (count, total),
            "hidden channels": (arch.hidden_size, body.hidden),
            "channels per head": (arch.head_dim, body.head_dim),
            "token ids": (arch.vocab_size, body.vocabulary),
        }
        for what, (size, whole) in sizes.items():
            if size is not None and not 0 < size <= whole:
                raise CompatibilityError(
                    f"expected an architecture with 1 to {whole} {what}, as many as the model has "
                    f"at most; found {size}"
                )
        chosen = spread_layers(count, total) if layers is None else list(layers)
        if len(chosen) != count:
            raise CompatibilityError(
                f"expected {count} layers to keep, as many as the architecture has; found "
                f"{len(chosen)}"
            )
        _check_numbers("layers", chosen, total)
        keeps = []
        for index, shape in zip(chosen, arch.layers, strict=True):
            layer, groups = ours[index], shape.num_key_value_heads
            per_group = layer.heads // layer.kv_groups
            if shape.num_attention_heads != groups * per_group:
                raise CompatibilityError(
                    f"expected {per_group} query heads for each key/value head, as in the model; "
                    f"the architecture has {shape.num_attention_heads} and {groups}"
                )
            neurons = shape.intermediate_size
            if groups > layer.kv_groups or neurons > layer.neurons:
                raise CompatibilityError(
                    f"expected at most {layer.kv_groups} key/value heads and {layer.neurons} "
                    f"neurons, as in layer {index} of the model; the architecture has {groups} and "
                    f"{neurons}"
                )
            keeps.append(LayerKeep(index, tuple(range(groups)), tuple(range(neurons))))

        def first(size: int | None, whole: int) -> tuple[int, ...] | None:
            return None if size in (None, whole) else tuple(range(size))

        return cls(
            tuple(keeps),
            hidden=first(arch.hidden_size, body.hidden),
            head_channels=first(arch.head_dim, body.head_dim),
            vocabulary=first(arch.vocab_size, body.vocabulary),
        )

    def kept(self, part: Global) -> tuple[int, ...] | None:
        """The numbers that stay, of a part that runs through the whole network; None: all."""
        return getattr(self, part)

    def then(self, later: "SlicePlan") -> "SlicePlan":
        """This plan followed by one made for its result, as one plan for the original parent."""
        layers = (
            LayerKeep(
                (mine := self.layers[keep.layer]).layer,
                tuple(mine.kv_groups[i] for i in keep.kv_groups),
                tuple(mine.neurons[i] for i in keep.neurons),
            )
            for keep in later.layers
        )
        parts: dict[str, tuple[int, ...] | None] = {}
        for part in GLOBAL:
            ours, theirs = self.kept(part), later.kept(part)
            if ours is not None and theirs is not None:
                parts[part] = tuple(ours[i] for i in theirs)
            else:
                parts[part] = ours if theirs is None else theirs
        return SlicePlan(tuple(layers), **parts)

    def renumber(self, ids: Tensor) -> Tensor:
        """The sliced model's ids of these tokens, in the same shape; negative ids (labels to
        ignore) stay.

        Raises:
            DataError: a token is not in the vocabulary that stays.
        """
        if self.vocabulary is None:
            return ids
        kept = torch.tensor(self.vocabulary, device=ids.device)
        rows = torch.searchsorted(kept, ids.contiguous()).clamp(max=len(kept) - 1)
        gone = (kept[rows] != ids) & (ids >= 0)
        if bool(gone.any()):
            raise DataError(
                f"expected ids of the {len(kept)} tokens that this plan keeps; found "
                f"{int(ids[gone][0])}, whose row is cut: leave such tokens out of the text"
            )
        return torch.where(ids < 0, ids, rows)

    def check(self, model: PreTrainedModel) -> None:
        """Refuse a plan that does not fit the model.

        Raises:
            CompatibilityError: a number is out of range or out of order, nothing would be left of
                a part, or the model's family cannot lose it.
        """
        body = Body(model)
        layers = body.layers
        _check_numbers("layers", [k.layer for k in self.layers], len(layers))
        if body.connected and len(self.layers) < len(layers):
            raise CompatibilityError(
                "cannot leave out layers of this model, as linear maps connect each of them to "
                "the next: keep all, or take fewer from the supernet that it comes from"
            )
        for keep in self.layers:
            for unit in UNITS:
                here = f"{unit} of layer {keep.layer}"
                _check_numbers(here, keep.kept(unit), layers[keep.layer].count(unit))
            if body.family.wide_norm and len(keep.kv_groups) < layers[keep.layer].kv_groups:
                _refuse(model, "kv_groups", body.why_not("kv_groups"))
        sizes = {
            "hidden": body.hidden,
            "head_channels": body.head_dim,
            "vocabulary": body.vocabulary,
        }
        for part in GLOBAL:
            kept = self.kept(part)
            if kept is None:
                continue
            _check_numbers(part, kept, sizes[part])
            if len(kept) < sizes[part] and (reason := body.why_not(part)):
                _refuse(model, part, reason)
            if part == "hidden":
                list(body.stream())  # which knows every module, or says which one it does not
        tokens, pad = self.vocabulary, getattr(model.config, "pad_token_id", None)
        if not body.family.positions_from_pad or tokens is None or pad is None:
            return
        if tokens[: pad + 1] != tuple(range(pad + 1)):
            _refuse(
                model,
                "vocabulary",
                f"its position numbers start after the id of the padding token, {pad}, which must "
                f"keep its number: keep the ids 0 to {pad}",
            )

    def indices(self, model: PreTrainedModel) -> dict[str, dict[int, Tensor]]:
        """For every parameter that shrinks, by its name in `model.named_parameters()`: the axes,
        and the indices that stay along each.
        """
        body, indices = Body(model), {}
        layers = body.layers
        channels = None
        if self.head_channels is not None and len(self.head_channels) < body.head_dim:
            channels = torch.tensor(self.head_channels)
        for keep in self.layers:
            layer, prefix = layers[keep.layer], body.layer_prefix(keep.layer)
            for unit in UNITS:
                kept = torch.tensor(keep.kept(unit), dtype=torch.long)
                heads = channels if unit == "kv_groups" else None
                if len(kept) == layer.count(unit) and heads is None:
                    continue
                for cut in layer.cuts(unit):
                    rows = cut.kept(kept, channels=heads, head_dim=body.head_dim)
                    indices.setdefault(prefix + cut.name, {})[cut.axis] = rows
        # a tied parameter has several names, and `named_parameters` gives the first
        first = {id(p): name for name, p in model.named_parameters()}
        dropped = tuple(
            body.layer_prefix(i)
            for i in set(range(len(layers))) - {keep.layer for keep in self.layers}
        )
        if self.hidden is not None and len(self.hidden) < body.hidden:
            kept = torch.tensor(self.hidden)
            for module in body.stream():
                for name, axis in module.axes():
                    if not name.startswith(dropped):
                        indices.setdefault(first[id(model.get_parameter(name))], {})[axis] = kept
        if self.vocabulary is not None and len(self.vocabulary) < body.vocabulary:
            kept = torch.tensor(self.vocabulary)
            for name, axis in body.vocabulary_axes():
                indices.setdefault(first[id(model.get_parameter(name))], {})[axis] = kept
        return indices

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        rows = [
            {"layer": k.layer, "kv_groups": list(k.kv_groups), "neurons": list(k.neurons)}
            for k in self.layers
        ]
        parts = {p: None if (kept := self.kept(p)) is None else list(kept) for p in GLOBAL}
        return {"format": PLAN_FORMAT, "layers": rows, **parts}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "SlicePlan":
        """Read what `to_dict` wrote, also in format 1, which knew layers alone.

        Raises:
            DataError: it is not a plan.
        """
        try:
            if stored["format"] not in (1, PLAN_FORMAT):
                raise DataError(
                    f"expected a plan of format 1 or {PLAN_FORMAT}, found {stored['format']!r}"
                )
            rows = [
                LayerKeep(operator.index(r["layer"]), _whole(r["kv_groups"]), _whole(r["neurons"]))
                for r in stored["layers"]
            ]
            parts: dict[str, Any] = {
                p: _whole(stored[p]) for p in GLOBAL if stored.get(p) is not None
            }
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"expected a plan with 'format' and 'layers', found another JSON ({error!r})"
            ) from None
        return cls(tuple(rows), **parts)

    def to_json(self) -> str:
        """The plan as one JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "SlicePlan":
        """Read what `to_json` wrote; DataError if it is damaged or no plan."""
        return cls.from_dict(parse_json(text, "the plan"))


def _whole(numbers: Any) -> tuple[int, ...]:
    return tuple(operator.index(number) for number in numbers)  # refuses 1.5, infinity and "3"


def _refuse(model: PreTrainedModel, part: Unit | Global, reason: str | None) -> None:
    raise CompatibilityError(
        f"cannot cut the {part} of a model of type {model.config.model_type!r}: {reason}"
    )


def spread_layers(count: int, whole: int) -> list[int]:
    """The layers that stay where `count` of `whole` are spread evenly, the first one always, as
    AutoDistil does: layer `i` is the old layer `floor(i * whole / count)`."""
    return [i * whole // count for i in range(count)]


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
