"""One network's widths."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from transformers import PreTrainedModel

from attar.families import Body, EncoderDecoder, Family, Stack, is_encoder_decoder
from attar.foreign import parse_json


@dataclass(frozen=True)
class LayerShape:
    """Widths of one layer.

    Attributes:
        num_attention_heads: query heads.
        num_key_value_heads: key/value heads.
        intermediate_size: neurons of the feed-forward network.
        hidden_size: channels inside this layer where it has a width of its own, behind linear maps
            from and to its neighbours (bottlenecks); None: those of the residual stream.
        cross_attention_heads: heads that attend to the encoder; None: the layer has none.
        cross_attention_span: how many of the last encoder layers they attend to; None as above.
    """

    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    hidden_size: int | None = None
    cross_attention_heads: int | None = None
    cross_attention_span: int | None = None


@dataclass(frozen=True)
class Arch:
    """The widths of one network; hashable and JSON-able.

    Attributes:
        layers: the widths of every layer, first layer first; of an encoder-decoder, those of the
            encoder.
        hidden_size: channels of the residual stream; None where it does not matter.
        head_dim: channels of one attention head; None as above, and where it is a layer's width
            divided by its heads because layers have widths of their own.
        vocab_size: rows of the token embeddings; None as above.
        attention_size: columns of queries, keys and values whatever the number of heads; None:
            heads times `head_dim`.
        decoder: of an encoder-decoder; None: the network is one stack of layers.
    """

    layers: tuple[LayerShape, ...]
    hidden_size: int | None = None
    head_dim: int | None = None
    vocab_size: int | None = None
    attention_size: int | None = None
    decoder: "Arch | None" = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Arch":
        """Read the widths from the model's real tensors."""
        if is_encoder_decoder(model):
            return _of_stacks(EncoderDecoder(model))
        body = Body(model)
        layers, size = body.layers, body.head_dim
        if not body.connected:
            shapes = (LayerShape(x.heads, x.kv_groups, x.neurons) for x in layers)
            return cls(tuple(shapes), body.hidden, size, body.vocabulary)
        shapes = (LayerShape(x.heads, x.kv_groups, x.neurons, x.hidden) for x in layers)
        filled = all(x.heads * x.head_dim == x.hidden for x in layers)
        return cls(tuple(shapes), body.hidden, None if filled else size, body.vocabulary)

    @property
    def num_hidden_layers(self) -> int:
        """The number of layers, without those of a decoder."""
        return len(self.layers)

    @property
    def uniform(self) -> bool:
        """True when all layers have the same widths, so that a stock config can describe them."""
        return len(set(self.layers)) <= 1

    def overrides(self, family: Family) -> dict[int, dict[str, int]]:
        """`per_layer_config` for this network: every layer's widths under the family's config
        keys.
        """
        return {i: layer_keys(shape, family) for i, shape in enumerate(self.layers)}

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers; what few networks have is left out where this one has not."""
        stored = asdict(self)
        return stored | _without_none(
            {
                "layers": [_without_none(row) for row in stored["layers"]],
                "attention_size": stored.pop("attention_size"),
                "decoder": stored.pop("decoder") and self.decoder and self.decoder.to_dict(),
            }
        )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> "Arch":
        """Read what `to_dict` gave, or the list of layers that earlier versions wrote."""
        if not isinstance(stored, Mapping):
            stored = {"layers": stored}
        layers = tuple(LayerShape(**row) for row in stored["layers"])
        decoder = stored.get("decoder")
        decoder = None if decoder is None else cls.from_dict(decoder)
        return cls(**{**stored, "layers": layers, "decoder": decoder})

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "Arch":
        """Read what `to_json` wrote, or the list of layers that earlier versions wrote."""
        return cls.from_dict(parse_json(text, "the architecture"))


def _of_stacks(model: EncoderDecoder) -> Arch:
    """An encoder-decoder. The decoder has a vocabulary of its own where it has its own table."""
    tokens = None if model.shares_embeddings else model.vocabulary("decoder")
    decoder = _of_stack(model.decoder, tokens)
    return replace(_of_stack(model.encoder, model.vocabulary("encoder")), decoder=decoder)


def _of_stack(stack: Stack, tokens: int | None) -> Arch:
    layers = []
    for index in range(len(stack.layers)):
        heads, cross = stack.attention(index).heads, stack.cross_attention(index)
        layers.append(
            LayerShape(
                heads,
                heads,
                stack.neurons(index),
                cross_attention_heads=cross and cross.heads,
                cross_attention_span=stack.span(index),
            )
        )
    first = stack.attention(0)
    fixed = stack.family.attention_sizes  # whatever the heads
    return Arch(
        tuple(layers),
        stack.hidden,
        None if fixed else first.head_dim,
        tokens,
        first.size if fixed else None,
    )


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def layer_keys(shape: LayerShape, family: Family) -> dict[str, int]:
    """The config attributes that size one layer of this family."""
    keys = {family.ffn_key: shape.intermediate_size}
    if not family.no_heads:
        keys["num_attention_heads"] = shape.num_attention_heads
        keys["num_key_value_heads"] = shape.num_key_value_heads
    elif family.own_head_size:
        keys["num_attention_heads"] = shape.num_attention_heads
    if shape.hidden_size is not None:
        keys["hidden_size"] = shape.hidden_size
    return keys
