"""A Marian encoder-decoder whose layers differ in width, as in the search space of HAT.

The layers are those of Marian (norms after the residual sum, sinusoidal positions, embeddings times
the root of the width), under the same names, with the freedom that HAT gives them:

- encoder and decoder have hidden widths of their own;
- queries, keys and values have `attention_size` columns, whatever the number of heads that share
  them, so that heads have `attention_size / heads` channels;
- every layer has its own feed-forward width, heads, and heads that attend to the encoder;
- a decoder layer attends to the outputs of the last `cross_attention_span` encoder layers, one
  behind the other: keys and values at `span * T` places for a source of `T` tokens.

The file and its config need torch and transformers alone and travel with every checkpoint, so that
`AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)` works where Attar is not
installed.

Space: Wang et al., "HAT: Hardware-Aware Transformers for Efficient Natural Language Processing",
2020, arXiv 2005.14187.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput

from .configuration_elastic_marian import ElasticMarianConfig


@dataclass
class ElasticMarianEncoderOutput(BaseModelOutput):
    """`last_layers` is `(B, span * T, D)`: the outputs of the last `span` layers one behind the
    other, the last layer's first, with the widest span of the decoder.
    """

    last_layers: torch.FloatTensor | None = None


def sinusoids(positions, width, dtype):
    """Marian's sinusoidal positions for this width, `(T, width)`: all sines, then all cosines."""
    halves = torch.arange((width + 1) // 2, device=positions.device, dtype=torch.float32)
    angles = positions[:, None] * torch.pow(10000.0, -2 * halves / width)
    return torch.cat([angles.sin(), angles.cos()[:, : width // 2]], -1).to(dtype)


def _padding_mask(attention_mask):
    """True where a token may be attended to, `(B, 1, 1, T)`; None for None."""
    return None if attention_mask is None else attention_mask[:, None, None, :].bool()


class ElasticMarianAttention(nn.Module):
    """Attention with `size` columns of queries, keys and values, shared by `num_heads`."""

    def __init__(self, hidden_size, size, num_heads, *, dropout, source_size=None, layer_idx=None):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = size // num_heads
        self.dropout = dropout
        self.layer_idx = layer_idx
        self.k_proj = nn.Linear(source_size or hidden_size, size)
        self.v_proj = nn.Linear(source_size or hidden_size, size)
        self.q_proj = nn.Linear(hidden_size, size)
        self.out_proj = nn.Linear(size, hidden_size)

    def forward(self, hidden_states, mask, *, source=None, cache=None, weights=False):
        """
        Args:
            hidden_states: `(B, T, D)`.
            mask: True where it may attend, broadcast to `(B, heads, T, S)`; None: everywhere.
            source: what to attend to, `(B, S, D')`; None: the hidden states themselves.
            cache: an `EncoderDecoderCache`, or None.
            weights: return the attention weights, too.
        """
        query = self._split(self.q_proj(hidden_states))
        across = source is not None
        if across and cache is not None and cache.is_updated.get(self.layer_idx):
            layer = cache.cross_attention_cache.layers[self.layer_idx]
            key, value = layer.keys, layer.values
        else:
            states = source if across else hidden_states
            key, value = self._split(self.k_proj(states)), self._split(self.v_proj(states))
            if cache is not None:
                part = cache.cross_attention_cache if across else cache.self_attention_cache
                key, value = part.update(key, value, self.layer_idx)
                if across:
                    cache.is_updated[self.layer_idx] = True
        dropout = self.dropout if self.training else 0.0
        if mask is not None:  # not -inf: a row of padding alone must stay finite
            least = torch.finfo(query.dtype).min
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, least)
        shares = None
        if weights:
            scores = query @ key.transpose(2, 3) * self.head_dim**-0.5
            shares = (scores if mask is None else scores + mask).softmax(-1)
            mixed = F.dropout(shares, dropout, self.training) @ value
        else:
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout
            )
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), shares

    def _split(self, states):
        return states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)


