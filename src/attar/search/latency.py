"""Milliseconds of an architecture, predicted from its features by a model of a measured table.

A surrogate for timing each candidate of a search, as HAT uses one (Wang et al., 2020, arXiv
2005.14187). Its network of four layers is replaced by a ridge regression, which does as well on
HAT's own tables (error about 5%, rank correlation 0.95 and more); by boosted trees, for where
milliseconds are no sum of what the features add; or by a sum without negative terms, for where
features are amounts of work and predictions go beyond the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attar.errors import DataError
from attar.evaluation.correlations import rank_correlation
from attar.search.predictors import require_option
from attar.search.statistics import Array

LatencyModel = Literal["ridge", "boosted_trees", "non_negative"]
#: architectures below which a held-out error says nothing
_FEWEST = 10
_FOLDS = 10
#: decimals of a prediction: equal sums are then equal in whatever order a processor adds them, and
#: workers agree about who keeps a limit
_DECIMALS = 6


@dataclass(frozen=True)
class HeldOutError:
    """How far predictions are off for architectures that were left out of the fit.

    Attributes:
        mape: mean of |predicted - measured| / measured.
        rank: Spearman's rank correlation of the two.
        rows: architectures, each left out once.
        model: what was fitted.
    """

    mape: float
    rank: float
    rows: int
    model: LatencyModel

    def __str__(self) -> str:
        return (
            f"{self.model}: held-out error {self.mape:.1%}, rank correlation {self.rank:.3f} "
            f"({self.rows} architectures)"
        )


@dataclass(frozen=True)
class LatencySurrogate:
    """A fitted model; call it with the features of an architecture for its milliseconds.

    Attributes:
        features: how many it reads.
        error: on architectures that it was not fitted to.
        predict: `(N, F)` -> `(N,)`, milliseconds.
    """

    features: int
    error: HeldOutError
    predict: Callable[[Array], Array]

    def __call__(self, features: Sequence[float]) -> float:
        """Milliseconds of one architecture.

        Raises:
            DataError: the number of features is not that of the table.
        """
        if len(features) != self.features:
            raise DataError(
                f"the latency surrogate reads {self.features} features of an architecture; found "
                f"{len(features)}: fit it to a table of the same space"
            )
        return float(self.predict(np.asarray(features, dtype=np.float64)[None])[0])


def fit_latency(
    features: Sequence[Sequence[float]],
    milliseconds: Sequence[float],
    *,
    model: LatencyModel = "ridge",
    seed: int = 0,
) -> LatencySurrogate:
    """Fit a model to measured architectures, and tell how far it is off for others.

    The error is that of ten fits, each to nine tenths of the table; the surrogate is then fitted to
    all of it. The same table gives the same surrogate: keep the table to keep both.

    Args:
        features: of each architecture, `(N, F)`, such as `Space.encode` gives them.
        milliseconds: measured, `(N,)`.
        model: ridge, its penalty chosen by leaving out one row at a time; boosted_trees; or
            non_negative, a constant and a factor for each feature, none below zero.
        seed: of the folds and the trees.

    Raises:
        ConfigError: an unknown model.
        DataError: fewer than 10 rows, rows of different lengths, a feature that is not a finite
            number, or a time that is not above zero.
    """
    require_option("model", model, known=get_args(LatencyModel))
    x, y = _table(features, milliseconds)
    folds = KFold(min(_FOLDS, len(y)), shuffle=True, random_state=seed)
    unseen = np.asarray(cross_val_predict(_estimator(model, seed), x, y, cv=folds))
    error = HeldOutError(
        mape=float(np.mean(np.abs(unseen - y) / y)),
        rank=rank_correlation(unseen, y),
        rows=len(y),
        model=model,
    )
    fitted = _estimator(model, seed).fit(x, y)
    return LatencySurrogate(
        x.shape[1], error, predict=lambda rows: np.round(fitted.predict(rows), _DECIMALS)
    )


class _NonNegative(RegressorMixin, BaseEstimator):
    """A constant and a factor for each feature, none below zero, by least squares of the relative
    error: more work never takes less time, and short times count as much as long ones."""

    def fit(self, x: Array, y: Array) -> "_NonNegative":
        unit = np.maximum(np.abs(x).max(axis=0), np.finfo(np.float64).tiny)
        rows = np.column_stack([np.ones(len(y)), x / unit]) / y[:, None]
        solution, _ = nnls(rows, np.ones(len(y)))
        self.constant_, self.factors_ = solution[0], solution[1:] / unit
        return self

    def predict(self, x: Array) -> Array:
        return self.constant_ + x @ self.factors_


def _estimator(model: LatencyModel, seed: int) -> Any:
    if model == "non_negative":
        return _NonNegative()
    if model == "ridge":
        return make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-4, 3, 15)))
    return GradientBoostingRegressor(
        n_estimators=150, learning_rate=0.1, max_depth=3, subsample=0.8, random_state=seed
    )


def _table(
    features: Sequence[Sequence[float]], milliseconds: Sequence[float]
) -> tuple[Array, Array]:
    lengths = {len(row) for row in features}
    if len(lengths) > 1 or len(features) != len(milliseconds):
        raise DataError(
            "a latency table needs the same number of features in each row and a time for each; "
            f"found rows of {sorted(lengths)} features, {len(features)} rows and "
            f"{len(milliseconds)} times"
        )
    if len(milliseconds) < _FEWEST:
        raise DataError(
            f"a latency surrogate needs at least {_FEWEST} measured architectures; found "
            f"{len(milliseconds)}: measure more"
        )
    x, y = (np.asarray(given, dtype=np.float64) for given in (features, milliseconds))
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (y > 0).all()):
        raise DataError(
            "a latency table needs finite features and times above zero; found others: leave out "
            "rows whose timing failed"
        )
    return x, y
