"""What a segmenter thinks of a text, and what each kind of segmenter must be able to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from attar.methods.active_segmentation.chain import Bytes, Floats, entropies, marginals, paths
from attar.methods.active_segmentation.features import Layout


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


class Chain(NamedTuple):
    """A model's scores of the rows of some texts: `(R,)`, and of transitions, `(2, 2)`."""

    scores: Floats
    transitions: Floats


def beliefs_of(
    layout: Layout, chain: Chain, *, allowed: Bytes, members: Sequence[Chain]
) -> list[Beliefs]:
    """What scores mean for each text; `members`: those of an ensemble."""
    where: dict[str, Any] = {
        "allowed": allowed,
        "starts": layout.starts,
        "stops": layout.stops,
    }
    known = marginals(*chain, **where)
    best = paths(*chain, **where)
    entropy = entropies(known, *chain, starts=layout.starts)
    every = np.stack([known.begin, *(marginals(*one, **where).begin for one in members)])
    cuts = cuts_of_states(best.states, layout)
    found = []
    for i, (start, stop) in enumerate(zip(layout.starts, layout.stops, strict=True)):
        inner = every[:, start + 1 : stop]
        found.append(
            Beliefs(
                cuts=cuts[i],
                cut_probabilities=inner[0].copy(),
                log_probability=min(float(best.best[i] - known.log_z[i]), 0.0),
                second_log_probability=min(float(best.second[i] - known.log_z[i]), 0.0),
                entropy=float(entropy[i]),
                members=inner[1:].copy() if members else None,
            )
        )
    return found


def best_cuts(layout: Layout, chain: Chain, *, allowed: Bytes) -> list[tuple[int, ...]]:
    """The best segmentation of each text alone."""
    found = paths(*chain, allowed=allowed, starts=layout.starts, stops=layout.stops)
    return cuts_of_states(found.states, layout)


def cuts_of_states(states: Bytes, layout: Layout) -> list[tuple[int, ...]]:
    """The offsets at which words begin in each text, without its start."""
    begins = np.flatnonzero(states)
    texts = np.searchsorted(layout.starts, begins, side="right") - 1
    offsets = begins - layout.starts[texts]
    inner = offsets > 0
    offsets, texts = offsets[inner].tolist(), texts[inner]
    ends = np.searchsorted(texts, np.arange(len(layout.starts)), side="right").tolist()
    return [tuple(offsets[first:last]) for first, last in zip([0, *ends[:-1]], ends, strict=True)]
