"""Exact inference in a chain of two states: a word begins at a position (1), or it does not (0).

Positions of many texts lie in rows, one text after another, see `features.Layout`. Over a text's
rows t, with s_t = the score of state 1 (that of state 0 is 0) and A[y', y] of a transition,

    log P(y) = sum_t y_t s_t + sum_{t>0} A[y_{t-1}, y_t] - log Z.

States that are excluded at a row have no probability: `allowed[t]` is 1 (state 0 alone), 2 (state
1 alone) or 3. Plain loops over arrays, as numba takes them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attar.compiled import compiled

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Bytes = NDArray[np.uint8]

INSIDE, BEGIN, EITHER = 1, 2, 3


class Marginals(NamedTuple):
    """What is known of each text without deciding on one segmentation.

    Attributes:
        begin: probability of state 1 at each row, `(R,)`; 0 in gaps.
        pairs: expected number of transitions `[y', y]` in each text, `(N, 2, 2)`.
        log_z: log of the sum over all segmentations, `(N,)`.
    """

    begin: Floats
    pairs: Floats
    log_z: Floats


class Paths(NamedTuple):
    """The two best segmentations of each text.

    Attributes:
        states: of the best, `(R,)` uint8; 0 in gaps.
        best: its score before `log_z` is taken away, `(N,)`.
        second: that of the second best, -inf where there is none.
    """

    states: Bytes
    best: Floats
    second: Floats


def marginals(
    scores: Floats, transitions: Floats, *, allowed: Bytes, starts: Rows, stops: Rows
) -> Marginals:
    """Forward and backward over each text.

    Args:
        scores: of state 1, `(R,)`.
        transitions: A, `(2, 2)`.
        allowed: states at each row, `(R,)`.
        starts: first row of each text, `(N,)`.
        stops: one behind its last row, `(N,)`.
    """
    begin = np.zeros(len(scores))
    pairs = np.zeros((len(starts), 2, 2))
    log_z = np.zeros(len(starts))
    _sum(scores, transitions, allowed, starts, stops, begin, pairs, log_z)
    return Marginals(begin, pairs, log_z)


def paths(
    scores: Floats, transitions: Floats, *, allowed: Bytes, starts: Rows, stops: Rows
) -> Paths:
    """The two best segmentations of each text (Viterbi, which keeps two scores of each state);
    arguments as of `marginals`."""
    states = np.zeros(len(scores), np.uint8)
    found = np.full((len(starts), 2), -np.inf)
    _best(scores, transitions, allowed, starts, stops, states, found)
    return Paths(states, found[:, 0], found[:, 1])


def entropies(marginals: Marginals, scores: Floats, transitions: Floats, *, starts: Rows) -> Floats:
    """The entropy of each text's segmentation in nats, `(N,)`: log Z less the expected score."""
    if not len(starts):
        return np.zeros(0)
    # rows of the gap behind a text have no probability
    expected = np.add.reduceat(np.append(marginals.begin * scores, 0.0), starts)
    chained = (marginals.pairs * transitions).sum((1, 2))
    return np.maximum(marginals.log_z - expected - chained, 0.0)


@compiled
def _sum(scores, transitions, allowed, starts, stops, begin, pairs, log_z):
    """Forward probabilities are scaled to sum to 1 at each row, and so stay in range."""
    longest = 0
    for text in range(len(starts)):
        longest = max(longest, stops[text] - starts[text])
    forward = np.zeros((longest, 2))
    factors = np.zeros((longest, 2))  # exp of the scores, the larger one being 1
    scales = np.zeros(longest)
    shift = transitions.max()
    # never 0, so that some state can be reached at every row
    each = np.exp(np.maximum(transitions - shift, -600.0))
    e00, e01, e10, e11 = each[0, 0], each[0, 1], each[1, 0], each[1, 1]
    for text in range(len(starts)):
        first, length = starts[text], stops[text] - starts[text]
        if length == 0:
            continue
        total = 0.0
        for t in range(length):
            score, mask = scores[first + t], allowed[first + t]
            if mask == 3:
                top = max(score, 0.0)
                factors[t, 0], factors[t, 1] = np.exp(-top), np.exp(score - top)
            elif mask == 2:
                top = score
                factors[t, 0], factors[t, 1] = 0.0, 1.0
            else:
                top = 0.0
                factors[t, 0], factors[t, 1] = 1.0, 0.0
            if t == 0:
                zero, one = factors[t, 0], factors[t, 1]
            else:
                top += shift
                a, b = forward[t - 1, 0], forward[t - 1, 1]
                zero = (a * e00 + b * e10) * factors[t, 0]
                one = (a * e01 + b * e11) * factors[t, 1]
            scales[t] = zero + one
            forward[t, 0], forward[t, 1] = zero / scales[t], one / scales[t]
            total += top + np.log(scales[t])
        log_z[text] = total
        zero = one = 1.0  # backward, scaled so that forward * backward is a probability
        for t in range(length - 1, -1, -1):
            begin[first + t] = forward[t, 1] * one
            if t > 0:
                zero *= factors[t, 0] / scales[t]
                one *= factors[t, 1] / scales[t]
                a, b = forward[t - 1, 0], forward[t - 1, 1]
                pairs[text, 0, 0] += a * e00 * zero
                pairs[text, 0, 1] += a * e01 * one
                pairs[text, 1, 0] += b * e10 * zero
                pairs[text, 1, 1] += b * e11 * one
                zero, one = e00 * zero + e01 * one, e10 * zero + e11 * one


@compiled
def _best(scores, transitions, allowed, starts, stops, states, found):
    longest = 0
    for text in range(len(starts)):
        longest = max(longest, stops[text] - starts[text])
    back = np.zeros((longest, 2), np.uint8)  # the state before, on the best path to a state
    now, new = np.zeros((2, 2)), np.zeros((2, 2))  # [state, rank]
    for text in range(len(starts)):
        first, length = starts[text], stops[text] - starts[text]
        if length == 0:
            found[text, 0] = 0.0
            continue
        mask = allowed[first]
        now[:] = -np.inf
        if mask & 1:
            now[0, 0] = 0.0
        if mask & 2:
            now[1, 0] = scores[first]
        for t in range(1, length):
            mask = allowed[first + t]
            for state in range(2):
                if not mask & (state + 1):
                    new[state, 0] = new[state, 1] = -np.inf
                    continue
                a, b = now[0, 0] + transitions[0, state], now[1, 0] + transitions[1, state]
                if b > a:
                    back[t, state] = 1
                    high, low = b, max(a, now[1, 1] + transitions[1, state])
                else:
                    back[t, state] = 0
                    high, low = a, max(b, now[0, 1] + transitions[0, state])
                here = scores[first + t] if state else 0.0
                new[state, 0], new[state, 1] = high + here, low + here
            now, new = new, now
        state = 1 if now[1, 0] > now[0, 0] else 0
        found[text, 0] = now[state, 0]
        found[text, 1] = max(now[1 - state, 0], now[state, 1])
        for t in range(length - 1, -1, -1):
            states[first + t] = state
            state = back[t, state]
