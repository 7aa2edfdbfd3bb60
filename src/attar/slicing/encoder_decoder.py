"""The children of an encoder-decoder: smaller networks that are slices of its weights.

A child keeps the first of everything: the first channels of the residual stream, the first neurons,
the first heads and of every head the first channels. Its class is the parent's own, built from a
smaller config, so that what is filled with the slices saves as an ordinary checkpoint:

- T5 and Marian have stock children where all layers of a stack are alike;
- a child with an `attention_size` is an elastic Marian (`attar.portable.modeling_elastic_marian`),
  whatever the widths of its layers; its parent is one, too, or a stock Marian. Queries, keys and
  values keep the first columns of the parent, which the child's heads share out anew, as in HAT.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from attar.arch import Arch
from attar.errors import CompatibilityError
from attar.families import EncoderDecoder, EncoderDecoderFamily, Stack
from attar.portable.modeling_elastic_marian import ElasticMarianConfig, ElasticMarianMTModel
from attar.slicing.plan import spread_layers
from attar.slicing.slice import Slice

Layers = Literal["spread", "first"] | tuple[Sequence[int], Sequence[int]]
"""Which layers of the parent stay: spread evenly, as AutoDistil does (`spread_layers`); the first
ones, as HAT does; or their numbers, those of the encoder and those of the decoder."""


def encoder_decoder_child(
    parent: PreTrainedModel, arch: Arch, *, layers: Layers | Sequence[int] = "spread"
) -> tuple[PreTrainedModel, dict[str, Slice]]:
    """A smaller encoder-decoder without weights, and where its weights lie in the parent.

    Args:
        parent: a T5, a Marian, or an elastic Marian.
        arch: widths of the child's encoder, with those of its decoder in `decoder`. Widths that are
            None are the parent's.
        layers: those of the parent that stay.

    Returns:
        The child with its parameters on the meta device, in the parent's types and mode; and a
        slice for every parameter of `named_parameters()`, but for the frozen tables of sinusoidal
        positions of a stock Marian, which depend on the width alone and are filled already.
        Buffers are filled, too. Dropout of an elastic child shrinks in proportion to its width,
        as in HAT.

    Raises:
        CompatibilityError: the parent is no such model, is smaller than the child somewhere, or no
            class holds such a child.
    """
    ours = EncoderDecoder(parent)
    if arch.decoder is None:
        raise CompatibilityError(
            "expected an architecture with a decoder, as the parent is an encoder-decoder; found "
            "one without"
        )
    sides = (arch, arch.decoder)
    elastic = isinstance(parent, ElasticMarianMTModel) or any(x.attention_size for x in sides)
    chosen: Any = (layers, layers) if isinstance(layers, str) else layers
    if len(chosen) != 2 or any(isinstance(one, int) for one in chosen):
        raise CompatibilityError(
            "expected two lists of layers that stay, those of the encoder and those of the "
            f"decoder; found {list(chosen)}"
        )
    kept = [
        _kept(one, stack, of=side)
        for one, stack, side in zip(chosen, ours.stacks, sides, strict=True)
    ]
    if elastic:
        config, made = _elastic_config(ours, arch), ElasticMarianMTModel
    else:
        config, made = _stock_config(ours, arch), type(parent)
    _check_tokens(ours, arch)
    with torch.device("meta"), no_init_weights():
        skeleton: Any = made(config)
    skeleton.tie_weights()  # which goes with the initialisation otherwise
    skeleton.train(parent.training)
    if parent.can_generate():
        skeleton.generation_config = copy.deepcopy(parent.generation_config)
    slices = _slices(ours, EncoderDecoder(skeleton), kept)
    _settle(skeleton, parent, slices)
    return skeleton, slices


def _kept(layers: str | Sequence[int], stack: Stack, *, of: Arch) -> list[int]:
    count, whole = of.num_hidden_layers, len(stack.layers)
    if not 0 < count <= whole:
        raise CompatibilityError(
            f"expected an architecture with 1 to {whole} layers in the {stack.side}, as many as "
            f"the parent has at most; found {count}"
        )
    if isinstance(layers, str):
        return spread_layers(count, whole) if layers == "spread" else list(range(count))
    fits = len(layers) == count and list(layers) == sorted(set(layers))
    if not fits or layers[0] < 0 or layers[-1] >= whole:
        raise CompatibilityError(
            f"expected {count} rising numbers below {whole} for the layers of the {stack.side} "
            f"that stay; found {list(layers)}"
        )
    return list(layers)


# --------------------------------------------------------------------------------------- configs


def _stock_config(parent: EncoderDecoder, arch: Arch) -> Any:
    """The parent's config with the child's widths."""
    config, family = copy.deepcopy(parent.model.config), parent.family
    sides = [side for side in (arch, arch.decoder) if side is not None]
    values: dict[str, int] = {}
    for side, stack, keys in zip(sides, parent.stacks, family.keys, strict=True):
        shape = side.layers[0]
        if not side.uniform:
            raise _no_class(parent, f"layers of the {stack.side} that differ from each other")
        if shape.cross_attention_span not in (None, 1) or (
            shape.cross_attention_heads not in (None, shape.num_attention_heads)
        ):
            raise _no_class(
                parent,
                "attention to more than the last encoder layer, or with other heads than the "
                "decoder's attention to itself",
            )
        width = side.hidden_size or stack.hidden
        given = {
            family.hidden_key: width,
            keys[0]: side.num_hidden_layers,
            keys[1]: shape.intermediate_size,
            keys[2]: shape.num_attention_heads,
        }
        size = side.head_dim or stack.attention(0).head_dim
        if family.head_dim_key is not None:
            given[family.head_dim_key] = size
        elif side.head_dim and width != size * shape.num_attention_heads:
            raise _no_class(
                parent, f"{shape.num_attention_heads} heads of {size} channels at width {width}"
            )
        if shape.num_key_value_heads != shape.num_attention_heads:
            raise _no_class(parent, "key/value heads that several query heads share")
        for key, value in given.items():
            if values.setdefault(key, value) != value:
                raise _no_class(parent, f"{key} {values[key]} in the encoder and {value} elsewhere")
    if arch.vocab_size is not None:
        values["vocab_size"] = arch.vocab_size
    if hasattr(config, "decoder_vocab_size"):
        values["decoder_vocab_size"] = _decoder_tokens(parent, arch)
    for key, value in values.items():
        setattr(config, key, value)
    return config


def _no_class(parent: EncoderDecoder, what: str) -> CompatibilityError:
    kind = parent.model.config.model_type
    hint = "; give an attention_size, so that it becomes an elastic Marian"
    return CompatibilityError(
        f"no class of transformers holds a {kind} with {what}{hint if kind == 'marian' else ''}"
    )


def _decoder_tokens(parent: EncoderDecoder, arch: Arch) -> int:
    """Rows of the decoder's token embeddings."""
    if parent.shares_embeddings:
        return arch.vocab_size or parent.vocabulary("decoder")
    own = arch.decoder.vocab_size if arch.decoder is not None else None
    return own or parent.vocabulary("decoder")


