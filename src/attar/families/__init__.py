"""Where heads, neurons, the hidden width and the vocabulary live in each transformers model family.

Everything that cuts, masks or counts a model asks this module and nothing else knows a parameter's
name. A *unit* is what can be removed whole from one layer: a **KV group** (a key/value head with
the query heads that share it) or a **neuron** of the feed-forward network. A :class:`Cut` says
which rows of one parameter belong to each unit, so that fused and transposed layouts need no
special case. The **hidden width** runs through the whole model: :meth:`Body.stream` lists every
module that reads it or writes to it. The **vocabulary** is the rows of the token embeddings and of
the output head (:meth:`Body.vocabulary_axes`).

An encoder-decoder has two stacks of layers (:class:`EncoderDecoder`).
"""

from attar.families.body import GLOBAL, UNITS, Body, Cut, Global, Layer, StreamModule, Unit, is_norm
from attar.families.encoder_decoder import (
    ENCODER_DECODERS,
    EncoderDecoder,
    EncoderDecoderFamily,
    Stack,
    is_encoder_decoder,
)
from attar.families.feed_forward import feed_forward_modules
from attar.families.table import FAMILIES, Family

__all__ = [
    "ENCODER_DECODERS",
    "FAMILIES",
    "GLOBAL",
    "UNITS",
    "Body",
    "Cut",
    "EncoderDecoder",
    "EncoderDecoderFamily",
    "Family",
    "Global",
    "Layer",
    "Stack",
    "StreamModule",
    "Unit",
    "feed_forward_modules",
    "is_encoder_decoder",
    "is_norm",
]
