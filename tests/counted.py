"""N-grams counted in dictionaries, as slowly and plainly as can be."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

import characters
from attar import checkpoint


class Counted:
    """A store of n-grams of some documents of token ids."""

    fingerprint = checkpoint.tokenizer_fingerprint(characters.letters())

    def __init__(self, documents: Sequence[Sequence[int]], *, order: int = 6) -> None:
        self.order = order
        self.counts: Counter[tuple[int, ...]] = Counter()
        self.contexts: Counter[tuple[int, ...]] = Counter()
        for text in documents:
            for n in range(2, order + 1):
                for i in range(len(text) - n + 1):
                    gram = tuple(text[i : i + n])
                    self.counts[gram] += 1
                    self.contexts[gram[:-1]] += 1

    def probabilities(self, context: Any, tokens: Any) -> np.ndarray:
        found = np.zeros((self.order - 1, len(tokens)))
        for n in range(2, self.order + 1):
            last = tuple(context[len(context) - n + 1 :]) if len(context) >= n - 1 else None
            if last is not None and self.contexts[last]:
                for j, token in enumerate(tokens):
                    found[n - 2, j] = self.counts[(*last, token)] / self.contexts[last]
        return found

    def seen(self, context: Any) -> np.ndarray:
        lasts = [tuple(context[-n:]) if len(context) >= n else None for n in range(1, self.order)]
        return np.array([last is not None and self.contexts[last] > 0 for last in lasts])
