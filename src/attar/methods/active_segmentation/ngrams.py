"""Texts as their character n-grams, hashed: how alike two sentences are, in whatever script.

Hashing features into a vector of fixed size: Weinberger et al. 2009, arXiv 0902.2206.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from attar.methods.active_segmentation.features import REACH, lay_out

Hashes = NDArray[np.uint64]
Owners = NDArray[np.int64]

#: characters of the n-grams of `ngram_vectors`
SHORTEST, LONGEST = 2, 5
#: characters of a shingle
SHINGLE = 5

#: columns of `embedded`, and of the vectors that it projects, as a power of two
_WIDTH, _BITS = 256, 15

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def ngram_vectors(texts: Sequence[str], *, bits: int = 18) -> csr_array:
    """How often each character 2- to 5-gram occurs in each text, every row of length 1.

    Args:
        texts: N of them.
        bits: n-grams share 2^bits columns.

    Returns:
        `(N, 2^bits)` float32; the row of a text of a single character is zero.
    """
    both = [
        (owners << bits) | (hashes >> np.uint64(64 - bits)).astype(np.int64)
        for size, hashes, owners in _windows(texts, longest=LONGEST)
        if size >= SHORTEST
    ]
    entries = np.sort(np.concatenate(both)) if both else np.zeros(0, np.int64)
    first = np.flatnonzero(np.diff(entries, prepend=-1))
    counts = np.diff(first, append=len(entries)).astype(np.float32)
    owners, columns = entries[first] >> bits, entries[first] & ((1 << bits) - 1)
    squares = np.bincount(owners, weights=counts**2, minlength=len(texts))
    values = counts / np.sqrt(squares)[owners].astype(np.float32)
    starts = np.searchsorted(owners, np.arange(len(texts) + 1))
    shape = (len(texts), 1 << bits)
    return csr_array((values, columns.astype(np.int32), starts), shape=shape)


def embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    """`ngram_vectors` by a random matrix that is always the same, `(N, 256)`: distances are about
    the same (Johnson & Lindenstrauss 1984).
    """
    return ngram_vectors(texts, bits=_BITS) @ _matrix()


@cache
def _matrix() -> NDArray[np.float32]:
    made = np.random.default_rng(0).standard_normal((2**_BITS, _WIDTH), np.float32)
    return made / np.float32(np.sqrt(_WIDTH))


def shingles(texts: Sequence[str]) -> tuple[Hashes, Owners]:
    """The distinct character 5-grams of each text; a shorter text is one of its own.

    Args:
        texts: N of them, none empty.

    Returns:
        64-bit hashes, ascending within each text, and the index of the text that each is from, both
        `(S,)`.
    """
    found = []
    lengths = np.array([len(text) for text in texts], np.int64)
    for size, hashes, owners in _windows(texts, longest=SHINGLE):
        whole = slice(None) if size == SHINGLE else lengths[owners] == size
        found.append((hashes[whole], owners[whole]))
    hashes = np.concatenate([some for some, _ in found]) if found else np.zeros(0, np.uint64)
    owners = np.concatenate([some for _, some in found]) if found else np.zeros(0, np.int64)
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    new = np.ones(len(hashes), np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return hashes[new], owners[new]


def _windows(texts: Sequence[str], *, longest: int) -> Iterator[tuple[int, Hashes, Owners]]:
    """For each size up to `longest`: hashes of all windows of so many characters, and the index of
    the text that each lies in.
    """
    layout = lay_out(texts)
    codes = layout.codes.astype(np.uint64) + np.uint64(1)
    owners = np.repeat(np.arange(len(texts)), layout.stops - layout.starts)
    rows = np.arange(len(owners)) + REACH * owners
    left = layout.stops[owners] - rows
    hashes = np.zeros(len(rows), np.uint64)
    for size in range(1, longest + 1):
        kept = left >= size
        rows, owners, left = rows[kept], owners[kept], left[kept]
        # Code points differ in their low bits: the multiplication carries them up, the shift down.
        hashes = (hashes[kept] ^ codes[REACH + size - 1 + rows]) * _MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
        yield size, hashes, owners
