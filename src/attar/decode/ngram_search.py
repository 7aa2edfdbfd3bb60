"""Searching positions that are sorted by what stands before them, compiled.

A context is given from its end: `context[0]` is its last token. The positions that follow it are
one range, in which those of every longer context are one range again. Before the first token of a
text stands its last one. The functions are plain loops
over arrays with positional parameters, as numba takes them.
"""

import numpy as np

from attar.compiled import compiled


@compiled
def _first(tokens, positions, low, high, back, token):
    """The first of `positions[low:high]` that has `token` or a larger one `back` places before."""
    while low < high:
        middle = (low + high) // 2
        # also of a damaged file nothing is read beside its ends
        at = min(np.int64(positions[middle]), len(tokens) - 1) - back
        if at < 0:
            at = max(at + len(tokens), 0)
        if tokens[at] < token:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def narrow(tokens, positions, starts, context, ranges):
    """Fill `ranges[i]` with where the positions after the last `i + 1` tokens lie, `(L, 2)`; a row
    stays as it is where there are none."""
    low = high = 0
    for i in range(len(context)):
        token = context[i]
        if i == 0:
            if token < 0 or token >= len(starts) - 1:
                return
            low, high = np.int64(starts[token]), np.int64(starts[token + 1])
            high = min(high, len(positions))
        else:
            low = _first(tokens, positions, low, high, i + 1, token)
            high = _first(tokens, positions, low, high, i + 1, token + 1)
        if low >= high:
            return
        ranges[i, 0], ranges[i, 1] = low, high


@compiled
def count(tokens, positions, starts, context, ranges, candidates, counts):
    """Add to `counts[i, c]` how often candidate c follows the last `i + 1` tokens, `(L, C)`, given
    the `ranges` of the context.

    For all but the longest context that is how many positions come after the context and the
    candidate together; within the longest one positions are sorted by their own token.
    """
    length, longest = len(context), len(counts)
    key = np.zeros(min(length, longest - 1) + 1, np.int64)
    for i in range(1, len(key)):
        key[i] = context[i - 1]
    after = np.zeros((len(key), 2), np.int64)
    for c in range(len(candidates)):
        key[0] = candidates[c]
        for i in range(len(key)):
            after[i, 0] = after[i, 1] = 0
        narrow(tokens, positions, starts, key, after)
        for i in range(1, len(key)):
            counts[i - 1, c] += after[i, 1] - after[i, 0]
        if length == longest:
            low, high = ranges[longest - 1, 0], ranges[longest - 1, 1]
            low = _first(tokens, positions, low, high, 0, key[0])
            counts[longest - 1, c] += _first(tokens, positions, low, high, 0, key[0] + 1) - low
