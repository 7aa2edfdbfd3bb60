"""Figures on scores: equal to their definitions, by brute force and by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError
from attar.search.statistics import expected_best, robust_z

values = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=1, max_size=8)


@given(values, st.integers(1, 8))
def test_the_expected_best_is_the_mean_over_all_subsets(scores: list[float], k: int) -> None:
    k = min(k, len(scores))
    every = [max(subset) for subset in itertools.combinations(scores, k)]
    assert expected_best(scores, k) == pytest.approx(np.mean(every), abs=1e-9)


def test_no_best_of_more_than_there_are() -> None:
    for k in (0, 4):
        with pytest.raises(ConfigError, match="between 1 and the 3 values"):
            expected_best([1.0, 2.0, 3.0], k)


@given(values, st.floats(0.5, 100), st.floats(-5, 5))
def test_z_knows_neither_level_nor_scale(scores: list[float], scale: float, level: float) -> None:
    z = robust_z(scores)
    assert np.abs(z).max() <= 3
    np.testing.assert_allclose(robust_z(np.array(scores) * scale + level), z, atol=1e-6)
    np.testing.assert_allclose(robust_z(-np.array(scores)), -z, atol=1e-12)
    unfinished = robust_z([*scores, math.nan])
    assert unfinished[-1] == -3
    np.testing.assert_array_equal(unfinished[:-1], z)


def test_z_by_hand() -> None:
    # median 3, absolute deviations 2 1 0 1 97
    expected = np.array([-2, -1, 0, 1, 97]) / 1.4826
    np.testing.assert_allclose(robust_z([1, 2, 3, 4, 100]), expected.clip(-3, 3))
    # most are equal: mean absolute deviation 1/4
    np.testing.assert_allclose(robust_z([1, 1, 1, 2]), [0, 0, 0, 3])
    np.testing.assert_array_equal(robust_z([2, 2]), [0, 0])
    np.testing.assert_array_equal(robust_z([math.nan]), [-3])


def test_chance_is_not_stretched() -> None:
    close = [0.5, 0.501, 0.5, 0.502, 0.499]
    assert np.abs(robust_z(close)).max() > 1
    np.testing.assert_allclose(robust_z(close, noise=0.1), (np.array(close) - 0.5) / 0.1)
    far = [0.1, 0.5, 0.6, 0.7, 0.9]
    np.testing.assert_array_equal(robust_z(far, noise=0.1), robust_z(far))
