"""Predictions of trials on data that was not seen, in a search that has nothing to do with models;
AutoDistiller's tests say more."""

import math
from typing import Any

import numpy as np
import pytest

from attar.errors import ConfigError
from attar.search.predictors import (
    Feature,
    HeldOut,
    as_target,
    evaluate,
    fit_predictor,
    judge,
    one_hot,
)
from bakery import CAKES, taste

FEATURES = [
    Feature(name, f"{name}={CAKES.label(name, value)}")
    for name, values in CAKES.items()
    for value in values
]
EVERY = CAKES.enumerate_all()
X = one_hot([[f"{n}={w}" for n, w in CAKES.words(values).items()] for values in EVERY], FEATURES)
TRUE = np.array([taste(values) for values in EVERY])


def fitted(model: Any = "ridge", **options: Any) -> Any:
    """Of three bakers of different skill."""
    y = np.concatenate([as_target(TRUE + skill, "z") for skill in (0.0, 0.5, 3.0)])
    bakers = [baker for baker in "abc" for _ in EVERY]
    given = {"features": FEATURES, "groups": bakers, "items": [*map(str, EVERY)] * 3}
    return fit_predictor(np.concatenate([X] * 3), y, model=model, **given | options)


def test_a_design_marks_what_a_trial_has() -> None:
    assert X.shape == (len(EVERY), 2 + 3 + 2 + 3)
    assert X.sum(1).tolist() == [len(values) for values in EVERY]
    with pytest.raises(KeyError):
        one_hot([["icing=sugar"]], FEATURES)


@pytest.mark.parametrize("model", ["ridge", "extra_trees"])
def test_the_best_are_found_again(model: Any) -> None:
    predicted = fitted(model).predict(X)
    assert np.argmax(predicted) == np.argmax(TRUE)
    assert np.corrcoef(predicted, TRUE)[0, 1] > 0.9


def test_what_the_choices_add_sums_to_the_prediction() -> None:
    model = fitted()
    for x in X[::3]:
        added = model.contributions(x)
        assert list(added) == list(CAKES)
        mean = float(model.predict(X).mean())
        assert sum(added.values()) == pytest.approx(float(model.predict(x[None])[0]) - mean)


def test_with_one_group_what_is_new_is_an_item() -> None:
    alone = fitted(groups=["a"] * 3 * len(EVERY))
    assert alone.radius >= 0
    assert alone.radius != fitted().radius
    with pytest.raises(ConfigError, match="model must be ridge or extra_trees; found 'lasso'"):
        fitted("lasso")


def test_what_is_learned_of_a_trial() -> None:
    values = np.array([0.2, math.nan, 0.8, 0.4])
    np.testing.assert_allclose(as_target(values, "rank"), [1 / 3, 0, 1, 2 / 3])
    np.testing.assert_allclose(as_target(values, "raw"), [0.2, 0.2, 0.8, 0.4])
    assert as_target(values, "z")[1] == -3
    assert as_target(np.array([5.0]), "rank").tolist() == [0.5]


def test_judged_by_hand() -> None:
    true = np.array([0.1, 0.5, 0.3, 0.4])
    row = judge(np.array([4.0, 1.0, 2.0, 3.0]), true, picks=2, dataset="a", target="z")
    assert row is not None
    assert row.candidates == 4
    assert row.regret == pytest.approx(0.1)  # of 0.1 and 0.4, the best is 0.4
    assert row.random_regret == pytest.approx(0.5 - (0.5 * 3 + 0.4 * 2 + 0.3) / 6)
    assert row.percentile == pytest.approx((0 + 2) / 2 / 3)
    assert row.spearman == pytest.approx(-0.8)
    assert math.isnan(row.above_baseline)
    assert judge(true[:2], true[:2], picks=2, dataset="a", target="z") is None


def test_rows_are_means_of_contexts_and_of_data_sets() -> None:
    def judged(dataset: str, target: Any) -> list[HeldOut | None]:
        figures = {"a": [0.1, 0.3], "b": [0.6], "c": []}[dataset]
        rows = [HeldOut(dataset, target, 9.0, f, f, f, f) for f in figures]
        return [*rows, None]

    table = evaluate("abc", ["z", "raw", "z"], judged)  # pyright: ignore[reportArgumentType]
    assert [(row.dataset, row.target) for row in table] == [
        (name, target) for target in ("z", "raw") for name in ("a", "b", "mean")
    ]
    assert [row.regret for row in table[:3]] == pytest.approx([0.2, 0.6, 0.4])
