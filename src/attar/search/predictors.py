"""Predict how trials compare with each other on data that was not seen, and judge such predictions.

A trial is a row of features of 0 and 1, each of which belongs to a choice. The models are small: a
handful of data sets teaches no more.
"""

import math
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_predict

from attar.errors import require
from attar.evaluation.correlations import rank_correlation
from attar.runtime import Bar
from attar.search.statistics import Array, expected_best, robust_z

Target = Literal["z", "rank", "raw"]
"""What is learned of a trial: its robust z-score in its context, its rank there from 0 to 1, or the
figure itself."""
Model = Literal["ridge", "extra_trees"]
#: share of trials of an unseen context that an interval should hold
COVERAGE = 0.8
#: candidates for the penalty of the ridge
_ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 3, 9))
#: trials of a context that a ranking is judged by, at least
_FEWEST = 3


def as_target(values: Array, target: Target, *, noise: float = 0.0) -> Array:
    """What is learned of every trial of one context, `(N,)`.

    Args:
        values: the higher, the better; NaN marks a trial that did not finish and counts as the
            worst.
        target: z, the robust z-score; rank, the rank from 0 to 1; raw, the value.
        noise: standard error of a value.
    """
    if target == "z":
        return robust_z(values, noise=noise)
    if target == "raw":
        return np.where(np.isnan(values), np.nanmin(values), values)
    ranks = rankdata(np.where(np.isnan(values), -np.inf, values))
    return (ranks - 1) / (len(values) - 1) if len(values) > 1 else np.full(1, 0.5)


@dataclass(frozen=True)
class Feature:
    """A column of the design.

    Attributes:
        choice: that it belongs to.
        name: what the trials with a 1 have in common, such as `loss=mse`.
    """

    choice: str
    name: str


def one_hot(rows: Sequence[Collection[str]], features: Sequence[Feature]) -> Array:
    """The design, `(N, F)` of 0 and 1.

    Args:
        rows: names of the features that each trial has.
        features: all that there are.
    """
    column = {feature.name: i for i, feature in enumerate(features)}
    x = np.zeros((len(rows), len(features)))
    for row, names in zip(x, rows, strict=True):
        row[[column[name] for name in names]] = 1
    return x


@dataclass(frozen=True)
class Predictor:
    """A fitted model.

    Attributes:
        features: the columns that it reads.
        predict: `(N, F)` -> `(N,)`.
        background: rows that stand for the trials learned from, `(M, F)`.
        radius: half the width of an interval that should hold 8 of 10 trials of an unseen group.
    """

    features: tuple[Feature, ...]
    predict: Callable[[Array], Array]
    background: Array
    radius: float

    def contributions(self, x: Array) -> dict[str, float]:
        """What each choice adds to the prediction of one row `(F,)` against the average over the
        trials learned from.

        One choice at a time is replaced by those of the trials. For a ridge the numbers add up to
        the prediction minus its average over the trials.
        """
        here = float(self.predict(x[None])[0])
        owners = np.array([feature.choice for feature in self.features])
        added: dict[str, float] = {}
        for choice in dict.fromkeys(feature.choice for feature in self.features):
            without = np.where(owners == choice, self.background, x)
            added[choice] = here - float(self.predict(without).mean())
        return added


def fit_predictor(
    x: Array,
    y: Array,
    *,
    features: Sequence[Feature],
    groups: Sequence[Hashable],
    items: Sequence[Hashable],
    model: Model = "ridge",
    seed: int = 0,
) -> Predictor:
    """Fit a model, and tell from groups that are left out how far it is off.

    Args:
        x: the design, `(N, F)`.
        y: targets, `(N,)`.
        features: of the columns.
        groups: what is new where the model is used, such as the data set of each trial.
        items: what is new instead where there is a single group, such as the choices.
        model: ridge, its penalty chosen by leaving out one group at a time; or extra_trees.
        seed: of the trees.

    Raises:
        ConfigError: an unknown model.
    """
    require_option("model", model, known=get_args(Model))
    numbers, folds = _numbered(groups), LeaveOneGroupOut()
    if numbers.max() == 0:
        numbers = _numbered(items)
        folds = GroupKFold(min(10, int(numbers.max()) + 1))

    def unseen(estimator: Any) -> Array:
        return np.asarray(cross_val_predict(estimator, x, y, groups=numbers, cv=folds))

    columns = tuple(features)
    if model == "extra_trees":
        trees = ExtraTreesRegressor(n_estimators=200, min_samples_leaf=2, random_state=seed)
        radius = _radius(y - unseen(trees))
        return Predictor(columns, trees.fit(x, y).predict, background=x, radius=radius)
    errors = {alpha: y - unseen(Ridge(alpha=alpha)) for alpha in _ALPHAS}
    alpha = min(errors, key=lambda alpha: float(np.square(errors[alpha]).mean()))
    ridge = Ridge(alpha=alpha).fit(x, y)
    return Predictor(
        columns,
        _line(np.asarray(ridge.coef_), float(ridge.intercept_)),
        background=x.mean(0, keepdims=True),  # all that the mean of a linear function needs
        radius=_radius(errors[alpha]),
    )


