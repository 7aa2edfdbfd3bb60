"""Networks whose layers have hidden widths of their own, as slices of a stock BERT or RoBERTa.

Each layer is cut to its width, and linear maps, the *connectors*, lead from one layer to the next.
The parent has none: their weights go by names that no parameter has, and something else gives them
(:class:`attar.search.bottlenecks.Bottlenecks`).
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from attar.arch import Arch, LayerShape
from attar.checkpoint import per_layer_class
from attar.checkpoint.forms import stock_class
from attar.errors import CompatibilityError
from attar.families import UNITS, Body, is_norm
from attar.models import keep_layers
from attar.slicing.cut import describe
from attar.slicing.plan import SlicePlan

HeadSlicing = Literal["head", "flat"]
"""Which rows of the queries, keys and values narrower heads keep: the first of every head, or, as
SuperShaper's code does, the first of all, which then belong to other heads than before."""


@dataclass(frozen=True)
class Connector:
    """The linear map between two of a parent's layers, by their numbers; None is the residual
    stream before the first or after the last layer of a network.
    """

    before: int | None
    after: int | None

    @property
    def name(self) -> str:
        """What slices call it: `connectors.0.1`."""
        ends = ("stream" if end is None else str(end) for end in (self.before, self.after))
        return f"connectors.{'.'.join(ends)}"

    @classmethod
    def of(cls, parameter: str) -> "Connector | None":
        """The connector whose weight or bias a slice names; None: it names something else."""
        head, *ends = parameter.split(".")
        if head != "connectors":
            return None
        return cls(*(None if end == "stream" else int(end) for end in ends[:2]))


def connected_arch(parent: PreTrainedModel, arch: Arch) -> Arch:
    """The architecture with every width that it leaves open.

    Raises:
        CompatibilityError: the parent cannot have such a network.
    """
    body = Body(parent)
    if body.connected or not body.connectable:
        raise CompatibilityError(
            "expected a stock BERT or RoBERTa without cross-attention for layers that have hidden "
            f"widths of their own; found {type(parent).__name__}"
        )
    stream = body.hidden if arch.hidden_size is None else arch.hidden_size
    shapes = []
    for index, shape in enumerate(arch.layers):
        width, heads = shape.hidden_size or stream, shape.num_attention_heads
        if width > body.hidden:
            raise CompatibilityError(
                f"expected layers of at most {body.hidden} channels, as the model has; layer "
                f"{index} of the architecture has {width}"
            )
        if arch.head_dim is None and (width % heads or width // heads > body.head_dim):
            raise CompatibilityError(
                f"expected a number of heads that divides the {width} channels of layer {index} "
                f"into heads of at most {body.head_dim}, as the model has; found {heads}"
            )
        shapes.append(replace(shape, hidden_size=width))
    vocabulary = body.vocabulary if arch.vocab_size is None else arch.vocab_size
    return replace(arch, layers=tuple(shapes), hidden_size=stream, vocab_size=vocabulary)


def plain_plan(parent: PreTrainedModel, arch: Arch, **options: Any) -> SlicePlan:
    """What of the parent stays, but for the hidden widths of the layers and of their heads."""
    shapes = tuple(replace(shape, hidden_size=None) for shape in arch.layers)
    return SlicePlan.prefix(parent, replace(arch, layers=shapes), **options)


def connected_skeleton(parent: PreTrainedModel, arch: Arch, *, plan: SlicePlan) -> PreTrainedModel:
    """The network without weights: its parameters are on the meta device, its buffers the
    parent's.
    """
    config = copy.deepcopy(parent.config)
    config.per_layer_config = None
    keep_layers(config, [keep.layer for keep in plan.layers])
    describe(config, arch)
    with torch.device("meta"), no_init_weights():
        made = per_layer_class(stock_class(parent))._from_config(config, dtype=parent.dtype)
    if getattr(parent, "pooler", True) is None:
        made.pooler = None
    for name, buffer in parent.named_buffers():
        module, _, leaf = name.rpartition(".")
        made.get_submodule(module)._buffers[leaf] = buffer
    if made.can_generate():
        made.generation_config = copy.deepcopy(parent.generation_config)
    made.tie_weights()
    return made.requires_grad_(False).train(parent.training)


def connected_slices(
    parent: PreTrainedModel, arch: Arch, *, plan: SlicePlan, head_slicing: HeadSlicing
) -> Iterator[tuple[str, str, Mapping[int, Tensor]]]:
    """For every parameter of the network: its name there, its name in the parent or that of a
    connector, and the indices that stay along each axis.
    """
    body, indices = Body(parent), plan.indices(parent)
    inside = tuple(body.layer_prefix(index) for index in range(len(body.layer_list)))
    for name, _ in parent.named_parameters():
        if not name.startswith(inside):
            yield name, name, indices.get(name, {})
    numbers = [keep.layer for keep in plan.layers]
    before, inputs = None, _known(arch.hidden_size)
    for new, (shape, number) in enumerate(zip(arch.layers, numbers, strict=True)):
        prefix, old, width = body.layer_prefix(new), body.layer_prefix(number), _width(shape)
        size = arch.head_dim or width // shape.num_attention_heads
        kept = _layer_indices(body, number, shape, size=size, flat=head_slicing == "flat")
        for name, axes in kept.items():
            yield prefix + name, old + name, axes
        yield from _map(f"{prefix}connector", Connector(before, number), (width, inputs))
        before, inputs = number, width
    last = f"{body.layer_prefix(len(numbers) - 1)}connector_out"
    yield from _map(last, Connector(before, None), (_known(arch.hidden_size), inputs))


def _known(width: int | None) -> int:
    assert width is not None  # which `connected_arch` fills in
    return width


def _width(shape: LayerShape) -> int:
    return _known(shape.hidden_size)


def _map(
    name: str, connector: Connector, shape: tuple[int, int]
) -> Iterator[tuple[str, str, Mapping[int, Tensor]]]:
    rows, columns = (torch.arange(size) for size in shape)
    yield f"{name}.weight", f"{connector.name}.weight", {0: rows, 1: columns}
    yield f"{name}.bias", f"{connector.name}.bias", {0: rows}


def _layer_indices(
    body: Body, number: int, shape: LayerShape, *, size: int, flat: bool
) -> dict[str, dict[int, Tensor]]:
    """What of each parameter inside a layer stays, by axis, where heads keep `size` channels."""
    layer, hidden = body.layer(number), torch.arange(_width(shape))
    indices: dict[str, dict[int, Tensor]] = {}
    for unit, count in zip(
        UNITS, (shape.num_key_value_heads, shape.intermediate_size), strict=True
    ):
        for cut in layer.cuts(unit):
            if unit == "neurons":
                rows = torch.arange(count)
            elif flat:
                rows = torch.arange(count * size)
            else:
                channels = torch.arange(size)
                rows = cut.kept(torch.arange(count), channels=channels, head_dim=layer.head_dim)
            indices.setdefault(cut.name, {})[cut.axis] = rows
    for name in layer.family.reads:
        indices[f"{name}.weight"][1] = hidden
    for name in layer.family.writes:
        indices[f"{name}.weight"][0] = hidden
        indices[f"{name}.bias"] = {0: hidden}
    for name, module in layer.module.named_modules():
        if is_norm(module):
            indices |= {f"{name}.{leaf}": {0: hidden} for leaf, _ in module.named_parameters()}
    return indices
