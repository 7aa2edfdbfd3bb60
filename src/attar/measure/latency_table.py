"""What a width costs in milliseconds on this machine: a measured table, added up over layers.

The idea is ZipLM's (Kurtic et al., 2023, arXiv 2302.04089): time the network at a grid of attention
and feed-forward widths and add the differences. Here a whole network is timed at each grid point,
with all layers at that width, so that caches and overheads are as they will be; neighbouring
timings of the parent cancel the machine's drift.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedModel

from attar.arch import Arch, LayerShape
from attar.families import Body, Unit
from attar.measure.timing import decode_call, latency_of, prefill_call, within_context
from attar.slicing import LayerKeep, SlicePlan, slice_model

Mode = Literal["prefill", "latency"]


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of a network, predicted from its widths.

    Attributes:
        mode: `prefill` (one pass over the prompt) or `latency` (one generated token).
        base: milliseconds of the parent.
        parent: the parent's widths.
        groups: widths in KV groups, ascending, and what a layer of that width takes more (less:
            below zero) than one of the parent's widest, in milliseconds.
        neurons: feed-forward widths, and what a layer of that width takes, in milliseconds.
        spread: relative interquartile range of the parent's timing: predictions cannot be better
            than this.
        error: relative error of the prediction for a network that the grid does not hold, with both
            widths at about half.
    """

    mode: Mode
    base: float
    parent: Arch
    groups: tuple[tuple[int, float], ...]
    neurons: tuple[tuple[int, float], ...]
    spread: float
    error: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "LatencyTable":
        """Read what `to_dict` gave."""
        parent = Arch.from_dict(stored["parent"])
        grids = {k: tuple((int(w), float(t)) for w, t in stored[k]) for k in ("groups", "neurons")}
        return cls(**{**stored, "parent": parent, **grids})

    def predict(self, arch: Arch) -> float:
        """Milliseconds of a network of these widths (which may have lost whole layers)."""
        gone = sum(self._layer(shape) for shape in self.parent.layers) - sum(
            self._layer(shape) for shape in arch.layers
        )
        return self.base - gone

    def _layer(self, shape: LayerShape) -> float:
        return self.at("kv_groups", shape.num_key_value_heads) + self.at(
            "neurons", shape.intermediate_size
        )

    def saving(self, unit: Unit, width: int) -> float:
        """Milliseconds that a unit of a layer of this width is worth: the mean over all units down
        to the nearest width of the table that is faster. 0 if none is.

        Where a few units less save nothing, many may: kernels work in blocks.
        """
        here = self.at(unit, width)
        grid = self.groups if unit == "kv_groups" else self.neurons
        faster = [(w, time) for w, time in grid if w < width and time < here]
        if not faster:
            return 0.0
        narrower, time = max(faster)
        return (here - time) / (width - narrower)

    def at(self, unit: Unit, width: int) -> float:
        """Milliseconds per layer of this part at this width, read off the table by linear
        interpolation.
        """
        grid = self.groups if unit == "kv_groups" else self.neurons
        widths, times = zip(*grid, strict=True)
        return float(np.interp(width, widths, times))


