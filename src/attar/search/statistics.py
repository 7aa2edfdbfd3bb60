"""Where a trial stands among the others of its context, and what the best of a few is worth."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attar.errors import require

Array = NDArray[np.float64]

#: standard errors on either side that hold 95% of a normal distribution
NORMAL_95 = 1.96
#: robust z-scores end here, so that one failure does not outweigh all that went well
WINSOR = 3.0


def robust_z(scores: Sequence[float] | Array, *, noise: float = 0.0) -> Array:
    """Distance of each score from the median in robust standard deviations, `(N,)`, within +-3.

    The deviation is 1.4826 times the median absolute deviation, or 1.2533 times the mean one where
    most scores are equal; both are the standard deviation of a normal law. It is taken to be no
    smaller than `noise`, the standard error of a score: where nothing tells the pipelines apart
    chance must not be stretched into large distances. NaN marks a trial that did not finish: it
    gets -3.

    Args:
        scores: `(N,)`, larger is better.
        noise: in the unit of the scores.
    """
    scores = np.asarray(scores, dtype=np.float64)
    ended = scores[~np.isnan(scores)]
    if not len(ended):
        return np.full(len(scores), -WINSOR)
    apart = np.abs(ended - np.median(ended))
    scale = max(1.4826 * np.median(apart) or 1.2533 * np.mean(apart), noise) or 1.0
    z = np.clip((scores - np.median(ended)) / scale, -WINSOR, WINSOR)
    return np.where(np.isnan(scores), -WINSOR, z)


def expected_best(values: Sequence[float] | Array, k: int) -> float:
    """Mean, over all subsets of `k` of the values, of the best in the subset.

    Exactly: the i-th smallest of N is the best of C(i - 1, k - 1) among C(N, k) subsets.

    Args:
        values: `(N,)`, larger is better; finite.
        k: size of a subset.

    Returns:
        In the unit of the values.

    Raises:
        ConfigError: there are not `k` values.
    """
    require(1 <= k <= len(values), "k", k, f"between 1 and the {len(values)} values")
    ordered, total = sorted(values), math.comb(len(values), k)
    return math.fsum(v * (math.comb(i, k - 1) / total) for i, v in enumerate(ordered))
