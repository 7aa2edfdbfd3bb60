"""Symbols as windows of W bits each, which are coded and read alone.

A byte model says which symbols are likely; it and the coder start over with every window. So a
window's code always stands for the same string, however text went before it, and the strings of all
`2**W` codes are a fixed table: `compile_windows` lists them once, up to 20 bits, and no model is
needed after that. Longer windows are worked out as they come (`LiveWindows`).

`StopCoder` is the coder: it shares the codes out as cells, of which each string keeps the first one
for itself. Other coders derive from `WindowCoder`, as those of Lester et al. (2024) do.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attar.coding.frequencies import Integers, cumulative, share
from attar.coding.ngram import NgramModel, Symbols
from attar.errors import ConfigError
from attar.portable.equal_info_windows import COMPILED, WindowDictionary

Window = tuple[int, ...]
"""The symbols of one window, or the first of them."""

_KEPT = 2**16  # prefixes whose next symbols are remembered, of 2 KB each
_ROWS = 4096  # strings whose next symbols are worked out at a time


class ByteModel(Protocol):
    """M1: what comes after the symbols of a window so far."""

    kind: str
    alphabet: int
    precision: int

    def frequencies(self, prefixes: Symbols) -> Integers:
        """`(B, D)` prefixes of one length to `(B, A)` integers that add up to `2**precision`."""
        ...


class WindowCoder(ABC):
    """Cuts symbols into windows with a byte model, without listing all windows there are."""

    def __init__(self, model: ByteModel, *, window_bits: int) -> None:
        self.model, self.window_bits = model, window_bits
        self._next = lru_cache(_KEPT)(self._look_up)

    def __reduce__(self) -> Any:
        """Without what is remembered."""
        return partial(type(self), window_bits=self.window_bits), (self.model,)

    @abstractmethod
    def _look_up(self, prefix: Window) -> Integers:
        """What the coder needs to know of the symbols after a prefix: cumulative numbers,
        `(A + 1,)` for an alphabet of A."""

    @abstractmethod
    def _window(self, symbols: Sequence[int], start: int) -> tuple[int, int]:
        """The code of the window that begins at `start`, and where the next one begins."""

    @abstractmethod
    def _string(self, code: int) -> Window:
        """The symbols that a code stands for."""

    def windows(self, symbols: Symbols) -> Iterator[tuple[int, Window]]:
        """Every window's code and the symbols that it was made of, in order.

        Args:
            symbols: `(S,)` uint16, each below the model's `alphabet`; none gives no window.
        """
        rest = symbols.tolist()
        at = 0
        while at < len(rest):
            code, end = self._window(rest, at)
            yield code, tuple(rest[at:end])
            at = end

    def encode(self, symbols: Symbols) -> NDArray[np.int64]:
        """Codes of symbols, `(S,)` uint16 to `(C,)` int64, each of `window_bits` bits."""
        return np.asarray([code for code, _ in self.windows(symbols)], np.int64)

    def decode(self, codes: NDArray[np.int64]) -> Symbols:
        """Symbols of codes, `(C,)` int64 to `(S,)` uint16."""
        symbols = [symbol for code in codes.tolist() for symbol in self._string(code)]
        return np.asarray(symbols, np.uint16)

    def wrong(self, symbols: Symbols) -> tuple[int, int]:
        """How many windows of `(S,)` symbols are not read as they were written, and how many
        windows there are."""
        same = [self._string(code) == window for code, window in self.windows(symbols)]
        return same.count(False), len(same)


class StopCoder(WindowCoder):
    """Cells in place of intervals: of a string's codes the first one says that it ends here.

    A string owns the codes lo ... lo + n - 1. The first is its own, unless it is empty; the others
    are dealt to its continuations in proportion to the model (`deal`), and who gets one exists.
    So every code is one string, every string's beginnings are strings, and a window can end at any
    symbol. (It is a variable-to-fixed code, as Tunstall's of 1967, read by longest match.)
    """

    def _look_up(self, prefix: Window) -> Integers:
        """`(A + 1,)` cumulative cells of the continuations of a string, from its own lo on."""
        dealt = deal(
            np.asarray([self._cells(prefix)]),
            self.model.frequencies(np.asarray([prefix], np.uint16)),
            precision=self.model.precision,
            empty=not prefix,
        )
        return bool(prefix) + cumulative(dealt)[0]

    def _cells(self, prefix: Window) -> int:
        """How many codes a string owns."""
        if not prefix:
            return 2**self.window_bits
        above = self._next(prefix[:-1])
        return int(above[prefix[-1] + 1] - above[prefix[-1]])

    def _window(self, symbols: Sequence[int], start: int) -> tuple[int, int]:
        prefix: Window = ()
        lo, count = 0, 2**self.window_bits
        for at in range(start, len(symbols)):
            if count == 1:
                return lo, at
            cells = self._next(prefix)
            first, after = int(cells[symbols[at]]), int(cells[symbols[at] + 1])
            if first == after:
                return lo, at
            lo, count, prefix = lo + first, after - first, (*prefix, symbols[at])
        return lo, len(symbols)

    def _string(self, code: int) -> Window:
        prefix: Window = ()
        lo = 0
        while not prefix or code > lo:
            cells = self._next(prefix)
            symbol = int(np.searchsorted(cells, code - lo, side="right")) - 1
            lo, prefix = lo + int(cells[symbol]), (*prefix, symbol)
        return prefix


class LiveWindows(StopCoder):
    """What `WindowDictionary` is for short windows, for long ones: strings are not listed but
    worked out with the byte model when they are needed.

    Args:
        model: counts of n-grams; it is saved with the tokenizer.
        window_bits: up to 32.
    """

    def __init__(self, model: NgramModel, *, window_bits: int) -> None:
        super().__init__(model, window_bits=window_bits)
        self._counts = model

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the window's bits and all counts."""
        digest = hashlib.sha256(f"live windows 1 {self.window_bits}\n".encode())
        digest.update(np.asarray([self.model.alphabet, self.model.precision], "<i8").tobytes())
        for keys, counts in zip(self._counts.keys, self._counts.counts, strict=True):
            digest.update(keys.astype("<i8").tobytes() + counts.astype("<i8").tobytes())
        return digest.digest()

    def sizes(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many symbols the string of each code has, `(C,)` to `(C,)`."""
        return np.asarray([len(self._string(int(code))) for code in codes], np.int64)

    def save(self, file: str | Path) -> None:
        """Write the counts."""
        self._counts.save(Path(file))

    @classmethod
    def load(cls, file: str | Path, *, window_bits: int) -> "LiveWindows":
        """Read what `save` wrote.

        Args:
            file: of the counts.
            window_bits: bits of a window, which the file does not hold.
        """
        return cls(NgramModel.load(Path(file)), window_bits=window_bits)


def compile_windows(model: ByteModel, *, window_bits: int) -> WindowDictionary:
    """The string of every code of `StopCoder`, breadth first.

    Raises:
        ConfigError: there are more than `2**20` codes.
    """
    if window_bits > COMPILED:
        raise ConfigError(
            f"expected windows of at most {COMPILED} bits to list all strings of, found "
            f"{window_bits}"
        )
    size = 2**window_bits
    parent, symbol = np.full(size, -1, np.int32), np.zeros(size, np.uint16)
    lows, counts = np.zeros(1, np.int64), np.full(1, size)
    prefixes = np.zeros((1, 0), np.uint16)
    while len(lows):
        nonempty = prefixes.shape[1] > 0
        longer: list[tuple[np.ndarray, ...]] = []  # lows, counts and prefixes of the next depth
        for at in range(0, len(lows), _ROWS):
            rows = slice(at, at + _ROWS)
            dealt = deal(
                counts[rows],
                model.frequencies(prefixes[rows]),
                precision=model.precision,
                empty=not nonempty,
            )
            first = lows[rows, None] + nonempty + cumulative(dealt)[:, :-1]
            row, next_symbol = np.nonzero(dealt)
            codes = first[row, next_symbol]
            parent[codes] = lows[rows][row] if nonempty else -1
            symbol[codes] = next_symbol
            more = dealt[row, next_symbol] > 1
            row, next_symbol = row[more], next_symbol[more]
            strings = np.column_stack([prefixes[rows][row], next_symbol.astype(np.uint16)])
            longer.append((codes[more], dealt[row, next_symbol], strings))
        lows, counts, prefixes = (np.concatenate(part) for part in zip(*longer, strict=True))
    return WindowDictionary(parent, symbol, window_bits=window_bits)


def deal(counts: Integers, frequencies: Integers, *, precision: int, empty: bool) -> Integers:
    """How many cells each continuation of a string owns.

    A string's first cell is its own; the empty string needs none, and gives every symbol one
    beforehand, so that all can begin a window.

    Args:
        counts: `(B,)` cells of the strings.
        frequencies: `(B, A)` of what comes next.
        precision: bits of a frequency.
        empty: whether the strings are empty.
    """
    if empty:
        spare = counts - frequencies.shape[-1]
        return 1 + share(spare, frequencies, precision=precision)
    return share(counts - 1, frequencies, precision=precision)
