"""How well one list of numbers ranks as another does."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr


def rank_correlation(predicted: ArrayLike, true: ArrayLike) -> float:
    """Spearman's rank correlation of two vectors `(N,)`, N at least 2, from -1 to 1; 0 where either
    is constant."""
    if np.ptp(true) == 0 or np.ptp(predicted) == 0:
        return 0.0
    correlation: Any = spearmanr(predicted, true)
    return float(correlation.statistic)
