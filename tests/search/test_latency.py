"""A surrogate learns a law of milliseconds, and says honestly how far it is off."""

import numpy as np
import pytest

from attar.errors import ConfigError, DataError
from attar.search.latency import LatencyModel, fit_latency
from attar.search.statistics import Array

RNG = np.random.default_rng(0)
# HAT's space: widths of encoder and decoder, neurons, heads, decoder layers
X = RNG.choice([0.0, 0.5, 1.0], size=(400, 6))
LINEAR = 60 + X @ np.array([8.0, 20.0, 6.0, 14.0, 1.0, 0.0])
#: each layer costs its width: no sum
PRODUCT = 30 + 90 * X[:, 0] * X[:, 1] + 40 * np.maximum(X[:, 2], X[:, 3])
NOISE = RNG.normal(0, 0.02, 400)


def rows(x: Array) -> list[list[float]]:
    return x.tolist()


@pytest.mark.parametrize("model", ["ridge", "boosted_trees"])
def test_a_linear_law_with_noise_is_learned(model: LatencyModel) -> None:
    """HAT's own tables: at most 6% off, rank correlation at least 0.95."""
    surrogate = fit_latency(rows(X[:300]), list((LINEAR * (1 + NOISE))[:300]), model=model)
    assert surrogate.error.mape < 0.06
    assert surrogate.error.rank > 0.95
    predicted = surrogate.predict(X[300:])
    assert np.abs(predicted / LINEAR[300:] - 1).mean() < 0.02
    assert surrogate(X[300].tolist()) == predicted[0]
    assert str(surrogate.error).startswith(f"{model}: held-out error ")
    assert str(surrogate.error).endswith("(300 architectures)")


def test_the_held_out_error_is_that_of_architectures_not_seen() -> None:
    """A law of nothing cannot be learned, however well a table is memorised."""
    law = RNG.permutation(LINEAR)
    unseen = fit_latency(rows(X[:300]), list(law[:300]), model="boosted_trees")
    true = np.abs(unseen.predict(X[300:]) / law[300:] - 1).mean()
    assert unseen.error.mape == pytest.approx(true, rel=0.25)
    assert abs(unseen.error.rank) < 0.2


def test_an_exact_law_is_met_exactly() -> None:
    assert fit_latency(rows(X), list(LINEAR)).error.mape < 1e-5


def test_the_units_of_features_do_not_matter() -> None:
    """Also where few and noisy timings make the penalty matter."""
    scaled = X * np.array([640, 6, 3072, 8, 2, 1])
    noisy = list((LINEAR * (1 + 8 * NOISE))[:30])
    plain, other = (fit_latency(rows(x[:30]), noisy) for x in (X, scaled))
    np.testing.assert_allclose(other.predict(scaled), plain.predict(X), atol=1e-5)


def test_trees_learn_what_is_no_sum() -> None:
    ridge, trees = (
        fit_latency(rows(X), list(PRODUCT), model=model) for model in ("ridge", "boosted_trees")
    )
    assert trees.error.mape < 0.02 < 0.08 < ridge.error.mape
    few = rows(X[:30]), list(PRODUCT[:30])
    one, same = (fit_latency(*few, model="boosted_trees", seed=3) for _ in range(2))
    assert one.error == same.error
    np.testing.assert_array_equal(one.predict(X), same.predict(X))


def test_what_is_no_table_is_refused() -> None:
    ten = [[float(i)] for i in range(10)]
    times = [1.0 + i for i in range(10)]
    with pytest.raises(DataError, match="at least 10 measured architectures; found 9"):
        fit_latency(ten[:9], times[:9])
    with pytest.raises(DataError, match=r"rows of \[1, 2\] features, 11 rows and 10 times"):
        fit_latency([*ten, [1.0, 2.0]], times)
    for wrong in (0.0, float("nan")):
        with pytest.raises(DataError, match="times above zero"):
            fit_latency(ten, [*times[:9], wrong])
    with pytest.raises(ConfigError, match=r"model must be ridge or .*non_negative; found 'svm'"):
        fit_latency(ten, times, model="svm")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="reads 1 features of an architecture; found 2"):
        fit_latency(ten, times)([1.0, 2.0])


def test_amounts_of_work_have_no_negative_factors() -> None:
    """A constant and a sum: found again where it is one, and never below zero where it is not."""
    exact = fit_latency(rows(X[:60]), list(LINEAR[:60]), model="non_negative")
    assert exact.error.mape < 1e-6
    np.testing.assert_allclose(exact.predict(X * 50), 60 + 50 * (LINEAR - 60), rtol=1e-4)
    falling = fit_latency(rows(X[:60]), list(200 - LINEAR[:60]), model="non_negative")
    assert (falling.predict(X * 50) >= falling.predict(X) - 1e-6).all()
    assert (falling.predict(X) > 0).all()


def test_short_times_count_as_much_as_long_ones() -> None:
    """The relative error is least, so a single long and odd time does not bend the rest."""
    x = np.arange(1.0, 21.0)[:, None]
    times = 2 * x[:, 0]
    times[-1] *= 3
    found = fit_latency(rows(x), list(times), model="non_negative")
    assert found.predict(x[:1]) == pytest.approx(2, rel=0.2)
