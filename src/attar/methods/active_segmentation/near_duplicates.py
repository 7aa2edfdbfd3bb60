"""Which sentences read almost the same as another one.

Two texts are near duplicates if the Jaccard similarity of their sets of character 5-grams is at
least a threshold. It is computed exactly, from an index of all 5-grams: at the size of what people
label, that takes less than the MinHash signatures (Broder 1997) that would approximate it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attar.errors import require
from attar.methods.active_segmentation.ngrams import Hashes, Owners, shingles


@dataclass(frozen=True)
class _Block:
    """Texts, by their shingles."""

    uids: list[str]
    sizes: Owners
    """Shingles of each text."""
    hashes: Hashes
    """Of all texts, ascending."""
    owners: Owners
    """Index of the text of each."""

    def shared(self, elements: Hashes) -> Owners:
        """How many of these distinct shingles each text has."""
        first = np.searchsorted(self.hashes, elements, side="left")
        after = np.searchsorted(self.hashes, elements, side="right")
        hit = first < after
        spans = [self.owners[a:b] for a, b in zip(first[hit], after[hit], strict=True)]
        owners = np.concatenate(spans) if spans else np.zeros(0, np.int64)
        return np.bincount(owners, minlength=len(self.uids))


class NearDuplicates:
    """Texts that others are compared with.

    Args:
        threshold: Jaccard similarity from which two texts are near duplicates; above 0, at most 1.

    Raises:
        ConfigError: the threshold is out of range.
    """

    def __init__(self, threshold: float) -> None:
        require(0 < threshold <= 1, "threshold", threshold, "above 0 and at most 1")
        self.threshold = threshold
        self._blocks: list[_Block] = []

    def add(self, uids: Sequence[str], texts: Sequence[str]) -> None:
        """Take up texts under their names; none is empty."""
        if not texts:
            return
        hashes, owners = shingles(texts)
        sizes = np.bincount(owners, minlength=len(texts))
        block = _sorted(list(uids), sizes, hashes, owners)
        # Of two blocks the older is more than twice as large, so that a text moves log N times.
        while self._blocks and len(self._blocks[-1].uids) <= 2 * len(block.uids):
            block = _joined(self._blocks.pop(), block)
        self._blocks.append(block)

    def match(self, text: str, *, uid: str = "") -> str | None:
        """The name of the most similar text that is a near duplicate of this one, the first taken
        up among equals, or None.

        Args:
            text: not empty.
            uid: its own name: a text taken up under it is not compared.
        """
        elements, _ = shingles([text])
        best, name = 0.0, None
        for block in self._blocks:
            both = block.shared(elements)
            similarity = both / (block.sizes + len(elements) - both)
            for place in np.flatnonzero(similarity >= self.threshold):
                if block.uids[place] != uid and similarity[place] > best:
                    best, name = float(similarity[place]), block.uids[place]
        return name


def _joined(older: _Block, newer: _Block) -> _Block:
    return _sorted(
        older.uids + newer.uids,
        np.concatenate((older.sizes, newer.sizes)),
        np.concatenate((older.hashes, newer.hashes)),
        np.concatenate((older.owners, newer.owners + len(older.uids))),
    )


def _sorted(uids: list[str], sizes: Owners, hashes: Hashes, owners: Owners) -> _Block:
    order = np.argsort(hashes, kind="stable")
    return _Block(uids, sizes, hashes[order], owners[order])
