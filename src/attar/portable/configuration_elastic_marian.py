"""What sizes an elastic Marian (see `modeling_elastic_marian`, beside which this file travels)."""

from typing import ClassVar

from transformers import PreTrainedConfig


class ElasticMarianConfig(PreTrainedConfig):
    """What sizes the model. Lists have one entry per layer, the first layer's first.

    Args:
        vocab_size: rows of the encoder's token embeddings.
        decoder_vocab_size: rows of the decoder's; None: `vocab_size`.
        share_encoder_decoder_embeddings: one table for both, as wide as the wider of the two; the
            other reads its first channels. The output is tied with the decoder's table.
        encoder_hidden_size: channels of the encoder's residual stream.
        decoder_hidden_size: channels of the decoder's.
        encoder_attention_size: columns of queries, keys and values in the encoder.
        decoder_attention_size: the same in the decoder, also where it attends to the encoder.
        encoder_ffn_dim: neurons of every encoder layer.
        encoder_attention_heads: heads of every encoder layer.
        decoder_ffn_dim: neurons of every decoder layer.
        decoder_attention_heads: heads of every decoder layer.
        cross_attention_heads: heads of every decoder layer that attend to the encoder.
        cross_attention_span: how many of the last encoder layers they attend to.
        encoder_layers: number of encoder layers; None: as many as `encoder_ffn_dim` has.
        decoder_layers: the same of the decoder.
        scale_embedding: multiply token embeddings by the root of the stack's hidden size.
        activation_function: of the feed-forward networks.
        encoder_dropout: of the encoder's embeddings and sublayers.
        decoder_dropout: the same of the decoder.
        attention_dropout: of attention weights.
        activation_dropout: of neurons.
        max_position_embeddings: tokens that a text should have at most; the model has no bound.

    Raises:
        ValueError: the lists are not equally long, or values do not fit each other.
    """

    model_type = "elastic_marian"
    keys_to_ignore_at_inference: ClassVar = ["past_key_values"]
    attribute_map: ClassVar = {
        "num_hidden_layers": "encoder_layers",
        "hidden_size": "decoder_hidden_size",
    }

    def __init__(
        self,
        vocab_size=32768,
        *,
        decoder_vocab_size=None,
        share_encoder_decoder_embeddings=True,
        encoder_hidden_size=640,
        decoder_hidden_size=640,
        encoder_attention_size=512,
        decoder_attention_size=512,
        encoder_ffn_dim=(3072,) * 6,
        encoder_attention_heads=(8,) * 6,
        decoder_ffn_dim=(3072,) * 6,
        decoder_attention_heads=(8,) * 6,
        cross_attention_heads=(8,) * 6,
        cross_attention_span=(1,) * 6,
        encoder_layers=None,
        decoder_layers=None,
        scale_embedding=True,
        activation_function="relu",
        encoder_dropout=0.1,
        decoder_dropout=0.1,
        attention_dropout=0.0,
        activation_dropout=0.0,
        max_position_embeddings=1024,
        use_cache=True,
        is_encoder_decoder=True,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.decoder_vocab_size = vocab_size if decoder_vocab_size is None else decoder_vocab_size
        self.share_encoder_decoder_embeddings = share_encoder_decoder_embeddings
        self.encoder_hidden_size = encoder_hidden_size
        self.decoder_hidden_size = decoder_hidden_size
        self.encoder_attention_size = encoder_attention_size
        self.decoder_attention_size = decoder_attention_size
        self.encoder_ffn_dim = list(encoder_ffn_dim)
        self.encoder_attention_heads = list(encoder_attention_heads)
        self.decoder_ffn_dim = list(decoder_ffn_dim)
        self.decoder_attention_heads = list(decoder_attention_heads)
        self.cross_attention_heads = list(cross_attention_heads)
        self.cross_attention_span = list(cross_attention_span)
        self.encoder_layers = encoder_layers or len(self.encoder_ffn_dim)
        self.decoder_layers = decoder_layers or len(self.decoder_ffn_dim)
        self.scale_embedding = scale_embedding
        self.activation_function = activation_function
        self.encoder_dropout = encoder_dropout
        self.decoder_dropout = decoder_dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.max_position_embeddings = max_position_embeddings
        self.use_cache = use_cache
        super().__init__(
            tie_word_embeddings=kwargs.pop("tie_word_embeddings", True),
            is_encoder_decoder=is_encoder_decoder,
            pad_token_id=pad_token_id,
            eos_token_id=eos_token_id,
            decoder_start_token_id=decoder_start_token_id,
            **kwargs,
        )
        self._check()

    def _check(self):
        decoder = ["decoder_ffn_dim", "decoder_attention_heads"]
        lists = {
            "encoder_layers": ["encoder_ffn_dim", "encoder_attention_heads"],
            "decoder_layers": [*decoder, "cross_attention_heads", "cross_attention_span"],
        }
        for count, names in lists.items():
            for name in names:
                if len(getattr(self, name)) != getattr(self, count):
                    raise ValueError(
                        f"expected {getattr(self, count)} numbers for {name}, as many as "
                        f"{count}; found {getattr(self, name)}"
                    )
        for side in ("encoder", "decoder"):
            size = getattr(self, f"{side}_attention_size")
            heads = getattr(self, f"{side}_attention_heads")
            heads = heads + (self.cross_attention_heads if side == "decoder" else [])
            if any(size % number for number in heads):
                raise ValueError(
                    f"expected numbers of heads that divide {side}_attention_size {size}; found "
                    f"{heads}"
                )
        if max(self.cross_attention_span) > self.encoder_layers:
            raise ValueError(
                f"expected at most {self.encoder_layers} for cross_attention_span, as many as "
                f"encoder_layers; found {self.cross_attention_span}"
            )
        if self.share_encoder_decoder_embeddings and self.vocab_size != self.decoder_vocab_size:
            raise ValueError(
                f"expected one vocabulary for a shared table of embeddings; found vocab_size "
                f"{self.vocab_size} and decoder_vocab_size {self.decoder_vocab_size}"
            )


ElasticMarianConfig.register_for_auto_class()