class _Layer(nn.Module):
    """What layers of both stacks have: self-attention and a feed-forward network."""

    def __init__(self, config, side, index):
        super().__init__()
        hidden = getattr(config, f"{side}_hidden_size")
        neurons = getattr(config, f"{side}_ffn_dim")[index]
        self.dropout = getattr(config, f"{side}_dropout")
        self.activation_dropout = config.activation_dropout
        self.self_attn = ElasticMarianAttention(
            hidden,
            getattr(config, f"{side}_attention_size"),
            getattr(config, f"{side}_attention_heads")[index],
            dropout=config.attention_dropout,
            layer_idx=index,
        )
        self.self_attn_layer_norm = nn.LayerNorm(hidden)
        self.activation_fn = ACT2FN[config.activation_function]
        self.fc1 = nn.Linear(hidden, neurons)
        self.fc2 = nn.Linear(neurons, hidden)
        self.final_layer_norm = nn.LayerNorm(hidden)

    def _add(self, norm, residual, states):
        return norm(residual + F.dropout(states, self.dropout, self.training))

    def _feed_forward(self, states):
        neurons = self.activation_fn(self.fc1(states))
        neurons = F.dropout(neurons, self.activation_dropout, self.training)
        return self._add(self.final_layer_norm, states, self.fc2(neurons))


class ElasticMarianEncoderLayer(_Layer):
    """Self-attention, then the feed-forward network."""

    def __init__(self, config, index):
        super().__init__(config, "encoder", index)

    def forward(self, states, mask, weights=False):
        """Hidden states `(B, T, D)`, and the attention weights if asked for."""
        mixed, shares = self.self_attn(states, mask, weights=weights)
        states = self._add(self.self_attn_layer_norm, states, mixed)
        return self._feed_forward(states), shares


class ElasticMarianDecoderLayer(_Layer):
    """Self-attention, attention to the last encoder layers, then the feed-forward network."""

    def __init__(self, config, index):
        super().__init__(config, "decoder", index)
        self.encoder_attn = ElasticMarianAttention(
            config.decoder_hidden_size,
            config.decoder_attention_size,
            config.cross_attention_heads[index],
            dropout=config.attention_dropout,
            source_size=config.encoder_hidden_size,
            layer_idx=index,
        )
        self.encoder_attn.span = config.cross_attention_span[index]
        self.encoder_attn_layer_norm = nn.LayerNorm(config.decoder_hidden_size)

    def forward(self, states, mask, *, source, source_mask, cache=None, weights=False):
        """Hidden states `(B, T, D)`, and both attention weights if asked for."""
        mixed, own = self.self_attn(states, mask, cache=cache, weights=weights)
        states = self._add(self.self_attn_layer_norm, states, mixed)
        mixed, across = self.encoder_attn(
            states, source_mask, source=source, cache=cache, weights=weights
        )
        states = self._add(self.encoder_attn_layer_norm, states, mixed)
        return self._feed_forward(states), own, across


class _Stack(nn.Module):
    def __init__(self, config, side, layer_class):
        super().__init__()
        count, vocabulary = getattr(config, f"{side}_layers"), config.vocab_size
        self.hidden = width = getattr(config, f"{side}_hidden_size")
        if config.share_encoder_decoder_embeddings:
            width = max(config.encoder_hidden_size, config.decoder_hidden_size)
        elif side == "decoder":
            vocabulary = config.decoder_vocab_size
        self.config = config
        self.dropout = getattr(config, f"{side}_dropout")
        self.embed_scale = self.hidden**0.5 if config.scale_embedding else 1.0
        self.embed_tokens = nn.Embedding(vocabulary, width, config.pad_token_id)
        self.layers = nn.ModuleList(layer_class(config, index) for index in range(count))

    def _embedded(self, input_ids, inputs_embeds, past=0):
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either ids or embeddings of the tokens of a stack")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)[..., : self.hidden]
        positions = torch.arange(past, past + inputs_embeds.shape[1], device=inputs_embeds.device)
        places = sinusoids(positions, self.hidden, inputs_embeds.dtype)
        return F.dropout(inputs_embeds * self.embed_scale + places, self.dropout, self.training)


