"""Other bases for the same network, so that its first channels are the important ones."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.errors import CompatibilityError
from attar.families import Body


@torch.no_grad()
def reorder_hidden(model: PreTrainedModel, order: Tensor) -> None:
    """Permute the channels of the residual stream, in place; the model computes the same.

    Args:
        model: of a supported family.
        order: `(hidden,)`, the old number of each new channel.
    """
    for name, axis in _stream_axes(model):
        parameter = model.get_parameter(name)
        parameter.copy_(parameter.index_select(axis, order.to(parameter.device)))


@torch.no_grad()
def reorder_units(
    model: PreTrainedModel,
    layer: int,
    *,
    heads: Tensor | None = None,
    neurons: Tensor | None = None,
) -> None:
    """Permute the key/value heads (each with its query heads) or the neurons of one layer, in
    place; the model computes the same.

    Args:
        model: of a supported family.
        layer: which, counted from 0.
        heads: `(kv_groups,)`, the old number of each new one; None leaves them.
        neurons: `(neurons,)` as above.
    """
    body = Body(model)
    here, prefix = body.layer(layer), body.layer_prefix(layer)
    for unit, order in (("kv_groups", heads), ("neurons", neurons)):
        if order is None:
            continue
        for cut in here.cuts(unit):  # type: ignore[arg-type]
            parameter = model.get_parameter(prefix + cut.name)
            # the rows of a unit go to the places of the one whose number it takes
            places, rows = cut.rows.flatten(), cut.rows[order.to(cut.rows.device)].flatten()
            rows = rows[places.argsort()].to(parameter.device)
            parameter.copy_(parameter.index_select(cut.axis, rows))


@torch.no_grad()
def rotate_hidden(model: PreTrainedModel, basis: Tensor) -> None:
    """Turn the residual stream into another orthonormal basis, in place.

    Exact but for the norms: their gains act on channels, which a rotation mixes, so that each new
    channel gets the gain and the offset that its direction had on average.

    Args:
        model: of a supported family.
        basis: `(hidden, hidden)`, a column per new channel.
    """
    norms = {part.name for part in Body(model).stream() if part.is_norm}
    for name, axis in _stream_axes(model):
        parameter = model.get_parameter(name)
        turn = basis.to(parameter.device, parameter.dtype)
        if name.rpartition(".")[0] in norms and name.endswith("weight"):
            parameter.copy_((turn.square() * parameter[:, None]).sum(0))
        else:
            parameter.copy_((parameter.movedim(axis, -1) @ turn).movedim(-1, axis))


def _stream_axes(model: PreTrainedModel) -> Sequence[tuple[str, int]]:
    """Each parameter with the hidden width once, also those that are tied or square."""
    seen: dict[tuple[int, int], tuple[str, int]] = {}
    for part in Body(model).stream():
        for name, axis in part.axes():
            seen.setdefault((id(model.get_parameter(name)), axis), (name, axis))
    if not seen:
        raise CompatibilityError(f"{type(model).__name__} has no parameter of the hidden width")
    return list(seen.values())
