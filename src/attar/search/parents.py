"""The parent that a supernet's networks are slices of, made of a larger model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.arch import Arch, Space
from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.sources import Batch
from attar.errors import ConfigError
from attar.families import Body, is_encoder_decoder
from attar.models import inference
from attar.slicing import child_of, plain
from attar.slicing.order import reorder_hidden, reorder_units, rotate_hidden

Init = Literal["truncate", "importance", "pca", "random"]


def make_parent(
    teacher: PreTrainedModel,
    space: Space,
    *,
    init: Init = "truncate",
    sample: Batch | None = None,
    seed: int = 0,
) -> PreTrainedModel:
    """A model of the space's largest widths, with all layers of a teacher.

    Args:
        teacher: a model of a supported family; it stays as it is.
        space: the networks that the parent is to hold.
        init: what of the teacher it keeps: `truncate` the first channels, heads and neurons;
            `importance` those with the largest second moment on the sample, times the squared
            norm of the weights that read them; `pca` the principal components of the residual
            stream (only approximately the same network, as norms act on channels), and the first
            heads and neurons; `random` nothing.
        sample: inputs of the teacher, for `importance` and `pca`.
        seed: of random weights.

    Raises:
        CompatibilityError: the teacher does not contain the space.
        ConfigError: a sample is needed.
    """
    if init in ("importance", "pca"):
        if is_encoder_decoder(teacher):
            raise ConfigError(
                f"init {init} is for a single stack of layers, and the {type(teacher).__name__} "
                "has an encoder and a decoder; choose truncate or random"
            )
        if sample is None:
            raise ConfigError(f"init {init} needs text to read; give a sample")
        teacher = ordered(teacher, sample, by=init)
    arch = _with_all_layers(space.largest, Arch.of(teacher))
    child = child_of(teacher, arch)
    parent = child.extract(child.weights(plain(teacher)))
    if init == "random":
        forget(parent, seed=seed)
    return parent


def _with_all_layers(largest: Arch, teacher: Arch) -> Arch:
    """The largest network, as deep as the teacher."""
    shape, head_dim = largest.layers[-1], largest.head_dim
    if shape.hidden_size is not None:  # as wide as the stream: the parent of bottlenecks has none
        head_dim = head_dim or shape.hidden_size // shape.num_attention_heads
        shape = replace(shape, hidden_size=None)
    decoder = largest.decoder
    if decoder is not None and teacher.decoder is not None:
        decoder = _with_all_layers(decoder, teacher.decoder)
    layers = (shape,) * teacher.num_hidden_layers
    return replace(largest, layers=layers, head_dim=head_dim, decoder=decoder)


def forget(model: PreTrainedModel, *, seed: int) -> None:
    """Give a model new random weights of its class, in place."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in model.modules():
            model._init_weights(module)
    model.tie_weights()


@torch.no_grad()
def ordered(
    teacher: PreTrainedModel, sample: Batch, *, by: Literal["importance", "pca"]
) -> PreTrainedModel:
    """A copy of a model whose first channels matter most on a sample."""
    whole = child_of(teacher, Arch.of(teacher))
    model = whole.extract(whole.weights(plain(teacher)))
    moments = _moments(model, sample)
    body = Body(model)
    stream, readers = torch.zeros(body.hidden, body.hidden), torch.zeros(body.hidden)
    for index, layer in enumerate(body.layers):
        prefix = body.layer_prefix(index)
        for name in body.family.reads:
            weight: Any = layer.module.get_submodule(name)
            stream += moments[prefix + name]
            readers += moments[prefix + name].diagonal() * _read(weight)
        heads = _unit_scores(moments[prefix + body.family.attention_out], layer.attention_out)
        heads = heads.view(layer.kv_groups, -1).sum(1)
        neurons = _unit_scores(moments[prefix + body.family.mlp_out], layer.mlp_out)
        if by == "importance":
            most = {"heads": heads, "neurons": neurons}
            orders = {name: scores.argsort(descending=True) for name, scores in most.items()}
            reorder_units(model, index, **orders)
    if by == "importance":
        reorder_hidden(model, readers.argsort(descending=True))
    else:
        rotate_hidden(model, torch.linalg.eigh(stream.double()).eigenvectors.flip(1).float())
    return model


def _unit_scores(moments: Tensor, module: nn.Module) -> Tensor:
    return moments.diagonal() * _read(module)


def _read(module: Any) -> Tensor:
    """Squared norm of the weights that read each input channel, on the processor."""
    weight = module.weight.detach().float().cpu()
    if weight.shape[0] == getattr(module, "nx", None):  # Conv1D: (inputs, outputs)
        weight = weight.T
    return weight.square().sum(0)


def _moments(model: PreTrainedModel, sample: Batch) -> dict[str, Tensor]:
    """Sums of x x^T over the real tokens, (inputs, inputs) on the processor, for every linear
    module inside the layers, by its name in the model."""
    found: dict[str, Tensor] = {}
    real = sample["attention_mask"].bool().to(model.device)
    inputs = {name: sample[name].to(model.device) for name in MODEL_INPUTS if name in sample}
    with inference(model), _watching(model, found, real):
        model.base_model(**inputs)
    return found


@contextmanager
def _watching(model: PreTrainedModel, found: dict[str, Tensor], real: Tensor) -> Iterator[None]:
    body, handles = Body(model), []
    for index, layer in enumerate(body.layers):
        for name in (*body.family.reads, *body.family.writes):

            def hook(_: nn.Module, args: Any, name: str = body.layer_prefix(index) + name) -> None:
                x = args[0].detach()[real].float().cpu()
                found[name] = x.T @ x

            module = layer.module.get_submodule(name)
            handles.append(module.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
