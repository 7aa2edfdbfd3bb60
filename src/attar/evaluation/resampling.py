"""How far a score may lie from the truth because other sentences could have been tested.

The bootstrap draws as many sentences again, with replacement: that weighs each by a multinomial
number. Scores that are rates of sums then come from one product of the weights with the counts of
the sentences. The same weights for two systems make the comparison paired (Efron & Tibshirani 1993;
for segmentation and tagging, Berg-Kirkpatrick, Burkett & Klein 2012).
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError, require

Array = NDArray[np.float64]


def multinomial_weights(
    count: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Array:
    """How often each sentence occurs in each resample, `(R, N)`.

    Args:
        count: N, sentences.
        resamples: R.
        seed: of the draws.
        groups: the document of each sentence, to draw whole documents, since sentences of one
            document are alike; None: each sentence is drawn by itself.

    Raises:
        ConfigError: a number is not positive.
        DataError: not every sentence has a group.
    """
    require(count >= 1, "count", count, "1 or more sentences")
    require(resamples >= 1, "resamples", resamples, "1 or more")
    generator = np.random.default_rng(seed)
    if groups is None:
        return generator.multinomial(count, np.full(count, 1 / count), resamples).astype(np.float64)
    if len(groups) != count:
        raise DataError(f"expected a group for each of {count} sentences, found {len(groups)}")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    drawn = generator.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), resamples)
    return drawn[:, [numbers[group] for group in groups]].astype(np.float64)


def resampled(counts: Array, rate: Callable[[Array], Array], *, weights: Array) -> Array:
    """A rate of summed counts under each resample, `(R,)`.

    Args:
        counts: `(N, F)`, of each sentence.
        rate: from `(R, F)` sums to `(R,)` scores.
        weights: `(R, N)`, the same ones for all that is compared.
    """
    return rate(weights @ counts)


def f1_of(sums: Array) -> Array:
    """2 tp / (predicted + gold) of sums of these three, `(R, 3)` to `(R,)`; 0 where there are
    none.
    """
    below = sums[:, 1] + sums[:, 2]
    return np.divide(2 * sums[:, 0], below, out=np.zeros(len(sums)), where=below > 0)


def interval(values: Array, *, level: float = 0.95) -> tuple[float, float]:
    """The percentiles of a bootstrap between which that share of its values lies.

    Args:
        values: `(R,)`.
        level: share, between 0 and 1.

    Raises:
        ConfigError: the level is out of range.
    """
    require(0 < level < 1, "level", level, "between 0 and 1")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
