"""What an encoder that classifies texts costs, from its widths alone: before there is a model.

The network is RoBERTa with a head for sequences: embeddings of tokens, positions and one type of
token, layers of attention and a feed-forward network, and a head of two linear layers that reads
the first token. All counts are exact. They take whole numbers, or NumPy arrays of whole numbers
that broadcast against each other: a million networks are counted at once.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

N = TypeVar("N", int, NDArray[np.int64])


@dataclass(frozen=True)
class EncoderParameters(Generic[N]):
    """Parameters of an encoder by part.

    Attributes:
        tokens: the table of tokens.
        positions: the tables of positions and of types.
        attention: queries, keys, values and outputs of all layers, with biases.
        feed_forward: both maps of all layers, with biases.
        norms: gains and biases of all norms.
        head: both maps of the head, with biases.
        biases: of linear layers, counted above already: one for each of their outputs.
    """

    tokens: N
    positions: N
    attention: N
    feed_forward: N
    norms: N
    head: N
    biases: N

    @property
    def total(self) -> Any:
        """All parameters: a number, or an array."""
        return self.tables + self.inner

    @property
    def tables(self) -> Any:
        """Those of the tables of embeddings."""
        return self.tokens + self.positions

    @property
    def inner(self) -> Any:
        """All others, which do not depend on the vocabulary."""
        return self.attention + self.feed_forward + self.norms + self.head


@dataclass(frozen=True)
class EncoderMacs(Generic[N]):
    """Multiply-accumulates of one text by part; look-ups, norms and activations cost none.

    Attributes:
        projections: queries, keys, values and outputs of attention.
        products: scores of attention, and weighted values.
        feed_forward: the feed-forward networks.
        head: the head, which reads one token.
    """

    projections: N
    products: N
    feed_forward: N
    head: N

    @property
    def total(self) -> Any:
        """All of them: a number, or an array."""
        return self.projections + self.products + self.feed_forward + self.head


def encoder_parameters(
    *,
    vocab_size: N,
    hidden_size: N,
    intermediate_size: N,
    num_hidden_layers: N,
    positions: int,
    outputs: int,
) -> EncoderParameters[N]:
    """Count the parameters of `RobertaForSequenceClassification` with one type of token.

    Args:
        vocab_size: rows of the table of tokens.
        hidden_size: channels between the layers.
        intermediate_size: neurons of the feed-forward networks.
        num_hidden_layers: layers.
        positions: rows of the table of positions; RoBERTa needs two more than a text has tokens.
        outputs: classes, or 1 for a figure.
    """
    width, neurons, layers = hidden_size, intermediate_size, num_hidden_layers
    return EncoderParameters(
        tokens=vocab_size * width,
        positions=(positions + 1) * width,
        attention=layers * (4 * (width * width + width)),
        feed_forward=layers * (2 * width * neurons + neurons + width),
        norms=(2 * layers + 1) * (2 * width),
        head=width * width + width + (width + 1) * outputs,
        biases=layers * (5 * width + neurons) + width + outputs,
    )


def encoder_macs(
    *,
    hidden_size: N,
    intermediate_size: N,
    num_hidden_layers: N,
    tokens: int,
    outputs: int,
) -> EncoderMacs[N]:
    """Count the multiply-accumulates of one text.

    Args:
        hidden_size: channels between the layers.
        intermediate_size: neurons of the feed-forward networks.
        num_hidden_layers: layers.
        tokens: of the text, with those that mark its ends.
        outputs: classes, or 1 for a figure.
    """
    width, neurons, layers = hidden_size, intermediate_size, num_hidden_layers
    return EncoderMacs(
        projections=layers * (4 * tokens * width * width),
        products=layers * (2 * tokens * tokens * width),
        feed_forward=layers * (2 * tokens * width * neurons),
        head=width * width + width * outputs,
    )
