"""Weights are those of drawing again; intervals cover what they say."""

import numpy as np
import pytest

from attar.errors import ConfigError, DataError
from attar.evaluation.resampling import f1_of, interval, multinomial_weights, resampled


def test_weights_draw_as_many_sentences_as_there_are() -> None:
    weights = multinomial_weights(20, resamples=4000, seed=1)
    assert weights.shape == (4000, 20)
    assert (weights.sum(axis=1) == 20).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.08)
    np.testing.assert_allclose(weights.var(axis=0), 1 - 1 / 20, atol=0.12)
    np.testing.assert_array_equal(weights, multinomial_weights(20, resamples=4000, seed=1))
    assert (weights != multinomial_weights(20, resamples=4000, seed=2)).any()


def test_documents_are_drawn_whole() -> None:
    groups = ["a", "b", "a", "c", "b"]
    weights = multinomial_weights(5, resamples=500, groups=groups)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_rates_are_of_the_sentences_repeated() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (12, 3)).astype(float)
    weights = multinomial_weights(12, resamples=30)
    found = resampled(counts, f1_of, weights=weights)
    for value, weight in zip(found, weights, strict=True):
        tp, predicted, gold = np.repeat(counts, weight.astype(int), axis=0).sum(axis=0)
        assert value == pytest.approx(2 * tp / (predicted + gold))
    assert f1_of(np.zeros((1, 3))).tolist() == [0]


@pytest.mark.parametrize("size", [1, 8])
def test_an_interval_of_95_percent_covers_the_truth_95_times_in_100(size: int) -> None:
    """Sentences of Bernoulli words, by themselves or in documents whose sentences are alike."""
    generator = np.random.default_rng(0)
    covered, replays = 0, 600
    groups = np.repeat(np.arange(100), size).tolist() if size > 1 else None
    weights = multinomial_weights(100 * size, resamples=400, groups=groups)
    for _ in range(replays):
        p = np.repeat(generator.beta(8, 2, 100), size)
        words = np.full(len(p), 12.0)
        right = generator.binomial(12, p).astype(float)
        values = resampled(np.stack([right, words, words], axis=1), f1_of, weights=weights)
        low, high = interval(values)
        covered += low <= 0.8 <= high
    assert 0.92 <= covered / replays <= 0.98


def test_the_same_weights_make_a_comparison_paired() -> None:
    """A system that is a little better in each sentence is so in every resample."""
    generator = np.random.default_rng(3)
    right = generator.integers(2, 9, 80).astype(float)
    words = np.full(80, 12.0)
    weights = multinomial_weights(80)
    one, other = (
        resampled(np.stack([found, words, words], axis=1), f1_of, weights=weights)
        for found in (right, right + 0.1)
    )
    assert interval(other - one) == pytest.approx((1 / 120, 1 / 120))
    assert interval(one)[0] < interval(other)[0] < interval(one)[1]


def test_levels_are_nested() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    wide, narrow = interval(values, level=0.95), interval(values, level=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert narrow == pytest.approx(tuple(np.quantile(values, (0.25, 0.75))))


def test_what_cannot_be_is_refused() -> None:
    for options in ({"count": 0}, {"count": 3, "resamples": 0}):
        with pytest.raises(ConfigError, match="1 or more"):
            multinomial_weights(**options)
    with pytest.raises(DataError, match="each of 3 sentences, found 1"):
        multinomial_weights(3, groups=["a"])
    with pytest.raises(ConfigError, match="level"):
        interval(np.ones(3), level=1.0)
