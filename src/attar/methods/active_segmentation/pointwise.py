"""The weights of a logistic regression at each position by itself.

It takes partial labels as they are, and only decided positions cost time: the segmenter for
boundary queries. Neubig, Nakata, Mori: Pointwise Prediction for Robust, Adaptable Japanese
Morphological Analysis, ACL 2011.
"""

from collections.abc import Sequence

import numpy as np

from attar.data.segments.cuts import Segmented
from attar.methods.active_segmentation.chain import BEGIN, EITHER, Floats
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.crf import Weights
from attar.methods.active_segmentation.dictionary import Dictionary
from attar.methods.active_segmentation.features import feature_matrix, lay_out
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


def fit_pointwise(
    rows: Sequence[Segmented],
    *,
    config: SegmenterConfig,
    dictionary: Dictionary | None,
    weights: Floats,
) -> list[Weights]:
    """Fit one regression for each row of `weights`; arguments as of `fit_crf`."""
    layout = lay_out([row.text for row in rows], tags=tags_of(rows, config))
    allowed = permitted(layout, legal=config.legal)
    agreeing = constrained(rows, layout, allowed=allowed)
    decided = np.flatnonzero((allowed == EITHER) & (agreeing != EITHER))
    matrix = feature_matrix(layout, dictionary=dictionary, bits=config.hash_bits, rows=decided)
    used = compact(matrix, bits=config.hash_bits)
    labels = (agreeing[decided] == BEGIN).astype(np.float64)
    sentence = np.searchsorted(layout.starts, decided, side="right") - 1
    found = []
    for one in weights:
        loss = point_loss(matrix, labels=labels, weights=one[sentence], c2=config.c2)
        values = minimum(loss, size=len(used), iterations=config.iterations)
        found.append(Weights(used, values, np.zeros((2, 2))))
    return found


def point_loss(matrix: Indices, *, labels: Floats, weights: Floats, c2: float) -> Loss:
    """The loss and its gradient as a function of the weights of features.

    Args:
        matrix: features of the decided positions, `(D, F)`.
        labels: 1 where a word begins, `(D,)`.
        weights: `(D,)`.
        c2: as of `chain_loss`.
    """

    def loss(values: Floats) -> tuple[float, Floats]:
        scores = add_up(matrix, values)
        losses = np.logaddexp(0, scores)  # -log P(no word begins)
        gradient = c2 * values
        penalty = values @ gradient / 2
        spread((np.exp(scores - losses) - labels) * weights, matrix, gradient)
        return float(weights @ (losses - labels * scores) + penalty), gradient

    return loss