class ElasticMarianEncoder(_Stack):
    """The encoder, which also returns the outputs of its last layers."""

    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config, "encoder", ElasticMarianEncoderLayer)
        self.span = max(config.cross_attention_span)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        *,
        inputs_embeds=None,
        output_attentions=False,
        output_hidden_states=False,
        return_dict=None,
    ):
        """Hidden states `(B, T, D)`, and `last_layers` `(B, span * T, D)`."""
        states = self._embedded(input_ids, inputs_embeds)
        mask = _padding_mask(attention_mask)
        every, shares = [states], []
        for layer in self.layers:
            states, share = layer(states, mask, bool(output_attentions))
            every.append(states)
            shares.append(share)
        output = ElasticMarianEncoderOutput(
            last_hidden_state=states,
            hidden_states=tuple(every) if output_hidden_states else None,
            attentions=tuple(shares) if output_attentions else None,
            last_layers=torch.cat(every[-self.span :][::-1], 1),
        )
        return output.to_tuple() if return_dict is False else output


class ElasticMarianDecoder(_Stack):
    """The decoder."""

    def __init__(self, config):
        super().__init__(config, "decoder", ElasticMarianDecoderLayer)
        self.span = max(config.cross_attention_span)

    def forward(
        self,
        input_ids,
        attention_mask,
        *,
        last_layers,
        source_mask=None,
        inputs_embeds=None,
        cache=None,
        weights=False,
    ):
        """All hidden states, and the weights of both attentions if asked for.

        Args:
            input_ids: `(B, T)`, those that the cache lacks.
            attention_mask: of all target tokens `(B, past + T)`, or None.
            inputs_embeds: instead of `input_ids`.
            last_layers: see `ElasticMarianEncoderOutput`.
            source_mask: `(B, S)`, or None.
            cache: an `EncoderDecoderCache`, or None.
            weights: return the attention weights, too.
        """
        past = 0 if cache is None else int(cache.get_seq_length())
        states = self._embedded(input_ids, inputs_embeds, past)
        length, mask = states.shape[1], _padding_mask(attention_mask)
        if length > 1:
            causal = torch.ones(length, past + length, dtype=torch.bool, device=states.device)
            causal = causal.tril(past)
            mask = causal if mask is None else causal & mask
        source_mask, places = _padding_mask(source_mask), last_layers.shape[1] // self.span
        every, own, across = [states], [], []
        for layer in self.layers:
            span = layer.encoder_attn.span
            seen = None if source_mask is None else source_mask.repeat(1, 1, 1, span)
            states, first, second = layer(
                states,
                mask,
                source=last_layers[:, : span * places],
                source_mask=seen,
                cache=cache,
                weights=weights,
            )
            every.append(states)
            own.append(first)
            across.append(second)
        return every, own, across


