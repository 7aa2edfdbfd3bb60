"""A small corpus of known words and a quick segmenter, for tests of whole studies."""

import numpy as np

from attar.data.segments.cuts import Segmented
from attar.methods.active_segmentation.arms import uid
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import DrawConfig, Sentence
from attar.methods.active_segmentation.study import StudyConfig

WORDS = ("การ", "เมือง", "ความ", "รัก", "ดี", "กิน", "ข้าว", "แมว", "มา", "บ้าน", "ไป", "ตลาด")
QUICK = SegmenterConfig(kind="pointwise", dictionary=None, iterations=8, hash_bits=12)


def gold(count: int = 120, *, seed: int = 0) -> list[Segmented]:
    """Sentences of three to nine words, each text once."""
    generator = np.random.default_rng(seed)
    found: dict[str, Segmented] = {}
    while len(found) < count:
        words = generator.choice(WORDS, int(generator.integers(3, 10))).tolist()
        row = Segmented.of(words, meta={"genre": "ab"[len(found) % 2]})
        found.setdefault(row.text, row)
    return list(found.values())


def sentence(row: Segmented) -> Sentence:
    """As a corpus has it."""
    return Sentence(uid(row.text), row.text)


def options(**changes: object) -> StudyConfig:
    """A random arm and an active one, with batches of about six sentences."""
    given: dict[str, object] = {
        "arms": {
            "random": DrawConfig(strategy="random", budget=150),
            "active": DrawConfig(strategy="mnlp", budget=150, near_duplicates=None),
        },
        "segmenter": QUICK,
        "seed_sentences": 8,
    }
    return StudyConfig(**{**given, **changes})  # pyright: ignore[reportArgumentType]
