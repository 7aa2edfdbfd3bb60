"""What the benchmarks of word segmentation share: gold sentences, shuffled and cut to size."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from attar.data.segments import Segmented, read_segments

LONGEST = 300  # characters of a sentence


def sentences(data: Path, genre: str) -> list[Segmented]:
    """The gold sentences of a genre, `article` or `news` of BEST, or `wisesight`, each text once.

    `meta` names the genre.
    """
    file = (
        data / "thai" / "wisesight" / "wisesight-1000-samples-tokenised.label"
        if genre == "wisesight"
        else data / "thai" / "best" / f"{genre}.txt.gz"
    )
    found: dict[str, Segmented] = {}
    for row in read_segments(file, format="best"):
        if 1 < len(row.text) <= LONGEST:
            found.setdefault(row.text, replace(row, meta={"genre": genre}))
    return list(found.values())


def shuffled(rows: list[Segmented], *, seed: int, most: int | None = None) -> list[Segmented]:
    """Some of them, in an order that the seed decides."""
    order = np.random.default_rng(seed).permutation(len(rows))[:most]
    return [rows[place] for place in order.tolist()]
