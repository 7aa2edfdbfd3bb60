"""What a model costs, counted from its tensors and never from a formula on its config."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.budget import Cost
from attar.families import FAMILIES, Body, EncoderDecoder, is_encoder_decoder
from attar.models import evaluation_mode, has_cache

#: modules that multiply by a weight
LINEAR = (nn.Linear, Conv1D)


def cost_of(model: PreTrainedModel, *, context: int = 0, cache: bool = True) -> Cost:
    """Count a model's cost from its tensors.

    Of an encoder-decoder, what counts per token is for one token that is read and one that is
    written: `macs` of both stacks, `kv_bytes` of the attention of the decoder to both.

    Args:
        model: any transformers model, already loaded.
        context: tokens already in the cache, for the attention part of `macs`; 0 leaves that part
            out. Of an encoder-decoder, tokens on either side.
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
        macs=linear_macs(model) + _unseen_macs(model) + context * _attention_macs(model),
        kv_bytes=_kv_bytes(model) if cache else 0,
        dtypes=dtypes,
    )


def linear_macs(model: nn.Module) -> int:
    """Multiply-accumulates per token in linear layers; a tied head is a product all the same."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, LINEAR))


def _unseen_macs(model: PreTrainedModel) -> int:
    """What `linear_macs` misses in an encoder-decoder: keys and values of a token in more than one
    encoder layer; less the channels of a shared table that are wider than the decoder.
    """
    if not is_encoder_decoder(model):
        return 0
    decoder = EncoderDecoder(model).decoder
    macs = 0
    for index in range(len(decoder.layers)):
        cross = decoder.cross_attention(index)
        assert cross is not None
        macs += ((decoder.span(index) or 1) - 1) * cross.source_weights
    head = model.get_output_embeddings()
    if isinstance(head, nn.Linear):
        macs -= head.weight.shape[0] * (head.weight.shape[1] - decoder.hidden)
    return macs


def _block_parameters(model: PreTrainedModel) -> int:
    if model.config.model_type in FAMILIES:
        return Body(model).block_parameters()
    in_lists = {p for m in model.modules() if isinstance(m, nn.ModuleList) for p in m.parameters()}
    return sum(p.numel() for p in in_lists)


def _attention_macs(model: PreTrainedModel) -> int:
    """Multiply-accumulates per token and per token of context: scores and weighted values."""
    if is_encoder_decoder(model):
        ours = EncoderDecoder(model)
        own = sum(2 * a.size for stack in ours.stacks for a in stack.attentions())
        spans = ((ours.decoder.span(i) or 1) - 1 for i in range(len(ours.decoder.layers)))
        return own + sum(2 * ours.decoder.attention(i).size * n for i, n in enumerate(spans))
    if model.config.model_type not in FAMILIES:
        return 0
    body = Body(model)
    return sum(2 * layer.heads * layer.head_dim for layer in body.layers)


@torch.no_grad()
def _kv_bytes(model: PreTrainedModel) -> int:
    """Bytes that two tokens (on either side) really leave in the cache, halved."""
    both = is_encoder_decoder(model) and model.can_generate()
    if not both and not has_cache(model):
        return 0
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if both else {})
    with evaluation_mode(model):
        cache = model(**inputs, use_cache=True).past_key_values
    if cache is None:
        return 0
    caches = (cache.self_attention_cache, cache.cross_attention_cache) if both else (cache,)
    layers = [layer for part in caches for layer in part.layers]
    tensors = [t for layer in layers for t in (layer.keys, layer.values) if t is not None]
    return sum(t.numel() * t.element_size() for t in tensors) // 2
