"""Plain loops over arrays as machine code, by numba."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code, kept for the next process where there is a folder for it: it takes seconds."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this package nor the user's cache can be written to
        return njit(nogil=True)(function)
