"""Encoder-decoders seen as two stacks of layers, read from the real tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel

from attar.errors import CompatibilityError
from attar.families.body import fan

Side = Literal["encoder", "decoder"]
SIDES: tuple[Side, ...] = ("encoder", "decoder")


@dataclass(frozen=True)
class EncoderDecoderFamily:
    """Names inside an encoder-decoder. Those of linear modules are relative to the module that
    holds them.
    """

    layers: str = "layers"  # path of the layer list inside a stack
    self_attention: str = "self_attn"
    cross_attention: str = "encoder_attn"
    query: str = "q_proj"
    key: str = "k_proj"
    value: str = "v_proj"
    attention_out: str = "out_proj"
    head_size: str = "head_dim"  # attribute of an attention module: channels of one head
    # path of the feed-forward network inside a layer, with a closing dot, of either stack
    mlp: tuple[str, str] = ("", "")
    mlp_in: tuple[str, ...] = ("fc1",)  # those that a model has
    mlp_out: str = "fc2"
    # parameters that the class has in the first layer of a stack alone
    first_layer: str | None = None
    # config keys: layers, feed-forward width and heads of the encoder, and of the decoder
    keys: tuple[tuple[str, str, str], tuple[str, str, str]] = (
        ("encoder_layers", "encoder_ffn_dim", "encoder_attention_heads"),
        ("decoder_layers", "decoder_ffn_dim", "decoder_attention_heads"),
    )
    hidden_key: str = "d_model"
    # config key of the head size; None: the class computes it as width / heads
    head_dim_key: str | None = None
    # every layer shares out the same columns of queries, keys and values to its number of heads
    attention_sizes: bool = False


ENCODER_DECODERS: dict[str, EncoderDecoderFamily] = {
    "marian": EncoderDecoderFamily(),
    "elastic_marian": EncoderDecoderFamily(attention_sizes=True),
    "t5": EncoderDecoderFamily(
        layers="block",
        self_attention="layer.0.SelfAttention",
        cross_attention="layer.1.EncDecAttention",
        query="q",
        key="k",
        value="v",
        attention_out="o",
        head_size="key_value_proj_dim",
        mlp=("layer.1.DenseReluDense.", "layer.2.DenseReluDense."),
        mlp_in=("wi", "wi_0", "wi_1"),
        mlp_out="wo",
        first_layer="layer.0.SelfAttention.relative_attention_bias.",
        keys=(("num_layers", "d_ff", "num_heads"), ("num_decoder_layers", "d_ff", "num_heads")),
        head_dim_key="d_kv",
    ),
}


@dataclass(frozen=True)
class Attention:
    """One attention module of a layer."""

    name: str  # in the model
    module: Any
    family: EncoderDecoderFamily

    @property
    def size(self) -> int:
        """Columns of queries, keys and values."""
        return fan(self.module.get_submodule(self.family.query))[1]

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return getattr(self.module, self.family.head_size)

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.size // self.head_dim

    @property
    def source_weights(self) -> int:
        """Weights that a token which is attended to goes through: those of its key and value."""
        family = self.family
        names = (f"{family.key}.weight", f"{family.value}.weight")
        return sum(self.module.get_parameter(name).numel() for name in names)

    def head_axes(self) -> Iterator[tuple[str, int]]:
        """Name in the model and axis of every parameter whose rows or columns are heads."""
        family = self.family
        for part in (family.query, family.key, family.value):
            yield f"{self.name}.{part}.weight", 0
            if self.module.get_submodule(part).bias is not None:
                yield f"{self.name}.{part}.bias", 0
        yield f"{self.name}.{family.attention_out}.weight", 1


class Stack:
    """The encoder or the decoder of a model.

    Attributes:
        prefix: name of the layer list as it stands in `model.state_dict()`, with a closing dot.
        layers: the layers as the model holds them.
    """

    def __init__(self, model: PreTrainedModel, side: Side) -> None:
        self.family = ENCODER_DECODERS[model.config.model_type]
        self.side: Side = side
        base = getattr(model, model.base_model_prefix, model)
        path = f"{side}.{self.family.layers}"
        layers = base.get_submodule(path)
        if not isinstance(layers, nn.ModuleList):
            raise CompatibilityError(f"expected a list of layers at {path!r}")
        self.layers = layers
        self.prefix = f"{path}." if base is model else f"{model.base_model_prefix}.{path}."

    @property
    def hidden(self) -> int:
        """Channels of the residual stream."""
        return fan(self._mlp(0, self.family.mlp_out))[1]

    def attention(self, index: int) -> Attention:
        """The self-attention of a layer."""
        return self._attention(index, self.family.self_attention)

    def cross_attention(self, index: int) -> Attention | None:
        """The attention of a layer to the encoder; None in an encoder."""
        if self.side == "encoder":
            return None
        return self._attention(index, self.family.cross_attention)

    def _attention(self, index: int, path: str) -> Attention:
        module = self.layers[index].get_submodule(path)
        return Attention(f"{self.prefix}{index}.{path}", module, self.family)

    def attentions(self) -> Iterator[Attention]:
        """All attention modules."""
        for index in range(len(self.layers)):
            yield self.attention(index)
            if (cross := self.cross_attention(index)) is not None:
                yield cross

    def span(self, index: int) -> int | None:
        """How many of the last encoder layers a layer attends to; None in an encoder."""
        cross = self.cross_attention(index)
        return None if cross is None else getattr(cross.module, "span", 1)

    def neurons(self, index: int) -> int:
        """Width of the feed-forward network of a layer."""
        return fan(self._mlp(index, self.family.mlp_out))[0]

    def feed_forward(self, index: int) -> tuple[str, ...]:
        """Names in the model of the linear modules of the feed-forward network, the last one
        last.
        """
        inside = self.family.mlp[SIDES.index(self.side)]
        found = dict(self.layers[index].named_modules())
        names = (f"{inside}{name}" for name in (*self.family.mlp_in, self.family.mlp_out))
        return tuple(f"{self.prefix}{index}.{name}" for name in names if name in found)

    def _mlp(self, index: int, name: str) -> nn.Module:
        inside = self.family.mlp[SIDES.index(self.side)]
        return self.layers[index].get_submodule(inside + name)


class EncoderDecoder:
    """A model seen as an encoder and a decoder.

    Raises:
        CompatibilityError: it is no encoder-decoder of a family in `ENCODER_DECODERS`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        if not is_encoder_decoder(model):
            raise CompatibilityError(
                f"expected an encoder-decoder of one of the families "
                f"{', '.join(ENCODER_DECODERS)}; found {model.config.model_type!r} "
                f"({type(model).__name__})"
            )
        self.model = model
        self.family = ENCODER_DECODERS[model.config.model_type]
        self.encoder = Stack(model, "encoder")
        self.decoder = Stack(model, "decoder")

    @property
    def stacks(self) -> tuple[Stack, Stack]:
        """Encoder and decoder."""
        return self.encoder, self.decoder

    def vocabulary(self, side: Side) -> int:
        """Rows of the token embeddings of a stack."""
        base = getattr(self.model, self.model.base_model_prefix, self.model)
        return base.get_parameter(f"{side}.embed_tokens.weight").shape[0]

    @property
    def shares_embeddings(self) -> bool:
        """Whether encoder and decoder read one table of token embeddings."""
        return bool(getattr(self.model.config, "share_encoder_decoder_embeddings", True))


def is_encoder_decoder(model: PreTrainedModel) -> bool:
    """Whether this is an encoder-decoder of a known family, with both of its stacks."""
    config = model.config
    base = getattr(model, model.base_model_prefix, model)
    both = all(isinstance(getattr(base, side, None), nn.Module) for side in SIDES)
    return config.model_type in ENCODER_DECODERS and config.is_encoder_decoder and both
