"""Sentences made of a few Thai words, as training data of a second."""

import numpy as np

from attar.data.segments.cuts import Segmented

WORDS = ("ฉัน", "กิน", "ข้าว", "ที่", "บ้าน", "ไม่", "ไป", "โรงเรียน", "แมว", " ", "2019", "ok", "ๆ")


def sentences(count, *, seed=0, words=WORDS):
    rng = np.random.default_rng(seed)
    return [Segmented.of(rng.choice(words, rng.integers(2, 9)).tolist()) for _ in range(count)]
