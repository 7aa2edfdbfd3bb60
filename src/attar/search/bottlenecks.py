"""Bottlenecks: linear maps into and out of every layer, which let each have a width of its own.

SuperShaper wraps every layer of BERT in two maps, from the residual stream to the width of the
layer and back; the stream stays as wide as it is. Nothing non-linear lies between the way out of
one layer and the way into the next, so that the two are one map in each network that is run, and
that is saved. (Ganesan et al., 2021, arXiv 2110.04711.)
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.arch import Arch, Space
from attar.errors import CompatibilityError
from attar.families import Body, is_encoder_decoder
from attar.models import without_autocast
from attar.slicing import Connector, Slice

KIND = "bottlenecks"


class Bottlenecks(nn.Module):
    """The maps of a supernet, at full width: a provider of the connectors of its networks.

    They start as identities without bias, so that a network whose layers are as wide as the stream
    is its parent.

    Args:
        parent: of the supernet.
    """

    def __init__(self, parent: PreTrainedModel) -> None:
        super().__init__()
        body = Body(parent)
        self.enter, self.leave = (
            nn.ModuleList(_identity(body.hidden, parent) for _ in body.layer_list) for _ in range(2)
        )

    def taking(self, arch: Arch) -> Callable[[Slice], Tensor | None]:
        """What gives the connectors of one network; None for its other weights."""
        stream = arch.hidden_size

        def take(where: Slice) -> Tensor | None:
            ends = Connector.of(where.name)
            return None if ends is None else self._merged(ends, where, stream=stream)

        return take

    def _merged(self, ends: Connector, where: Slice, *, stream: int | None) -> Tensor:
        """The weight, `(outputs, inputs)`, or the bias, `(outputs,)`, of one connector."""
        outputs = len(where.axes[0])
        weight = 1 in where.axes
        if ends.before is None:  # W_in, b_in
            assert ends.after is not None
            enter = _of(self.enter, ends.after)
            return where.of(enter.weight if weight else enter.bias)
        leave = _of(self.leave, ends.before)
        if ends.after is None:  # W_out, b_out
            return where.of(leave.weight if weight else leave.bias)
        # W = W_in W_out, b = W_in b_out + b_in, through the whole stream
        enter = _of(self.enter, ends.after)
        into = enter.weight[:outputs, :stream]
        # Not under autocast, which would round what an extracted network has in full.
        with without_autocast(into.device):
            if weight:
                return into @ leave.weight[:stream, : len(where.axes[1])]
            return into @ leave.bias[:stream] + enter.bias[:outputs]


def make_bottlenecks(
    parent: PreTrainedModel, space: Space, options: Mapping[str, Any] = MappingProxyType({})
) -> Bottlenecks | None:
    """The bottlenecks that a space needs; None where its layers are as wide as the stream. They
    have no options.

    Raises:
        CompatibilityError: the parent is an encoder-decoder.
    """
    sides = [side for side in (space, space.decoder) if side is not None]
    if not any("hidden_size" in side.per_layer for side in sides):
        return None
    if is_encoder_decoder(parent):
        raise CompatibilityError(
            "expected a stock BERT or RoBERTa for layers that have hidden widths of their own; "
            f"found {type(parent).__name__}: take hidden_size out of per_layer"
        )
    return Bottlenecks(parent)


def _of(maps: nn.ModuleList, layer: int) -> nn.Linear:
    found = maps[layer]
    assert isinstance(found, nn.Linear)
    return found


def _identity(width: int, parent: PreTrainedModel) -> nn.Linear:
    made = nn.Linear(width, width, device=parent.device, dtype=parent.dtype)
    with torch.no_grad():
        nn.init.eye_(made.weight)
        nn.init.zeros_(made.bias)
    return made
