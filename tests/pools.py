"""Pools of made-up sentences, and a segmenter whose beliefs depend on nothing but the text."""

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from attar.data.segments.legal import illegal
from attar.methods.active_segmentation.arms import uid
from attar.methods.active_segmentation.beliefs import Beliefs
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import Sentence
from attar.methods.active_segmentation.ngrams import ngram_vectors

SYLLABLES = ("กา", "เดิน", "ไป", "ที่", "บ้าน", "น้ำ", "ใจ", "รัก", "มาก", "ๆ", " ", "2020", "ok", "แมว")


def texts(count: int, *, seed: int = 0, words: int = 12) -> list[str]:
    """So many distinct texts of up to `words` syllables."""
    generator = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        picked = generator.integers(len(SYLLABLES), size=generator.integers(1, words + 1))
        found["".join(SYLLABLES[index] for index in picked)] = None
    return list(found)


def pool(count: int, *, seed: int = 0, words: int = 12, documents: int = 0) -> list[Sentence]:
    """Sentences of these texts, some to a document."""
    return [
        Sentence(uid(text), text, document=f"d{index % documents}" if documents else "")
        for index, text in enumerate(texts(count, seed=seed, words=words))
    ]


def belief(probabilities: Sequence[float], *, members: int = 0, seed: int = 0) -> Beliefs:
    """What independent positions with these probabilities of a cut amount to."""
    p = np.array(probabilities, np.float64)
    best = np.maximum(p, 1 - p)
    # The second best segmentation flips the most doubtful position.
    with np.errstate(divide="ignore"):
        flips = np.log(1 - best) - np.log(best)
    swapped = np.log(best).sum() + flips.max(initial=-np.inf)
    inside = p[(p > 0) & (p < 1)]
    entropy = -(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)).sum()
    around = np.random.default_rng(seed).uniform(0, 1, (members, len(p)))
    return Beliefs(
        cuts=tuple((np.flatnonzero(p > 0.5) + 1).tolist()),
        cut_probabilities=p,
        log_probability=float(np.log(best).sum()),
        second_log_probability=float(swapped),
        entropy=float(entropy),
        members=around * (p > 0) if members else None,
    )


class Reader:
    """A segmenter that was never trained: what it believes of a text is a hash of it.

    Attributes:
        asked: how many texts it was asked about at a time.
    """

    config = SegmenterConfig(dictionary=None)

    def __init__(self) -> None:
        self.asked: list[int] = []

    def beliefs(self, texts: Sequence[str], *, members: int = 0, seed: int = 0) -> list[Beliefs]:
        self.asked.append(len(texts))
        return [_of(text, members, seed) for text in texts]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return ngram_vectors(texts, bits=6).toarray()


@cache
def _of(text: str, members: int, seed: int) -> Beliefs:
    digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    drawn = np.random.default_rng(digest).beta(0.3, 0.3, max(0, len(text) - 1))
    p = np.where(illegal(text), 0.0, drawn)
    return belief(p.tolist(), members=members, seed=digest + seed)
