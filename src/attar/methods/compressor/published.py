"""The formulas of the paper and its official code, as they stand there."""

import numpy as np
from numpy.typing import NDArray

from attar.methods.compressor.space import EncoderShape, ShapeArrays

#: rows of the table of positions of CodeBERT, and tokens of a text in the count of operations
POSITIONS = 514


def published_parameters(
    shape: EncoderShape | ShapeArrays, *, positions: int = POSITIONS
) -> int | NDArray[np.int64]:
    """Parameters of an encoder, section 3.2: one layer of H x H more than the model has."""
    # V, H, I, L: vocabulary, hidden width, neurons, layers
    v, h, i = shape.vocab_size, shape.hidden_size, shape.intermediate_size
    layer = 3 * (h * h + h) + (h * h + h) + 2 * h * i + i + h + 4 * h
    head = 2 * (h * h + h) + 2 * h + 2
    return v * h + positions * h + 3 * h + shape.num_hidden_layers * layer + head


def published_flops(
    shape: EncoderShape | ShapeArrays, *, tokens: int = POSITIONS
) -> int | NDArray[np.int64]:
    """Operations for one text. It counts look-ups in the table of tokens as a product, and a norm
    as 5 operations where 5 H are meant."""
    # V, A, H, I: vocabulary, heads, hidden width, neurons; s: tokens
    s, v, a = tokens, shape.vocab_size, shape.num_attention_heads
    h, i = shape.hidden_size, shape.intermediate_size
    layer = 8 * h * h + 4 * h * i + 4 * h * s + 10 * s * a + 20 * h + 9 * i + 5
    embeddings = 2 * h * v + 2 * h * (s + 2) + 11 * h
    head = 2 * h * h + 15 * h
    return s * (shape.num_hidden_layers * layer + embeddings + head)


def published_megabytes(shape: EncoderShape | ShapeArrays) -> float | NDArray[np.float64]:
    """Weights of 4 bytes, in 10^6 bytes."""
    return 4 * published_parameters(shape) / 1e6


def published_fitness(
    shape: EncoderShape | ShapeArrays, *, megabytes: float
) -> float | NDArray[np.float64]:
    """What the search maximises: operations in 10^9, less the distance to the size that is aimed
    at. A shape that is larger than that is not refused.

    Args:
        shape: one encoder, or many.
        megabytes: the size to aim at, in 10^6 bytes.
    """
    return published_flops(shape) / 1e9 - abs(published_megabytes(shape) - megabytes)
