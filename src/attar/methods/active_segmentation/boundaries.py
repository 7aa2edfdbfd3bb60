"""Boundary queries: which single positions to ask about, in place of whole sentences.

Li, Zhou & Huang 2012 (COLING, posters, pages 683 to 692) label only the boundaries that a Chinese
segmenter is unsure of, and not the same one over and over. Here: the positions where the
probability of a cut is nearest to one half, a few in a sentence and apart from each other, and in
one batch only so many with the same characters around them.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from attar.data.segments.legal import legal
from attar.errors import require
from attar.methods.active_segmentation.arms import uid
from attar.methods.active_segmentation.beliefs import Beliefs

Array = NDArray[np.float64]

#: characters before and after a position that make its window
BEFORE, AFTER = 2, 3


@dataclass(frozen=True)
class Query:
    """Positions of one sentence to decide."""

    uid: str
    positions: tuple[int, ...]
    """Offsets, ascending."""
    score: float
    """-|2p - 1| of the most doubtful of them, from -1 to 0."""


@dataclass(frozen=True)
class Limits:
    """What keeps a batch from asking the same thing again.

    Attributes:
        per_sentence: positions of a sentence at most.
        apart: legal positions from one to the next in a sentence at least; 1: neighbours may both
            be asked about.
        per_window: positions at most with the same five characters around them, two before and
            three after.

    Raises:
        ConfigError: a limit is not positive.
    """

    per_sentence: int = 3
    apart: int = 3
    per_window: int = 2

    def __post_init__(self) -> None:
        for name in ("per_sentence", "apart", "per_window"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")


DEFAULT_LIMITS = Limits()


def boundary_queries(
    texts: Sequence[str],
    beliefs: Sequence[Beliefs],
    *,
    budget: int,
    limits: Limits = DEFAULT_LIMITS,
    asked: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> list[Query]:
    """The most doubtful legal positions of a pool.

    Args:
        texts: distinct sentences, in the order that decides between equals.
        beliefs: a segmenter's, of each.
        budget: positions at most.
        limits: of the batch.
        asked: offsets not to ask about again, by uid.

    Returns:
        The sentence with the most doubtful position first; fewer positions than the budget where
        the pool holds no more within the limits.
    """
    doubts = [1 - np.abs(2 * belief.cut_probabilities - 1) for belief in beliefs]
    return _choose(texts, doubts, budget=budget, limits=limits, asked=asked)


def random_queries(
    texts: Sequence[str],
    *,
    budget: int,
    generator: np.random.Generator,
    limits: Limits = DEFAULT_LIMITS,
    asked: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> list[Query]:
    """Positions at random under the same limits: what `boundary_queries` is compared with.

    Args:
        texts: distinct sentences.
        budget: positions at most.
        generator: of the draw.
        limits: of the batch.
        asked: offsets not to ask about again, by uid.

    Returns:
        In the order of the draw; the scores mean nothing.
    """
    doubts = [generator.random(max(0, len(text) - 1)) for text in texts]
    return _choose(texts, doubts, budget=budget, limits=limits, asked=asked)


def _choose(
    texts: Sequence[str],
    doubts: Sequence[Array],
    *,
    budget: int,
    limits: Limits,
    asked: Mapping[str, Collection[int]],
) -> list[Query]:
    """Walk all positions, the most doubtful first, and take those within the limits."""
    starts = np.cumsum([0, *map(len, doubts)])
    flat = np.concatenate([*doubts, np.zeros(0)])
    windows: Counter[tuple[str, str]] = Counter()
    ranks: dict[int, dict[int, int]] = {}
    taken: dict[int, list[int]] = {}
    scores: dict[int, float] = {}
    left = budget
    for place in _descending(flat, first=8 * budget):
        if not left:
            break
        owner = int(np.searchsorted(starts, place, side="right")) - 1
        offset, text = int(place - starts[owner]) + 1, texts[owner]
        window = text[max(0, offset - BEFORE) : offset], text[offset : offset + AFTER]
        if windows[window] == limits.per_window:
            continue
        if owner not in ranks:
            ranks[owner] = _ranks(text, asked=asked.get(uid(text), ()))
        rank, own = ranks[owner].get(offset), taken.get(owner, [])
        if (
            rank is None
            or len(own) == limits.per_sentence
            or any(abs(rank - ranks[owner][other]) < limits.apart for other in own)
        ):
            continue
        taken.setdefault(owner, []).append(offset)
        scores.setdefault(owner, float(flat[place]) - 1)
        windows[window] += 1
        left -= 1
    return [
        Query(uid(texts[owner]), tuple(sorted(offsets)), scores[owner])
        for owner, offsets in taken.items()
    ]


def _ranks(text: str, *, asked: Collection[int]) -> dict[int, int]:
    """The number of each legal offset that was not asked about, among all legal ones."""
    gone = set(asked)
    return {offset: rank for rank, offset in enumerate(legal(text).tolist()) if offset not in gone}


def _descending(values: Array, *, first: int) -> Iterator[int]:
    """Indices of values, the largest first and equals as they come; sorts only as far as needed."""
    left = np.arange(len(values))
    size = first
    while len(left):
        if size < len(left):
            least = np.partition(values[left], len(left) - size)[len(left) - size]
            chosen = values[left] >= least
        else:
            chosen = np.ones(len(left), np.bool_)
        some = left[chosen]
        yield from some[np.argsort(-values[some], kind="stable")].tolist()
        left = left[~chosen]
        size *= 8
