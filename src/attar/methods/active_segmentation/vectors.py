"""Texts as vectors of their characters, without a model: for density, coverage and diversity."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_BITS = 15
_PROJECTED = 256


def ngram_vectors(texts: Sequence[str]) -> csr_array:
    """Hashed counts of character 2- to 5-grams, of length 1 each, `(N, 2^15)` float32.

    A text of less than two characters has the vector 0.
    """
    from sklearn.feature_extraction.text import HashingVectorizer  # slow to import

    # half a surrogate pair has no bytes
    whole = [text.encode("utf-8", "replace").decode() for text in texts]
    counter = HashingVectorizer(
        analyzer="char",
        ngram_range=(2, 5),
        n_features=2**_BITS,
        lowercase=False,
        norm="l2",
        alternate_sign=False,
        dtype=np.float32,
    )
    return csr_array(counter.transform(whole))


def projected(vectors: csr_array) -> NDArray[np.float32]:
    """By a random matrix that is always the same, `(N, 256)`: distances are about the same."""
    return vectors @ _matrix()


@cache
def _matrix() -> NDArray[np.float32]:
    made = np.random.default_rng(0).standard_normal((2**_BITS, _PROJECTED), np.float32)
    return made / np.float32(np.sqrt(_PROJECTED))
