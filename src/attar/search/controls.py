"""What a method for supernets is compared with: a wider plain supernet with as many parameters to
train, and several supernets with a part of the space each."""

import copy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.arch import Arch, Space
from attar.errors import ConfigError, require
from attar.families import Body, feed_forward_modules
from attar.slicing import Slice, child_of, describe

SplitBy = Literal[
    "hidden_size",
    "intermediate_size",
    "intermediate_ratio",
    "num_hidden_layers",
    "num_attention_heads",
]


def split_space(space: Space, parts: int, *, by: SplitBy | None = None) -> list[Space]:
    """Parts of a space that have no network in common and together have all of its networks, small
    ones first: for few-shot supernets (Zhao et al. 2021, arXiv 2006.06863).

    Args:
        space: what is split; of encoder-decoders, by the widths of the encoder.
        parts: how many.
        by: the width whose values are shared out, as evenly as can be; None: the first one in the
            order of `SplitBy` that has enough of them. Widths that every layer chooses for itself
            cannot be split like this.

    Raises:
        ConfigError: no such width has so many values.
    """
    require(parts >= 1, "parts", parts, "at least 1")
    fine = [n for n in SplitBy.__args__ if _splits(space, n) and len(getattr(space, n)) >= parts]
    name = by or (fine[0] if fine else None)
    if name is None or name not in fine:
        raise ConfigError(
            f"expected a width with at least {parts} values that runs through the whole network, "
            f"to split the space by; found {', '.join(fine) or 'none'}: take fewer parts"
        )
    values = getattr(space, name)
    shares = [slice(len(values) * i // parts, len(values) * (i + 1) // parts) for i in range(parts)]
    groups = space.num_key_value_heads
    made = []
    for share in shares:
        changes: dict[str, Any] = {name: values[share]}
        if name == "num_attention_heads" and groups:
            changes["num_key_value_heads"] = groups[share]
        made.append(replace(space, **changes))
    return made


def _splits(space: Space, name: SplitBy) -> bool:
    own = "intermediate_size" if name == "intermediate_ratio" else name
    return own not in space.per_layer


@torch.no_grad()
def widened(
    parent: PreTrainedModel, space: Space, *, extra: int, preserve: bool = False, seed: int = 0
) -> tuple[PreTrainedModel, Space]:
    """A parent whose feed-forward networks are wider by about so many parameters, and the space
    whose networks use it: the network of the same genes has the same share of the neurons.

    Args:
        parent: it stays as it is.
        space: the networks of the parent.
        extra: parameters to add, such as those of experts and routers; the result is nearer to it
            than half of what one neuron takes in all layers.
        preserve: nothing reads the new neurons at first, so that the parent's function stays, as
            for pretrained weights; otherwise their weights are drawn with the standard deviation
            of those that there are.
        seed: of the draws.

    Raises:
        ConfigError: `extra` is negative.
    """
    require(extra >= 0, "extra", extra, "zero or more")
    arch, body = Arch.of(parent), Body(parent)
    before = [layer.neurons for layer in body.layers]
    each = sum(
        parent.get_parameter(body.layer_prefix(i) + cut.name).numel() / layer.neurons
        for i, layer in enumerate(body.layers)
        for cut in layer.cuts("neurons")
    )
    more = round(extra / each)
    layers = (replace(s, intermediate_size=s.intermediate_size + more) for s in arch.layers)
    config = copy.deepcopy(parent.config)
    describe(config, replace(arch, layers=tuple(layers)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wide = type(parent)(config)
    wide.to(parent.device, parent.dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
    wide.train(parent.training)
    _fill(wide, parent, arch, seed=seed, preserve=preserve)
    factor = (max(before) + more) / max(before)
    sizes = tuple(int(size * factor + 0.5) for size in space.intermediate_size)  # all different
    ratios = tuple(ratio * factor for ratio in space.intermediate_ratio)
    return wide, replace(space, intermediate_size=sizes, intermediate_ratio=ratios)


def _fill(
    wide: PreTrainedModel, parent: PreTrainedModel, arch: Arch, *, seed: int, preserve: bool
) -> None:
    """Draw the feed-forward weights, and put those of the parent where they belong."""
    generator = torch.Generator().manual_seed(seed)
    for linears in feed_forward_modules(wide):
        for linear in linears:
            for name, p in wide.get_submodule(linear).named_parameters():
                own = parent.get_parameter(f"{linear}.{name}")
                unread = preserve and linear == linears[-1]
                spread = 0.0 if unread or p.dim() == 1 else float(own.std())
                p.copy_(spread * torch.randn(p.shape, generator=generator))
    where = child_of(wide, arch, layers=range(arch.num_hidden_layers)).slices
    for name, own in parent.named_parameters():
        _put(wide.get_parameter(where[name].name), where[name], own)


def _put(tensor: Tensor, where: Slice, values: Tensor) -> None:
    """Write the slice of a tensor."""
    index = [
        where.axes.get(axis, torch.arange(size)).to(tensor.device)
        for axis, size in enumerate(tensor.shape)
    ]
    tensor[torch.meshgrid(*index, indexing="ij")] = values
