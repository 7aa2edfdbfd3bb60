"""What a segmenter thinks of a text, and what each kind of segmenter must be able to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What a segmenter thinks of one text of n characters.

    Attributes:
        cuts: offsets of the best segmentation, increasing, in 1..n-1.
        cut_probabilities: that a word begins at each offset, `(n - 1,)`, the one of offset b at
            b - 1; 0 where a cut is illegal.
        log_probability: of the best segmentation.
        second_log_probability: of the second best; -inf if there is none.
        entropy: of the whole segmentation, in nats.
        members: `cut_probabilities` of each member of an ensemble or pass with dropout,
            `(K, n - 1)`; None where none was asked for.
    """

    cuts: tuple[int, ...]
    cut_probabilities: Floats
    log_probability: float
    second_log_probability: float
    entropy: float
    members: Floats | None = None


class Model(Protocol):
    """What is behind a `Segmenter`."""

    def beliefs(self, texts: Sequence[str], *, members: int, seed: int) -> list[Beliefs]:
        """As `Segmenter.beliefs`, of texts that fit into memory together."""
        ...

    def segment(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The cuts of the best segmentation of each text."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A vector for each text, `(N, d)`."""
        ...

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """All that training found, for a file."""
        ...
