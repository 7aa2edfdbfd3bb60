"""Milliseconds of encoders of any shape, from some that are timed on this machine.

A text's time is a constant plus what a layer takes whatever its size, and what its matrix products,
its attention and its element-wise steps take by their amount; the factors, none below zero, are
fitted to the timed shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from transformers import RobertaConfig, RobertaForSequenceClassification

from attar.measure.text_latency import in_turns, torch_threads
from attar.search.latency import HeldOutError, LatencySurrogate, fit_latency
from attar.search.statistics import Array


@dataclass(frozen=True)
class EncoderLatency:
    """A surrogate of an encoder's forward pass.

    Attributes:
        tokens: of the text.
        threads: of the processor.
        surrogate: of `work`.
    """

    tokens: int
    threads: int
    surrogate: LatencySurrogate

    @property
    def error(self) -> HeldOutError:
        """How far it was off for shapes that were left out of the fit."""
        return self.surrogate.error

    def __call__(
        self, *, heads: ArrayLike, hidden: ArrayLike, intermediate: ArrayLike, layers: ArrayLike
    ) -> Array:
        """Milliseconds of shapes; numbers or arrays that fit together.

        Returns:
            An array of their common shape.
        """
        features = work(
            heads=heads,
            hidden=hidden,
            intermediate=intermediate,
            layers=layers,
            tokens=self.tokens,
        )
        flat = features.reshape(-1, features.shape[-1])
        return np.asarray(self.surrogate.predict(flat)).reshape(features.shape[:-1])


def work(
    *,
    heads: ArrayLike,
    hidden: ArrayLike,
    intermediate: ArrayLike,
    layers: ArrayLike,
    tokens: int,
) -> Array:
    """What the time of a text depends on: layers; products of the projections (L H^2 s), of the
    feed-forward part (L H I s) and of attention (L H s^2); elements of its weights (L A s^2), of
    hidden states (L H s) and of neurons (L I s).

    Returns:
        `(..., 7)`, for numbers or arrays that fit together.
    """
    a, h, i, n = (np.asarray(x, dtype=np.float64) for x in (heads, hidden, intermediate, layers))
    s = float(tokens)
    parts = (n, n * h * h * s, n * h * i * s, n * h * s * s, n * a * s * s, n * h * s, n * i * s)
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def measure_encoders(
    shapes: Sequence[tuple[int, int, int, int]],
    *,
    tokens: int,
    threads: int = 1,
    repeats: int = 5,
    seconds: float = 60.0,
) -> EncoderLatency:
    """Time random encoders of these shapes in turns, and fit the surrogate.

    The vocabulary takes no time and is left small, as are the labels.

    Args:
        shapes: heads, hidden size, intermediate size and layers of each; ten at least, better
            twenty, drawn from where predictions will be asked for.
        tokens: of the text.
        threads: that torch computes with; set back afterwards.
        repeats: of which the median counts; each after all others.
        seconds: after this no further repeat is begun.

    Raises:
        DataError: fewer than ten shapes.
    """
    with torch.random.fork_rng(devices=[]):
        models = [_encoder(shape, tokens) for shape in shapes]
    ids = torch.full((1, tokens), 5)
    with torch_threads(threads), torch.inference_mode():
        calls = [partial(_forward, model) for model in models]
        rows = in_turns(calls, [ids], repeats=repeats, seconds=seconds)
    features = [
        work(heads=a, hidden=h, intermediate=i, layers=n, tokens=tokens).tolist()
        for a, h, i, n in shapes
    ]
    times = [row[0] for row in rows]
    return EncoderLatency(tokens, threads, fit_latency(features, times, model="non_negative"))


def _forward(model: Any, ids: torch.Tensor) -> object:
    return model(input_ids=ids).logits


def _encoder(shape: tuple[int, int, int, int], tokens: int) -> RobertaForSequenceClassification:
    heads, hidden, intermediate, layers = shape
    config = RobertaConfig(
        vocab_size=8,
        num_attention_heads=heads,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        max_position_embeddings=tokens + 2,
        type_vocab_size=1,
    )
    return RobertaForSequenceClassification(config).eval()
