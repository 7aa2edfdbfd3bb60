"""FLAP's bias compensation: what removed units gave on average stays, as a bias (An et al., 2024,
arXiv 2312.11983).
"""

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.families import UNITS, Body
from attar.models import keep_layers
from attar.pruning.importance import channel_stats
from attar.slicing import SlicePlan

#: options of config classes that give linear modules a bias, among them output projections
_OPTIONS = ("attention_bias", "mlp_bias")


def add_biases(model: PreTrainedModel) -> None:
    """Give a model's output projections biases of zero, in place, where its class has an option for
    them: Llama has one for attention and one for the feed-forward network, Mistral none.

    Such an option gives the input projections biases, too; they stay zero.
    """
    off = [name for name in _OPTIONS if getattr(model.config, name, None) is False]
    if not off or getattr(model.config, "is_heterogeneous", False):
        return
    config = copy.deepcopy(model.config)
    keep_layers(config, [0])
    for name in off:
        setattr(config, name, True)
        setattr(model.config, name, True)
    with torch.device("meta"):
        with_biases = Body(type(model)(config)).layer_list[0]
    for layer in Body(model).layer_list:
        for name, part in with_biases.named_modules():
            linear = layer.get_submodule(name)
            if isinstance(part, nn.Linear) and part.bias is not None and linear.bias is None:
                assert isinstance(linear.weight, Tensor)
                linear.bias = nn.Parameter(linear.weight.new_zeros(part.out_features))


def without_biases(model: PreTrainedModel) -> list[str]:
    """Which output projections cannot make up for what is gone, as they have no bias."""
    names = {"kv_groups": "attention", "neurons": "the feed-forward network"}
    first = Body(model).layers[0]
    return [names[unit] for unit in UNITS if getattr(first.out(unit), "bias", None) is None]


@torch.no_grad()
def compensate(
    model: PreTrainedModel, plan: SlicePlan, *, windows: Tensor, batch_size: int
) -> None:
    """Add to each output bias, in place, what the units that `plan` removes give on average over
    the tokens of `windows` `(N, T)`. Call it before they are cut.
    """
    layers, stats = Body(model).layers, channel_stats(model, windows, batch_size=batch_size)
    for keep in plan.layers:
        for unit in UNITS:
            layer, kept = layers[keep.layer], getattr(keep, unit)
            projection = layer.out(unit)
            gone = [i for i in range(layer.count(unit)) if i not in set(kept)]
            if getattr(projection, "bias", None) is None or not gone:
                continue
            weight, bias = projection.weight, projection.bias
            assert isinstance(weight, Tensor)
            assert isinstance(bias, Tensor)
            channels = layer.columns(unit)[gone].flatten().to(weight.device)
            mean = stats[keep.layer, unit].mean[channels]
            rows = weight if isinstance(projection, Conv1D) else weight.T  # (inputs, outputs)
            bias += (mean @ rows[channels].double()).to(bias)


def copy_biases(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Give `target`, the parent once more, the output biases of `source`."""
    add_biases(target)
    for mine, theirs in zip(Body(target).layers, Body(source).layers, strict=True):
        for unit in UNITS:
            bias, given = mine.out(unit).bias, theirs.out(unit).bias
            if isinstance(bias, Tensor) and isinstance(given, Tensor):
                bias.data.copy_(given.data)
