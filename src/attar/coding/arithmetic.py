"""An exact arithmetic coder over any model that gives integer frequencies.

The coder of Witten, Neal and Cleary (1987), with 62-bit registers in Python's integers: symbols
become bits without loss, in about as many bits as the model needs. Nothing here rounds.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from attar.errors import DataError

NextCdf = Callable[[Sequence[int]], Sequence[int]]
"""From the symbols so far to the cumulative frequencies of the next: `A + 1` rising integers from 0
to a total that is at most `2**30`."""

_BITS = 62
_MOST = 2**30
_TOP, _HALF, _QUARTER = (1 << _BITS) - 1, 1 << (_BITS - 1), 1 << (_BITS - 2)


def encode(symbols: Iterable[int], next_cdf: NextCdf) -> list[int]:
    """The bits, as 0 and 1, that `decode` turns back into these symbols.

    Zeros may be put after them, so they can be filled up to whole bytes. How many symbols there
    are is not in them.
    """
    low, high, pending = 0, _TOP, 0
    bits: list[int] = []
    seen: list[int] = []

    def put(bit: int) -> None:
        nonlocal pending
        bits.append(bit)
        bits.extend([1 - bit] * pending)
        pending = 0

    for symbol in symbols:
        low, high = _narrow(low, high, next_cdf(seen), symbol)
        seen.append(symbol)
        while True:
            if high < _HALF:
                put(0)
            elif low >= _HALF:
                put(1)
                low, high = low - _HALF, high - _HALF
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                pending += 1
                low, high = low - _QUARTER, high - _QUARTER
            else:
                break
            low, high = 2 * low, 2 * high + 1
    # The shortest bits all of whose continuations lie in [low, high].
    if seen:
        if low == 0 and high == _TOP and not pending:
            return bits
        pending += 1
        put(0 if low < _QUARTER else 1)
    return bits


def decode(bits: Sequence[int], next_cdf: NextCdf, *, length: int) -> list[int]:
    """The `length` symbols that these bits stand for; bits beyond the last count as 0.

    Bits of another model, or damaged ones, give other symbols: any bits stand for something.

    Raises:
        DataError: the model's sums do not rise from 0.
    """
    low, high = 0, _TOP
    ahead = iter(bits)
    value = 0
    for _ in range(_BITS):
        value = 2 * value + next(ahead, 0)
    symbols: list[int] = []
    for _ in range(length):
        cdf = next_cdf(symbols)
        width = high - low + 1
        target = ((value - low + 1) * int(cdf[-1]) - 1) // width
        symbol = bisect_right(cdf, target) - 1
        low, high = _narrow(low, high, cdf, symbol)
        symbols.append(symbol)
        while True:
            if high < _HALF:
                pass
            elif low >= _HALF:
                low, high, value = low - _HALF, high - _HALF, value - _HALF
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                low, high, value = low - _QUARTER, high - _QUARTER, value - _QUARTER
            else:
                break
            low, high, value = 2 * low, 2 * high + 1, 2 * value + next(ahead, 0)
    return symbols


def _narrow(low: int, high: int, cdf: Sequence[int], symbol: int) -> tuple[int, int]:
    """The part of `[low, high]` that belongs to a symbol."""
    if not 0 <= symbol < len(cdf) - 1:
        raise DataError(f"expected a symbol of 0 to {len(cdf) - 2}, found {symbol}")
    # int(): numbers of numpy would overflow
    first, after, total = int(cdf[symbol]), int(cdf[symbol + 1]), int(cdf[-1])
    if not 0 <= first < after <= total <= _MOST:
        raise DataError(
            f"expected rising sums up to {_MOST} with a share for symbol {symbol}, found "
            f"{first} to {after} of {total}"
        )
    width = high - low + 1
    return low + width * first // total, low + width * after // total - 1