#: config keys that an elastic Marian has in common with a stock one
_COMMON = (
    "bos_token_id",
    "activation_dropout",
    "activation_function",
    "attention_dropout",
    "decoder_start_token_id",
    "eos_token_id",
    "max_position_embeddings",
    "pad_token_id",
    "scale_embedding",
    "share_encoder_decoder_embeddings",
    "use_cache",
)


def _elastic_config(parent: EncoderDecoder, arch: Arch) -> ElasticMarianConfig:
    """The config of an elastic child."""
    old = parent.model.config
    if old.model_type == "t5" or not old.tie_word_embeddings or arch.decoder is None:
        raise CompatibilityError(
            "expected a Marian whose output is tied with its embeddings as the parent of an "
            f"architecture with an attention_size; found a {old.model_type}"
        )
    values: dict[str, Any] = {key: getattr(old, key) for key in _COMMON if hasattr(old, key)}
    for stack, side in zip(parent.stacks, (arch, arch.decoder), strict=True):
        name, shapes = stack.side, side.layers
        width = side.hidden_size or stack.hidden
        dropout = getattr(old, f"{name}_dropout", None)
        dropout = old.dropout if dropout is None else dropout
        values |= {
            f"{name}_hidden_size": width,
            f"{name}_attention_size": side.attention_size or stack.attention(0).size,
            f"{name}_ffn_dim": [x.intermediate_size for x in shapes],
            f"{name}_attention_heads": [x.num_attention_heads for x in shapes],
            f"{name}_dropout": dropout * width / stack.hidden,
        }
    decoder = arch.decoder.layers
    values["cross_attention_heads"] = [
        x.cross_attention_heads or x.num_attention_heads for x in decoder
    ]
    values["cross_attention_span"] = [x.cross_attention_span or 1 for x in decoder]
    values["vocab_size"] = arch.vocab_size or parent.vocabulary("encoder")
    values["decoder_vocab_size"] = _decoder_tokens(parent, arch)
    try:
        return ElasticMarianConfig(**values)
    except ValueError as error:
        raise CompatibilityError(f"no network has these widths: {error}") from None


