"""What a model costs, counted from its tensors and never from a formula on its config."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.budget import Cost
from attar.families import FAMILIES, Body
from attar.models import evaluation_mode, has_cache

#: modules that multiply by a weight
LINEAR = (nn.Linear, Conv1D)


def cost_of(model: PreTrainedModel, *, context: int = 0, cache: bool = True) -> Cost:
    """Count a model's cost from its tensors.

    Args:
        model: any transformers model, already loaded.
        context: tokens already in the cache, for the attention part of `macs`; 0 leaves that part
            out.
        cache: count the bytes of the cache, for which the model runs once; otherwise they are 0.
    """
    parameters = list(model.parameters())
    dtypes: dict[str, int] = {}
    for p in parameters:
        name = str(p.dtype).removeprefix("torch.")
        dtypes[name] = dtypes.get(name, 0) + p.numel() * p.element_size()
    return Cost(
        params=sum(p.numel() for p in parameters),
        block_params=_block_parameters(model),
        bytes=sum(dtypes.values()),
        macs=linear_macs(model) + context * _attention_macs(model),
        kv_bytes=_kv_bytes(model) if cache else 0,
        dtypes=dtypes,
    )


def linear_macs(model: nn.Module) -> int:
    """Multiply-accumulates per token in linear layers; a tied head is a product all the same."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, LINEAR))


def _block_parameters(model: PreTrainedModel) -> int:
    if model.config.model_type in FAMILIES:
        return Body(model).block_parameters()
    in_lists = {p for m in model.modules() if isinstance(m, nn.ModuleList) for p in m.parameters()}
    return sum(p.numel() for p in in_lists)


def _attention_macs(model: PreTrainedModel) -> int:
    """Multiply-accumulates per token and per token of context: scores and weighted values."""
    if model.config.model_type not in FAMILIES:
        return 0
    body = Body(model)
    return sum(2 * layer.heads * layer.head_dim for layer in body.layers)


@torch.no_grad()
def _kv_bytes(model: PreTrainedModel) -> int:
    """Bytes that two tokens really leave in the cache, halved."""
    if not has_cache(model):
        return 0
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    with evaluation_mode(model):
        cache = model(input_ids=ids, use_cache=True).past_key_values
    if cache is None:
        return 0
    tensors = [t for layer in cache.layers for t in (layer.keys, layer.values) if t is not None]
    return sum(t.numel() * t.element_size() for t in tensors) // 2
