"""The paper's own coders of windows (section 3.2 and appendix A.5), to compare with `StopCoder`.

`PaperCoder` cannot read all that it writes; `DelayCoder` can, and its windows hold less. Both start
the coder and the byte model again with every window, and work in integers only.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from attar.coding.frequencies import Integers, cumulative, integer_frequencies
from attar.coding.windows import ByteModel, Window, WindowCoder
from attar.errors import ConfigError, DataError


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
        matches = []
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
                matches.append(prefix)
        if not matches:
            raise DataError(f"no string has the code {code}; it was not written by this coder")
        return matches

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