class ElasticMarianModel(nn.Module):
    """Encoder and decoder."""

    def __init__(self, config):
        super().__init__()
        if config.share_encoder_decoder_embeddings:
            width = max(config.encoder_hidden_size, config.decoder_hidden_size)
            self.shared = nn.Embedding(config.vocab_size, width, config.pad_token_id)
        self.config = config
        self.encoder = ElasticMarianEncoder(config)
        self.decoder = ElasticMarianDecoder(config)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        *,
        decoder_input_ids=None,
        decoder_attention_mask=None,
        encoder_outputs=None,
        past_key_values=None,
        inputs_embeds=None,
        decoder_inputs_embeds=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
    ):
        """Hidden states of the decoder `(B, T, D)`."""
        config = self.config
        if output_attentions is None:
            output_attentions = config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids,
                attention_mask,
                inputs_embeds=inputs_embeds,
                output_attentions=output_attentions,
                output_hidden_states=output_hidden_states,
            )
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(encoder_outputs[0])
        last_layers = getattr(encoder_outputs, "last_layers", None)
        if last_layers is None:
            if self.decoder.span > 1:
                raise ValueError(
                    "expected encoder_outputs as the encoder of this model returns them, with "
                    "last_layers, as its decoder attends to several encoder layers"
                )
            last_layers = encoder_outputs.last_hidden_state
        use_cache = config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        every, own, across = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            last_layers=last_layers,
            source_mask=attention_mask,
            inputs_embeds=decoder_inputs_embeds,
            cache=past_key_values,
            weights=bool(output_attentions),
        )
        return Seq2SeqModelOutput(
            last_hidden_state=every[-1],
            past_key_values=past_key_values,
            decoder_hidden_states=tuple(every) if output_hidden_states else None,
            decoder_attentions=tuple(own) if output_attentions else None,
            cross_attentions=tuple(across) if output_attentions else None,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


class ElasticMarianMTModel(PreTrainedModel, GenerationMixin):
    """The encoder-decoder with its output, for translation and other texts from texts."""

    config_class = ElasticMarianConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _no_split_modules: ClassVar = ["ElasticMarianEncoderLayer", "ElasticMarianDecoderLayer"]
    _keys_to_ignore_on_load_missing: ClassVar = ["final_logits_bias"]
    _tied_weights_keys: ClassVar = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = ElasticMarianModel(config)
        if config.share_encoder_decoder_embeddings:
            self._tied_weights_keys = {
                "lm_head.weight": "model.shared.weight",
                "model.decoder.embed_tokens.weight": "model.shared.weight",
                "model.encoder.embed_tokens.weight": "model.shared.weight",
            }
        rows, width = self.model.decoder.embed_tokens.weight.shape
        self.register_buffer("final_logits_bias", torch.zeros((1, rows)))
        self.lm_head = nn.Linear(width, rows, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        """As fairseq, which HAT trains with: Xavier, and embeddings of norm 1."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
            if module.padding_idx is not None and not getattr(
                module.weight, "_is_hf_initialized", False
            ):
                module.weight[module.padding_idx].zero_()
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif module is self:
            nn.init.zeros_(self.final_logits_bias)

    def get_encoder(self, *args, **kwargs):
        """The encoder, which `generate` runs once."""
        return self.model.encoder

    def get_decoder(self):
        """The decoder."""
        return self.model.decoder

    def get_input_embeddings(self):
        """Token embeddings of the encoder, shared or not."""
        return self.model.encoder.embed_tokens

    def set_input_embeddings(self, value):
        """Replace them, in the decoder, too, where they are shared."""
        self.model.encoder.embed_tokens = value
        if self.config.share_encoder_decoder_embeddings:
            self.model.shared = self.model.decoder.embed_tokens = value

    def get_output_embeddings(self):
        """The map to logits."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings):
        """Replace it."""
        self.lm_head = new_embeddings

    def prepare_decoder_input_ids_from_labels(self, labels):
        """The labels `(B, T)`, one place to the right."""
        ids = labels.roll(1, -1)
        ids[:, 0] = self.config.decoder_start_token_id
        return ids.masked_fill(ids == -100, self.config.pad_token_id)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        *,
        decoder_input_ids=None,
        decoder_attention_mask=None,
        encoder_outputs=None,
        past_key_values=None,
        inputs_embeds=None,
        decoder_inputs_embeds=None,
        labels=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        """Logits `(B, T, V)`; with `labels` `(B, T)`, -100 for none, the mean cross-entropy too."""
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        base = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self._logits(base.last_hidden_state) + self.final_logits_bias
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        rest = {name: base[name] for name in base if name != "last_hidden_state"}
        output = Seq2SeqLMOutput(loss=loss, logits=logits, **rest)
        return output.to_tuple() if return_dict is False else output

    def _logits(self, states):
        width = states.shape[-1]
        if width == self.lm_head.weight.shape[1]:
            return self.lm_head(states)
        return F.linear(states, self.lm_head.weight[:, :width])  # the encoder is wider


ElasticMarianMTModel.register_for_auto_class("AutoModelForSeq2SeqLM")
