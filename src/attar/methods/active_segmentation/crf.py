"""The weights of a conditional random field of two states, from labels of which some may be
unknown.

Of a text x with labels y at the decided positions, the loss is -log P(y | x) = log Z - log Z_y,
where Z_y sums over the segmentations that agree with y. With everything decided it is that of an
ordinary CRF.

Tsuboi, Kashima, Mori, Oda, Matsumoto: Training Conditional Random Fields Using Incomplete
Annotations, COLING 2008.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attar.data.segments.cuts import Segmented
from attar.methods.active_segmentation.chain import EITHER, Bytes, Floats, marginals
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.dictionary import Dictionary
from attar.methods.active_segmentation.features import Layout, feature_matrix, lay_out
from attar.methods.active_segmentation.fitting import (
    Indices,
    Loss,
    add_up,
    compact,
    constrained,
    minimum,
    permitted,
    spread,
    tags_of,
)


class Weights(NamedTuple):
    """Of a linear segmenter.

    Attributes:
        used: the features that have a weight, increasing, `(F,)`.
        values: their weights, `(F,)`.
        transitions: A[y', y], `(2, 2)`.
    """

    used: NDArray[np.int64]
    values: Floats
    transitions: Floats


def fit_crf(
    rows: Sequence[Segmented],
    *,
    config: SegmenterConfig,
    dictionary: Dictionary | None,
    weights: Floats,
) -> list[Weights]:
    """Fit one CRF for each row of `weights`.

    Args:
        rows: sentences with cuts, all or some decided.
        config: of the segmenter.
        dictionary: or None.
        weights: of the sentences, `(K, N)`.
    """
    layout = lay_out([row.text for row in rows], tags=tags_of(rows, config))
    allowed = permitted(layout, legal=config.legal)
    agreeing = constrained(rows, layout, allowed=allowed)
    # elsewhere the score makes no difference
    open_rows = np.flatnonzero(allowed == EITHER)
    matrix = feature_matrix(layout, dictionary=dictionary, bits=config.hash_bits, rows=open_rows)
    used = compact(matrix, bits=config.hash_bits)
    found = []
    for one in weights:
        loss = chain_loss(
            matrix, layout, allowed=allowed, agreeing=agreeing, weights=one, c2=config.c2
        )
        values = minimum(loss, size=len(used) + 4, iterations=config.iterations)
        found.append(Weights(used, values[:-4], values[-4:].reshape(2, 2)))
    return found


def chain_loss(
    matrix: Indices,
    layout: Layout,
    *,
    allowed: Bytes,
    agreeing: Bytes,
    weights: Floats,
    c2: float,
) -> Loss:
    """The loss and its gradient as a function of the weights of features and 4 of transitions.

    Each weight of a feature is the difference of CRFsuite's two, of state 1 and of state 0. Those
    are opposite where their penalty c2 (w_1^2 + w_0^2) is least, so that c2 w^2 / 2 is the same.

    Args:
        matrix: the features of the rows where both states are allowed, `(E, F)`.
        layout: of the texts.
        allowed: states at each row, `(R,)`.
        agreeing: those of them that agree with the labels, `(R,)`.
        weights: of the texts, `(N,)`.
        c2: strength of the penalty.
    """
    texts = {"starts": layout.starts, "stops": layout.stops}
    open_rows = np.flatnonzero(allowed == EITHER)
    of_row = weights[np.searchsorted(layout.starts, open_rows, side="right") - 1]
    known = bool((agreeing[open_rows] != EITHER).all())
    path = marginals(np.zeros(layout.rows), np.zeros((2, 2)), allowed=agreeing, **texts)
    labels = path.begin[open_rows]

    def agreement(scores: Floats, transitions: Floats) -> tuple[Floats, Floats, float]:
        """Of the segmentations that agree: chances of a word, transitions, and log Z_y."""
        if known:  # there is one
            chained = weights @ (path.pairs * transitions).sum((1, 2))
            return labels, path.pairs, float(chained + (of_row * scores[open_rows]) @ labels)
        bound = marginals(scores, transitions, allowed=agreeing, **texts)
        return bound.begin[open_rows], bound.pairs, float(weights @ bound.log_z)

    def loss(values: Floats) -> tuple[float, Floats]:
        transitions = values[-4:].reshape(2, 2)
        scores = np.zeros(layout.rows)
        scores[open_rows] = add_up(matrix, values)
        free = marginals(scores, transitions, allowed=allowed, **texts)
        begin, pairs, log_z = agreement(scores, transitions)
        gradient = c2 * values
        gradient[-4:] *= 2
        penalty = values @ gradient / 2
        spread((free.begin[open_rows] - begin) * of_row, matrix, gradient)
        gradient[-4:] += np.einsum("n,nij->ij", weights, free.pairs - pairs).ravel()
        return float(weights @ free.log_z - log_z + penalty), gradient

    return loss