def _check_tokens(parent: EncoderDecoder, arch: Arch) -> None:
    """Refuse vocabularies that the config's special tokens are not in."""
    sizes = [arch.vocab_size or parent.vocabulary("encoder"), _decoder_tokens(parent, arch)]
    config = parent.model.config
    for key in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        token = getattr(config, key, None)
        if isinstance(token, int) and token >= min(sizes):
            raise CompatibilityError(
                f"expected a vocabulary with the special tokens of the parent; {key} is {token}, "
                f"and {min(sizes)} tokens stay"
            )


# ---------------------------------------------------------------------------------------- slices


def _slices(
    parent: EncoderDecoder, child: EncoderDecoder, kept: Sequence[Sequence[int]]
) -> dict[str, Slice]:
    """Where every parameter of the child lies: the first indices along the axes that are shorter,
    but for heads, of each of which the first channels stay.
    """
    # a tied parameter has several names, and `named_parameters` gives the first
    first = {id(p): name for name, p in parent.model.named_parameters()}
    heads = _head_axes(parent, child)
    slices = {}
    for name, parameter in child.model.named_parameters():
        if not parameter.requires_grad:
            continue
        theirs = _parent_name(name, child, kept)
        whole = parent.model.get_parameter(theirs)
        axes: dict[int, Tensor] = {}
        for axis, (size, most) in enumerate(zip(parameter.shape, whole.shape, strict=True)):
            if size > most:
                raise CompatibilityError(
                    f"expected a child that is no larger than its parent; {name} has {size} where "
                    f"{theirs} has {most}: choose smaller widths"
                )
            if (name, axis) in heads:
                rows = _head_rows(name, heads[name, axis])
                if len(rows) < most:
                    axes[axis] = rows
            elif size < most:
                axes[axis] = torch.arange(size)
        slices[name] = Slice(first[id(whole)], axes)
    return slices


def _head_axes(parent: EncoderDecoder, child: EncoderDecoder) -> dict[tuple[str, int], "_Heads"]:
    """Every axis of the child that is cut head by head. An elastic child has none."""
    if child.family.attention_sizes:
        return {}
    axes = {}
    for ours, theirs in zip(child.stacks, parent.stacks, strict=True):
        new, old = ours.attention(0), theirs.attention(0)
        sizes = _Heads(new.heads, new.head_dim, whole=(old.heads, old.head_dim))
        for attention in ours.attentions():
            axes |= dict.fromkeys(attention.head_axes(), sizes)
    return axes


@dataclass(frozen=True)
class _Heads:
    """Heads of a child and channels of each; `whole`: the same of its parent."""

    count: int
    channels: int
    whole: tuple[int, int]


def _head_rows(name: str, heads: _Heads) -> Tensor:
    """The first channels of the first heads, among those of the parent."""
    most, width = heads.whole
    if heads.count > most or heads.channels > width:
        raise CompatibilityError(
            f"expected a child with at most {most} heads of {width} channels, as its parent "
            f"has; found {heads.count} of {heads.channels} at {name}"
        )
    return (torch.arange(heads.count)[:, None] * width + torch.arange(heads.channels)).flatten()


def _parent_name(name: str, child: EncoderDecoder, kept: Sequence[Sequence[int]]) -> str:
    """The parent's parameter that a child's is cut from."""
    for stack, layers in zip(child.stacks, kept, strict=True):
        if name.startswith(stack.prefix):
            index, _, inside = name.removeprefix(stack.prefix).partition(".")
            if _is_of_first(inside, child.family):
                return name  # of the first layer, whichever that is
            return f"{stack.prefix}{layers[int(index)]}.{inside}"
    return name


def _is_of_first(inside: str, family: EncoderDecoderFamily) -> bool:
    return family.first_layer is not None and inside.startswith(family.first_layer)


def _settle(skeleton: Any, parent: PreTrainedModel, slices: Mapping[str, Slice]) -> None:
    """Give the child the parent's types, and fill what is no slice."""
    for name, parameter in list(skeleton.named_parameters()):
        if name in slices:
            like = parent.get_parameter(slices[name].name)
            parameter.data = parameter.data.to(like.dtype)
            continue
        like = parent.get_parameter(name)
        module = skeleton.get_submodule(name.rpartition(".")[0])
        filled = torch.empty(parameter.shape, dtype=like.dtype, device=like.device)
        module.weight = nn.Parameter(filled, requires_grad=False)
        module.weight.data = module.create_weight().to(like)  # sinusoids, of which Marian knows all
    for name, buffer in list(skeleton.named_buffers()):
        module, _, leaf = name.rpartition(".")
        whole = parent.get_buffer(name)
        for axis, size in enumerate(buffer.shape):
            whole = whole.narrow(axis, 0, size)
        setattr(skeleton.get_submodule(module), leaf, whole.detach().clone())
