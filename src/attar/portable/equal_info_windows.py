"""The table of equal-information windows: a string for every code, and the walks through it.

Travels with every tokenizer next to `tokenization_equal_info.py`; it needs numpy and safetensors
alone, and numba for speed.
"""

import hashlib
import logging
from functools import cache, cached_property

import numpy as np
from safetensors.numpy import load_file, save_file

logger = logging.getLogger(__name__)

FORMAT = 1
COMPILED = 20
"""Bits of a window up to which all strings are listed."""
END = 256
"""The symbol after the 256 bytes: the end of a document, where that is coded inside windows."""
LISTED = 2**25
"""Symbols of all strings of a dictionary together: a model's have some ten each, a forged file
could have 2**39."""
PIECE = 2**22
"""Symbols encoded at a time; each may take one code of 4 bytes."""

_EMPTY = -1
_GOLDEN = 2654435769  # 2**32 over the golden ratio spreads keys (Knuth, volume 3, 6.4)


# ------------------------------------------------------------------------------------- the walks
# Plain Python that numba compiles. A key is 512 * (code + 1) + symbol, below 2**30.


def _fill_table(parent, symbol, keys, codes, shift):
    """Enter every (parent, symbol) -> code into an open hash table."""
    last = len(keys) - 1
    for code in range(len(parent)):
        key = 512 * (np.int64(parent[code]) + 1) + np.int64(symbol[code])
        slot = ((key * _GOLDEN) & 0xFFFFFFFF) >> shift
        while keys[slot] != _EMPTY:
            slot = (slot + 1) & last
        keys[slot] = key
        codes[slot] = code


def _walk(symbols, keys, codes, shift, matches):
    """Longest matches from the left: how many there are, and where the last one begins."""
    last = len(keys) - 1
    at, began, count = 0, 0, 0
    while at < len(symbols):
        code, began = -1, at
        while at < len(symbols):
            key = 512 * (code + 1) + np.int64(symbols[at])
            slot = ((key * _GOLDEN) & 0xFFFFFFFF) >> shift
            while keys[slot] != key and keys[slot] != _EMPTY:
                slot = (slot + 1) & last
            if keys[slot] == _EMPTY:
                break
            code = np.int64(codes[slot])
            at += 1
        matches[count] = code
        count += 1
    return count, began


@cache
def _compiled():
    try:
        from numba import njit
    except ImportError:
        logger.warning("numba is not installed, so that encoding is slow: pip install numba")
        return _fill_table, _walk
    return njit(_fill_table), njit(_walk)


