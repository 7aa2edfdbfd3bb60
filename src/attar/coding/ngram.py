"""Text as symbols, and a byte model of integer counts: the same on every machine, after seconds.

A symbol is a byte, or 256 for the end of a document where that is coded. `NgramModel` says how
likely each symbol is after those before it, by Witten-Bell smoothing (Witten and Bell, 1991): the
longest context's counts, mixed with the shorter one's estimate in proportion to how many different
symbols followed. All of it is integer arithmetic, so that whatever is coded with it can be decoded
everywhere.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from attar.coding.frequencies import Integers, integer_frequencies
from attar.errors import DataError, expect
from attar.portable.equal_info_windows import END
from attar.portable.tokenization_equal_info import bytes_of

Symbols = NDArray[np.uint16]
"""Bytes, and `END` (256) after a document where its end is coded."""

_BITS = 9  # of a symbol within a key; seven symbols take 63
_GAP = 511  # between documents: no n-gram holds it
_SCALE = 2**32  # of a probability before it is rounded to the precision
_MOST = 2**30  # counts times the scale stay within 63 bits


def symbols_of(text: str, *, end: bool = False) -> Symbols:
    """A document as symbols: its UTF-8 bytes, and `END` after them if it is coded."""
    raw = bytes_of(text).astype(np.uint16)
    return np.append(raw, np.uint16(END)) if end else raw


class NgramModel:
    """Counts of all n-grams up to an order.

    Args:
        keys: for each length from 1, n-grams as integers of 9 bits a symbol, rising.
        counts: how often each of them occurs.
        alphabet: 256, or 257 with the end of a document.
        precision: bits of a probability.
    """

    kind = "ngram"

    def __init__(
        self,
        keys: list[Integers],
        counts: list[Integers],
        *,
        alphabet: int,
        precision: int,
    ) -> None:
        self.keys, self.counts = keys, counts
        self.alphabet, self.precision = alphabet, precision
        self._sums = [np.concatenate([[0], np.cumsum(of_length)]) for of_length in counts]

    @property
    def order(self) -> int:
        """Symbols of the longest n-gram."""
        return len(self.keys)

    @classmethod
    def fit(
        cls, documents: Iterable[Symbols], *, order: int, alphabet: int, precision: int
    ) -> Self:
        """Count the n-grams of documents, none of which spans two.

        Raises:
            DataError: there is no symbol, or there are 2**30.
        """
        gap = np.asarray([_GAP], np.int64)
        parts = [part for document in documents for part in (document.astype(np.int64), gap)]
        stream = np.concatenate(parts) if parts else gap
        size = int((stream != _GAP).sum())
        if not 0 < size < _MOST:
            raise DataError(
                f"expected 1 to {_MOST} bytes of text to count n-grams of, found {size}; give "
                "other text, or change fit_bytes"
            )
        keys, counts = [], []
        packed, whole = np.zeros(len(stream) + 1, np.int64), np.ones(len(stream) + 1, bool)
        for length in range(1, order + 1):
            # packed[i]: the `length` symbols from i on
            last = stream[length - 1 :]
            packed = (packed[: len(last)] << _BITS) | last
            whole = whole[: len(last)] & (last != _GAP)
            ngrams, times = np.unique(packed[whole], return_counts=True)
            keys.append(ngrams)
            counts.append(times.astype(np.int64))
        return cls(keys, counts, alphabet=alphabet, precision=precision)

    def frequencies(self, prefixes: Symbols) -> Integers:
        """Integer probabilities of the next symbol.

        Args:
            prefixes: `(B, D)`, all symbols since the window began.

        Returns:
            `(B, A)`, at least 1 each, rows that add up to `2**precision`.
        """
        rows, depth = prefixes.shape
        mass = np.full((rows, self.alphabet), _SCALE // self.alphabet, np.int64)
        context = np.zeros(rows, np.int64)
        for length in range(min(depth + 1, self.order)):
            if length:
                newest = prefixes[:, depth - length].astype(np.int64)
                context |= newest << (_BITS * (length - 1))
            keys, sums = self.keys[length], self._sums[length]
            start = np.searchsorted(keys, context << _BITS)
            stop = np.searchsorted(keys, (context + 1) << _BITS)
            kinds = stop - start
            row = np.repeat(np.arange(rows), kinds)
            at = np.arange(len(row)) - np.repeat(np.cumsum(kinds) - kinds, kinds)
            at += np.repeat(start, kinds)
            # p_k = (c * scale + T * p_(k-1)) / (n + T), where the context was seen
            seen = kinds > 0
            mass[seen] *= kinds[seen, None]
            mass[row, keys[at] & (2**_BITS - 1)] += self.counts[length][at] * _SCALE
            mass[seen] //= (sums[stop] - sums[start] + kinds)[seen, None]
        return integer_frequencies(mass, precision=self.precision)

    def save(self, file: Path) -> None:
        """Write all counts as safetensors."""
        arrays = {"shape": np.asarray([self.alphabet, self.precision], np.int64)}
        for i, (keys, counts) in enumerate(zip(self.keys, self.counts, strict=True), start=1):
            arrays |= {f"keys.{i}": keys, f"counts.{i}": counts.astype(np.int32)}
        save_file(arrays, str(file))

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: it is of another alphabet.
        """
        arrays = load_file(str(file))
        lengths = range(1, len(arrays) // 2 + 1)
        alphabet, precision = arrays["shape"].tolist()
        expect(alphabet in (END, END + 1), f"the alphabet of {file}", alphabet, "256 or 257")
        return cls(
            [arrays[f"keys.{i}"] for i in lengths],
            [arrays[f"counts.{i}"].astype(np.int64) for i in lengths],
            alphabet=alphabet,
            precision=precision,
        )