def measure_table(
    model: PreTrainedModel,
    mode: Mode,
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 32,
    batch_size: int = 1,
    repeats: int = 7,
    points: int = 6,
    round_to: int = 8,
) -> LatencyTable:
    """Time the model at a grid of widths on this machine.

    Args:
        model: the parent, of a supported family; it is not changed. One reduced copy of it exists
            at a time.
        mode: what to time.
        prompt_tokens: length of the prompt; cut to the model's context.
        new_tokens: tokens decoded per timing in `latency` mode.
        batch_size: sequences at once.
        repeats: timings per grid point, each next to one of the parent.
        points: grid points per kind of width.
        round_to: feed-forward widths of the grid are multiples of this.
    """
    prompt_tokens, new_tokens = within_context(model, prompt_tokens, new_tokens=new_tokens)

    def call(candidate: PreTrainedModel) -> Callable[[], float]:
        if mode == "prefill":
            return prefill_call(candidate, prompt_tokens, batch_size=batch_size)
        return decode_call(candidate, prompt_tokens, new_tokens=new_tokens, batch_size=batch_size)

    per = 1 if mode == "prefill" else new_tokens
    parent = Arch.of(model)
    parent_call = call(model)
    parent_call()
    base_times: list[float] = []

    def ratio_to_parent(narrow: PreTrainedModel) -> float:
        ours, ratios = call(narrow), []
        ours()
        for _ in range(repeats):
            before = parent_call()
            ratios.append(ours() / before)
            base_times.append(before / per)
        return float(np.median(ratios))

    measured: dict[Unit, list[tuple[int, float]]] = {"kv_groups": [], "neurons": []}
    body = Body(model)
    for unit in measured:
        widest = max(layer.count(unit) for layer in body.layers)
        if body.why_not(unit):
            measured[unit] = [(widest, 1.0)]
            continue
        step = 1 if unit == "kv_groups" else round_to
        for width in _grid(widest, points, step):
            plan = _all_layers_at(model, unit, width)
            measured[unit].append((width, ratio_to_parent(slice_model(model, plan))))
    layers = len(parent.layers)
    if layers > 1:  # what a whole layer takes: embeddings and head are no layer's
        half = SlicePlan(SlicePlan.identity(model).layers[: layers // 2])
        ratio = ratio_to_parent(slice_model(model, half))
        whole = (1 - ratio) * layers / (layers - layers // 2)
    else:
        whole = 1.0
    base = latency_of(base_times)

    def table(unit: Unit, whole: float) -> tuple[tuple[int, float], ...]:
        """Milliseconds per layer; a layer of full width takes `whole` of an equal share."""
        widths, ratios = zip(*sorted(measured[unit]), strict=True)
        steady = np.maximum.accumulate(ratios)  # a wider layer is not faster: that is noise
        times = (steady - 1 + whole) * base.median / layers
        return tuple(zip(widths, times.tolist(), strict=True))

    made = LatencyTable(
        mode,
        base.median,
        parent,
        table("kv_groups", 0.0),
        table("neurons", whole),  # what a layer takes is booked here, so that it counts once
        base.spread / base.median,
    )
    plan = _both_halved(model, round_to)
    halved = slice_model(model, plan)
    ratio = ratio_to_parent(halved)
    return replace(made, error=made.predict(Arch.of(halved)) / base.median / ratio - 1)


def _both_halved(model: PreTrainedModel, round_to: int) -> SlicePlan:
    """Half the groups and half the neurons of every layer, where the family can lose them."""
    groups_stay = Body(model).why_not("kv_groups")
    return SlicePlan(
        tuple(
            LayerKeep(
                keep.layer,
                keep.kv_groups if groups_stay else keep.kv_groups[: -(-len(keep.kv_groups) // 2)],
                keep.neurons[: max(round_to, len(keep.neurons) // 2 // round_to * round_to)],
            )
            for keep in SlicePlan.identity(model).layers
        )
    )


def _grid(widest: int, points: int, step: int) -> list[int]:
    """At most `points` widths from the smallest to the widest, multiples of `step` but for the
    widest itself.
    """
    raw = np.linspace(step, widest, points)
    return sorted({min(widest, max(step, round(float(x) / step) * step)) for x in raw} | {widest})


def _all_layers_at(model: PreTrainedModel, unit: Unit, width: int) -> SlicePlan:
    """The first `width` units of every layer: which ones does not matter to a clock."""
    layers = []
    for keep in SlicePlan.identity(model).layers:
        groups, neurons = keep.kv_groups, keep.neurons
        if unit == "kv_groups":
            groups = groups[:width]
        else:
            neurons = neurons[:width]
        layers.append(LayerKeep(keep.layer, groups, neurons))
    return SlicePlan(tuple(layers))