def regroup(values, *, bits, to_bits):
    """Integers of `bits` bits as integers of `to_bits`, highest bit first, zeros at the end."""
    values = np.asarray(values)
    if bits == to_bits:
        return values
    piece = to_bits * 2**14  # so many values fill whole integers
    parts = [_regroup(values[i : i + piece], bits, to_bits) for i in range(0, len(values), piece)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _regroup(values, bits, to_bits):
    ones = (values[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    padded = np.zeros(-(-ones.size // to_bits) * to_bits, np.int64)
    padded[: ones.size] = ones.ravel()
    return padded.reshape(-1, to_bits) @ (1 << np.arange(to_bits - 1, -1, -1))


def bytes_among(symbols):
    """The bytes among symbols, without ends of documents."""
    if symbols.dtype != np.uint8:
        symbols = symbols[symbols < END].astype(np.uint8)
    return symbols.tobytes()


class WindowDictionary:
    """The string of every window code: a trie of which node `code` ends in `symbol[code]`.

    Args:
        parent: `(2**window_bits,)` codes, -1 for a string of one symbol. A code is larger than its
            parent's, so that the codes are a walk of the trie in order.
        symbol: `(2**window_bits,)`, the last symbol of each string: a byte, or `END`.
        window_bits: bits of a code.
    """

    def __init__(self, parent, symbol, *, window_bits):
        self.parent = np.asarray(parent, np.int32)
        self.symbol = np.asarray(symbol, np.uint16)
        self.window_bits = window_bits
        codes = np.arange(2**window_bits)
        fits = self.parent.shape == self.symbol.shape == codes.shape
        roots = self.symbol[self.parent == -1] if fits else ()
        fits = fits and np.isin(np.arange(256), roots).all()
        if not fits or (self.parent >= codes).any() or (self.parent < -1).any():
            raise ValueError(
                f"expected a dictionary of {len(codes)} codes, each after its parent's and every "
                f"byte among them, found another one ({self.parent.shape[0]} codes); it is "
                "damaged, take another copy"
            )
        if (size := int(self.lengths.sum())) > LISTED:
            raise ValueError(
                f"expected a dictionary whose strings have at most {LISTED} symbols together, "
                f"found {size}; it is damaged, take another copy"
            )
        self._last = int(roots.max())

    def __reduce__(self):
        """The two arrays, without what is made of them."""
        return _made, (self.parent, self.symbol, self.window_bits)

    @cached_property
    def digest(self):
        """SHA-256 of the window's bits and of both arrays, the same on every machine."""
        head = f"equal-info windows {FORMAT} {self.window_bits}\n".encode()
        parts = (self.parent.astype("<i4").tobytes(), self.symbol.astype("<u2").tobytes())
        return hashlib.sha256(b"".join((head, *parts))).digest()

    @cached_property
    def lengths(self):
        """Symbols of each code's string."""
        lengths, above = np.ones(len(self.parent), np.int64), self.parent.copy()
        while len(alive := np.flatnonzero(above >= 0)):
            # `above` is as many steps up as `lengths` counts: both double
            lengths[alive] += lengths[above[alive]]
            above[alive] = above[above[alive]]
        return lengths

    @cached_property
    def _strings(self):
        """Where each code's string begins, and all strings in one array."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        strings = np.zeros(starts[-1], np.uint8 if self._last < END else np.uint16)
        at, above = starts[1:] - 1, np.arange(len(self.parent))
        while len(above):
            strings[at] = self.symbol[above]
            above = self.parent[above]
            at, above = (at - 1)[above >= 0], above[above >= 0]
        return starts, strings

    @cached_property
    def _table(self):
        bits = self.window_bits + 1
        keys, codes = np.full(2**bits, _EMPTY, np.int32), np.zeros(2**bits, np.int32)
        shift = 32 - bits
        _compiled()[0](self.parent, self.symbol, keys, codes, shift)
        return keys, codes, shift

    def encode(self, symbols):
        """Codes of the longest matches, `(S,)` symbols to `(C,)` int32. Every byte is a string of
        the table, so there always is a match."""
        symbols, walk = np.asarray(symbols), _compiled()[1]
        if len(symbols) and symbols.max() > self._last:
            raise ValueError(
                f"expected symbols of 0 to {self._last}, found {symbols.max()}; this tokenizer "
                "codes no ends of documents inside windows"
            )
        parts, at = [], 0
        while at < len(symbols):
            piece = symbols[at : at + PIECE]
            codes = np.empty(len(piece), np.int32)
            count, began = walk(piece, *self._table, codes)
            # A string that the end of a piece cuts off opens the next one, unless it is all of it.
            whole = at + len(piece) == len(symbols) or began == 0
            parts.append(codes[: count if whole else count - 1].copy())
            at += len(piece) if whole else began
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def sizes(self, codes):
        """Symbols of the string of each code."""
        return self.lengths[codes]

    def decode(self, codes):
        """The symbols that codes stand for, `(C,)` to `(S,)` uint8; uint16 where `END` is coded."""
        codes = np.asarray(codes, np.int64)
        starts, strings = self._strings
        lengths = self.lengths[codes]
        shift = np.repeat(starts[codes] - (np.cumsum(lengths) - lengths), lengths)
        return strings[shift + np.arange(len(shift))]

    @cached_property
    def first(self):
        """First symbol of each code's string."""
        starts, strings = self._strings
        return strings[starts[:-1]]

    def extensions(self, code):
        """The symbols that would make the string of a code longer; the next code of a canonical
        sequence begins with none of them."""
        order, parents = self._children
        return self.symbol[order[slice(*np.searchsorted(parents, (code, code + 1)))]]

    @cached_property
    def _children(self):
        """Codes by their parents, and those parents."""
        order = np.argsort(self.parent, kind="stable")
        return order, self.parent[order]

    def starting_with(self, symbols):
        """Codes whose strings begin with these symbols."""
        code = -1
        for one in symbols:
            below = np.flatnonzero((self.parent == code) & (self.symbol == one))
            if not len(below):
                return np.zeros(0, np.int64)
            code = int(below[0])
        outside = np.flatnonzero(self.parent[code + 1 :] < code)  # codes are in walking order
        return np.arange(code, code + 1 + outside[0] if len(outside) else len(self.parent))

    def save(self, file):
        """Write both arrays as safetensors."""
        save_file({"parent": self.parent, "symbol": self.symbol}, str(file))

    @classmethod
    def load(cls, file, *, window_bits):
        """Read what `save` wrote."""
        arrays = load_file(str(file))
        return cls(arrays["parent"], arrays["symbol"], window_bits=window_bits)


def _made(parent, symbol, window_bits):
    return WindowDictionary(parent, symbol, window_bits=window_bits)