@dataclass(frozen=True)
class HeldOut:
    """How well a data set's candidates were ranked by a model that had not seen the data set.

    Attributes:
        dataset: its name; `mean` for the mean over data sets.
        target: what the model was trained to predict.
        candidates: how many ran there.
        spearman: rank correlation of prediction and score.
        percentile: mean place of those picked, from 0 (worst) to 1 (best).
        regret: what the best of those picked loses against the best of all.
        random_regret: the same for equally many drawn at random, in expectation.
        above_baseline: share of the trials that beat the baseline, of those where that is known;
            NaN where it is not.
    """

    dataset: str
    target: Target
    candidates: float
    spearman: float
    percentile: float
    regret: float
    random_regret: float
    above_baseline: float = math.nan

    @classmethod
    def mean(cls, dataset: str, target: Target, rows: Sequence["HeldOut"]) -> "HeldOut":
        """The mean of every figure."""
        names = [field.name for field in fields(cls)][2:]
        means = {name: float(np.mean([getattr(row, name) for row in rows])) for name in names}
        return cls(dataset=dataset, target=target, **means)


def judge(
    predicted: Array,
    true: Array,
    *,
    picks: int,
    dataset: str,
    target: Target,
    above_baseline: float = math.nan,
) -> HeldOut | None:
    """Judge predictions `(N,)` by the true figures `(N,)` of one context; None for fewer than 3.

    Args:
        predicted: equal ones keep their order.
        true: the higher, the better.
        picks: how many of the best by prediction are run.
        dataset: for the row.
        target: for the row.
        above_baseline: for the row.
    """
    if len(true) < _FEWEST:
        return None
    k = min(picks, len(true))
    best = np.argsort(-predicted, kind="stable")[:k]
    return HeldOut(
        dataset=dataset,
        target=target,
        candidates=len(true),
        spearman=rank_correlation(predicted, true),
        percentile=float((rankdata(true)[best] - 1).mean() / (len(true) - 1)),
        regret=float(true.max() - true[best].max()),
        random_regret=float(true.max()) - expected_best(true, k),
        above_baseline=above_baseline,
    )


def evaluate(
    datasets: Sequence[str],
    targets: Sequence[Target],
    judged: Callable[[str, Target], Sequence[HeldOut | None]],
) -> list[HeldOut]:
    """Judge each data set by a model that has not seen it.

    Args:
        datasets: each is left out in turn.
        targets: each gets its own rows; one that repeats another is left out.
        judged: for a data set and a target, `judge` of each of its contexts.

    Returns:
        A row for each data set, the mean of its contexts, and one for their mean, target by target.
    """
    table: list[HeldOut] = []
    for target in dict.fromkeys(targets):
        rows: list[HeldOut] = []
        for dataset in Bar(datasets, desc="checking recommendations", unit="data set", leave=False):
            contexts = [row for row in judged(dataset, target) if row is not None]
            if contexts:
                rows.append(HeldOut.mean(dataset, target, contexts))
        table += rows + ([HeldOut.mean("mean", target, rows)] if rows else [])
    return table


def require_option(name: str, value: str, *, known: Sequence[str]) -> None:
    """Refuse an option that is none of those known.

    Raises:
        ConfigError: so it is.
    """
    require(value in known, name, value, " or ".join(known))


def _line(coefficients: Array, intercept: float) -> Callable[[Array], Array]:
    # Rounded, so that equal sums are equal in whatever order a processor adds them.
    return lambda x: np.round(x @ coefficients + intercept, 9)


def _radius(residuals: Array) -> float:
    return float(np.quantile(np.abs(residuals), COVERAGE, method="higher"))


def _numbered(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Equal keys get equal numbers, from 0 in order of appearance."""
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)
