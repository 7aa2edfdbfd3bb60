"""All strings of equal-information windows, listed once: no model is needed after that."""

import numpy as np

from attar.coding.frequencies import cumulative
from attar.equal_info_windows import COMPILED, WindowDictionary
from attar.errors import ConfigError
from attar.methods.equal_info.windows import ByteModel, deal

_ROWS = 4096  # strings whose next symbols are worked out at a time


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
        found: list[tuple[np.ndarray, ...]] = []
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
            longer = np.column_stack([prefixes[rows][row], next_symbol.astype(np.uint16)])
            found.append((codes[more], dealt[row, next_symbol], longer))
        lows, counts, prefixes = (np.concatenate(part) for part in zip(*found, strict=True))
    return WindowDictionary(parent, symbol, window_bits=window_bits)
