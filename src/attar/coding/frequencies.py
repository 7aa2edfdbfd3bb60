"""Probabilities as integers that add up to a power of two, the only form in which they are coded.

Two machines may disagree about the last bit of a softmax; about integers they cannot. Whatever is
coded from `integer_frequencies` on is exact.
"""

import numpy as np
from numpy.typing import NDArray

from attar.errors import ConfigError, DataError

Integers = NDArray[np.int64]

MAX_PRECISION = 24
"""Bits of a frequency; with cells of up to 32 bits, products stay within 63."""


def integer_frequencies(weights: NDArray[np.float64] | Integers, *, precision: int) -> Integers:
    """Frequencies `(B, A)`, each at least 1, of which every row adds up to `2**precision`.

    `F = floor(p * (2**precision - A)) + 1`; what is missing goes to the most likely symbol, the
    first of equals. The 1 costs `A / 2**precision` of the mass.

    Args:
        weights: `(B, A)`, not negative; a row need not add up to 1. Integers are divided exactly
            and may be at most `2**38`; floats are taken to float64.
        precision: bits, more than A takes.

    Raises:
        ConfigError: the precision is too small for the alphabet, or above 24.
        DataError: a weight is negative or not finite, or a row has none above 0.
    """
    symbols = weights.shape[-1]
    _require_precision(precision, symbols)
    spare = 2**precision - symbols
    if np.issubdtype(weights.dtype, np.integer):
        whole = weights.astype(np.int64)
        total = whole.sum(axis=-1, keepdims=True)
        if (whole < 0).any() or (total <= 0).any():
            raise DataError(_bad(whole))
        frequencies = whole * spare // total + 1
    else:
        mass = weights.astype(np.float64)
        total = mass.sum(axis=-1, keepdims=True)
        if not (np.isfinite(total) & (total > 0)).all() or (mass < 0).any():
            raise DataError(_bad(mass))
        frequencies = np.floor(mass / total * spare).astype(np.int64) + 1
    # Rounding in float64 may put a row of floats above the sum by a little: never below 1.
    missing = 2**precision - frequencies.sum(axis=-1)
    likeliest = weights.argmax(axis=-1)
    np.put_along_axis(
        frequencies,
        likeliest[..., None],
        np.take_along_axis(frequencies, likeliest[..., None], axis=-1) + missing[..., None],
        axis=-1,
    )
    return frequencies


def cumulative(frequencies: Integers) -> Integers:
    """`(B, A)` frequencies as `(B, A + 1)` sums: symbol s owns `[C[s], C[s + 1])`."""
    start = np.zeros((*frequencies.shape[:-1], 1), np.int64)
    return np.concatenate([start, frequencies.cumsum(axis=-1)], axis=-1)


def share(cells: Integers, frequencies: Integers, *, precision: int) -> Integers:
    """Deal `cells` out in proportion to frequencies, by largest remainder.

    `q = floor(a * F / 2**precision)`; the `a - sum(q)` cells that are left go one each to the
    symbols with the largest `a * F mod 2**precision`, the first of equals.

    Args:
        cells: `(B,)` of a, each at most `2**(62 - precision)`.
        frequencies: `(B, A)`, rows that add up to `2**precision`.
        precision: bits of a frequency.

    Returns:
        `(B, A)`, not negative, rows that add up to `cells`.
    """
    scaled = cells[:, None] * frequencies
    dealt = scaled >> precision
    left = cells - dealt.sum(axis=-1)
    order = np.argsort(-(scaled & (2**precision - 1)), axis=-1, kind="stable")
    extra = np.arange(frequencies.shape[-1]) < left[:, None]
    np.put_along_axis(dealt, order, np.take_along_axis(dealt, order, axis=-1) + extra, axis=-1)
    return dealt


def _require_precision(precision: int, symbols: int) -> None:
    if not 2**precision > 2 * symbols or precision > MAX_PRECISION:
        least = (2 * symbols).bit_length()
        raise ConfigError(
            f"expected a precision of {least} to {MAX_PRECISION} bits for an alphabet of "
            f"{symbols}, found {precision}"
        )


def _bad(weights: NDArray[np.generic]) -> str:
    return (
        "expected weights of symbols that are finite, not negative and not all 0, found "
        f"{weights.min()} to {weights.max()}; the model's probabilities are damaged"
    )
