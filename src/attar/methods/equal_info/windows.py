"""Text as windows of W bits, each of which is coded and read alone, with the byte model at hand.

`StopCoder` is the codec of this project, `PaperCoder` and `DelayCoder` are the paper's (section 3.2
and appendix A.5), of which the first cannot read all that it writes. All of them start the coder
and the model anew with every window, and work in integers only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attar.coding.frequencies import Integers, cumulative, integer_frequencies, share
from attar.errors import ConfigError, DataError

Symbols = NDArray[np.uint16]
Window = tuple[int, ...]

_KEPT = 2**16  # prefixes whose next symbols are remembered, of 2 KB each


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
        """What the coder needs to know of the symbols after a prefix."""

    @abstractmethod
    def _window(self, symbols: Sequence[int], start: int) -> tuple[int, int]:
        """The code of the window that begins at `start`, and where the next one begins."""

    @abstractmethod
    def _string(self, code: int) -> Window:
        """The symbols that a code stands for."""

    def windows(self, symbols: Symbols) -> Iterator[tuple[int, Window]]:
        """Every window's code and the symbols that it was made of."""
        rest = symbols.tolist()
        at = 0
        while at < len(rest):
            code, end = self._window(rest, at)
            yield code, tuple(rest[at:end])
            at = end

    def encode(self, symbols: Symbols) -> NDArray[np.int64]:
        """Codes of symbols, `(S,)` to `(C,)`."""
        return np.asarray([code for code, _ in self.windows(symbols)], np.int64)

    def decode(self, codes: NDArray[np.int64]) -> Symbols:
        """Symbols of codes."""
        found = [symbol for code in codes.tolist() for symbol in self._string(code)]
        return np.asarray(found, np.uint16)

    def wrong(self, symbols: Symbols) -> tuple[int, int]:
        """How many windows are not read as they were written, and how many windows there are."""
        same = [self._string(code) == window for code, window in self.windows(symbols)]
        return same.count(False), len(same)


def deal(counts: Integers, frequencies: Integers, *, precision: int, empty: bool) -> Integers:
    """Cells of each continuation of strings that own so many.

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


class PaperCoder(WindowCoder):
    """The paper's greedy windows: symbols are taken while the shortest code of their interval fits.

    The code is filled up with zeros, and what is read is the longest string of which this is the
    code. Where the first symbol that does not fit shares the code with one that would, a symbol too
    many is read: `wrong` counts such windows.
    """

    def __init__(self, model: ByteModel, *, window_bits: int) -> None:
        super().__init__(model, window_bits=window_bits)
        if 2 ** (window_bits - 2) <= 2 * model.alphabet:
            raise ConfigError(
                f"expected windows of 12 bits or more for the paper's codecs, found {window_bits}: "
                "the rarest byte would not fit"
            )
        # The rarest symbol has to fit into a window.
        self.precision = min(model.precision, window_bits - 2)

    def _look_up(self, prefix: Window) -> Integers:
        frequencies = self.model.frequencies(np.asarray([prefix], np.uint16))
        if self.precision != self.model.precision:
            frequencies = integer_frequencies(frequencies, precision=self.precision)
        return cumulative(frequencies)[0]

    def _codes(self, symbols: Sequence[int], start: int) -> Iterator[int]:
        """The padded code of each string that begins at `start`, for as long as it fits."""
        low, width, scale = 0, 1, 0
        for at in range(start, len(symbols)):
            sums = self._next(tuple(symbols[start:at]))
            first, after = int(sums[symbols[at]]), int(sums[symbols[at] + 1])
            low, width = (low << self.precision) + width * first, width * (after - first)
            scale += self.precision
            bits, index = shortest_code(low, width, scale=scale)
            if bits > self.window_bits:
                return
            yield index << (self.window_bits - bits)

    def _window(self, symbols: Sequence[int], start: int) -> tuple[int, int]:
        codes = list(self._codes(symbols, start))
        return codes[-1], start + len(codes)

    def _matches(self, code: int) -> list[Window]:
        """The strings that lie on the way of a code and have it as theirs, shortest first."""
        low, width, scale = 0, 1, 0
        prefix: Window = ()
        found = []
        while True:
            sums = self._next(prefix)
            scale += self.precision
            # The point code / 2**window_bits, on the grid of this depth, counted from low.
            grid = self.window_bits - scale
            point = code >> grid if grid > 0 else code << -grid
            target = (point - (low << self.precision)) // width
            symbol = int(np.searchsorted(sums, target, side="right")) - 1
            first, after = int(sums[symbol]), int(sums[symbol + 1])
            low, width = (low << self.precision) + width * first, width * (after - first)
            bits, index = shortest_code(low, width, scale=scale)
            if bits > self.window_bits:
                break
            prefix = (*prefix, symbol)
            if index << (self.window_bits - bits) == code:
                found.append(prefix)
        if not found:
            raise DataError(f"no string has the code {code}; it was not written by this coder")
        return found

    def _string(self, code: int) -> Window:
        return self._matches(code)[-1]


class DelayCoder(PaperCoder):
    """The paper's other reading: symbols at the end that add only zeros wait for the next window,
    and the shortest string of a code is read. Nothing is lost, but windows hold less."""

    def _window(self, symbols: Sequence[int], start: int) -> tuple[int, int]:
        codes = list(self._codes(symbols, start))
        return codes[-1], start + codes.index(codes[-1]) + 1

    def _string(self, code: int) -> Window:
        return self._matches(code)[0]


def shortest_code(low: int, width: int, *, scale: int) -> tuple[int, int]:
    """Least bits T, and index k, of an interval `[k, k + 1) / 2**T` that lies in this one.

    Args:
        low: of the interval `[low, low + width) / 2**scale`.
        width: of the interval.
        scale: bits of its denominator.
    """
    bits = max(0, scale - width.bit_length() + 1)  # 2**-bits is not wider than the interval
    while True:
        step = max(0, scale - bits)
        index = -(-low >> step) if bits <= scale else low << (bits - scale)
        if (index + 1) << step <= (low + width) << max(0, bits - scale):
            return bits, index
        bits += 1
