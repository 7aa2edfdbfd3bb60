"""AutoDistiller: learn from studies of other data sets which pipelines to try first on a new one,
and tell which choices matter (section 2.7 of the specification).

Deviations (paper; here; why): the target is a trial's standing *within its context*, not the ratio
to the teacher, because that differs more between data sets than between pipelines; the model is a
ridge regression on one-hot choices, not a stack of ensembles, and sees no features of the data set,
as a handful of data sets teaches no more than that; pipelines that ran somewhere are recommended
before those that never ran, not the best of the whole space, whose predictions nothing has tested.
`target="raw"` restores the paper's target.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_predict

from attar.data.augment.augment import AUGMENTERS
from attar.errors import ConfigError, DataError
from attar.methods.distiller.pipelines import SPACE, Pipeline, enumerate_all, label
from attar.methods.distiller.study import Row, by_context, dpr, read_study
from attar.search.statistics import Array, expected_best, rank_correlation, robust_z

Target = Literal["z", "rank", "raw"]


def targets_of(rows: Sequence[Row], target: Target) -> Array:
    """What is learned of every trial of one context, `(N,)`.

    Args:
        rows: the trials; those that were pruned or failed count as the worst.
        target: z, the robust z-score; rank, the rank from 0 to 1; raw, the ratio to the teacher.
    """
    ratios = np.array(
        [
            dpr(row.score, row.teacher_score)
            if row.state == "complete" and row.score is not None
            else math.nan
            for row in rows
        ]
    )
    if target == "z":
        return robust_z(ratios, noise=_noise(rows))
    if target == "raw":
        return np.where(np.isnan(ratios), np.nanmin(ratios), ratios)
    ranks = rankdata(np.where(np.isnan(ratios), -np.inf, ratios))
    return (ranks - 1) / (len(rows) - 1) if len(rows) > 1 else np.full(1, 0.5)


def _noise(rows: Sequence[Row]) -> float:
    """Standard error of a ratio to the teacher, if the score is the share of right answers; a
    fair guess for other metrics between 0 and 1."""
    scores = [row.score for row in rows if row.state == "complete" and row.score is not None]
    if not scores:
        return 0.0
    share = min(max(float(np.median(scores)), 0.0), 1.0)
    return math.sqrt(share * (1 - share) / rows[0].examples) / rows[0].teacher_score


Model = Literal["ridge", "extra_trees"]
#: the recommended pipelines that `evaluate` runs, as in the paper
PICKS = 5
#: pipelines that can be asked for: nobody tries more
MOST = 100
#: share of trials of an unseen context that the interval of a recommendation should hold
COVERAGE = 0.8
#: data sets of the shipped studies that hold texts of another: who has seen one knows both
_FAMILIES = {"polarity": "sst2"}
_ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 3, 9))


@dataclass(frozen=True)
class Recommendation:
    """A pipeline to try.

    Attributes:
        pipeline: in canonical form.
        predicted: its expected target, by default the robust z-score among pipelines.
        interval: where the target should fall in 8 of 10 trials, from the errors on data sets
            that the model had not seen.
        reasons: up to three choices that add most to the prediction, and how much each adds against
            the average over the trials that were learned from.
        ran_on: how many data sets it ran on to its end, with a student that starts like this one.
    """

    pipeline: Pipeline
    predicted: float
    interval: tuple[float, float]
    reasons: tuple[tuple[str, float], ...]
    ran_on: int


@dataclass(frozen=True)
class HeldOut:
    """How well a data set's pipelines were ranked by a model that had not seen the data set.

    Attributes:
        dataset: its name; `mean` for the mean over data sets.
        target: what the model was trained to predict.
        pipelines: how many ran there.
        spearman: rank correlation of prediction and score.
        percentile: mean place of the five pipelines picked, from 0 (worst) to 1 (best).
        regret: ratio to the teacher lost by running those five rather than all.
        random_regret: the same for five drawn at random, in expectation.
        above_labels: share of the pipelines that taught more than labels alone, of those where
            that is known; NaN where it is not.
    """

    dataset: str
    target: Target
    pipelines: float
    spearman: float
    percentile: float
    regret: float
    random_regret: float
    above_labels: float


def shipped() -> list[Path]:
    """The studies that come with Attar, by name."""
    folder = files("attar.methods.distiller").joinpath("studies")
    if not folder.is_dir():
        return []
    found = [Path(str(file)) for file in folder.iterdir() if file.name.endswith(".jsonl")]
    return sorted(found)


def known_trials(studies: Iterable[str | Path] = ()) -> list[Row]:
    """The trials that there are to learn from: those that come with Attar, and those of `studies`.

    Raises:
        ConfigError: there is no study at all.
        DataError: a study cannot be read, or has no trials.
        CompatibilityError: a study comes from a search in another space.
    """
    every = [*shipped(), *studies]
    if not every:
        raise ConfigError(
            "no study comes with this Attar, so that there is nothing to learn from; give one with "
            "--study, such as the folder of attar distill search"
        )
    return read_study(every)


def family(dataset: str) -> str:
    """What stands for a data set and all that share its texts."""
    return _FAMILIES.get(dataset, dataset)


class AutoDistiller:
    """Predicts how well pipelines do beside each other; made by `fit`."""

    def __init__(
        self,
        *,
        model: Model,
        target: Target,
        seed: int,
        inits: tuple[str, ...],
        predict: Callable[[Array], Array],
        background: Array,
        radius: float,
        rows: tuple[Row, ...],
    ) -> None:
        self.model: Model = model
        self.target: Target = target
        self.seed, self.inits, self.rows = seed, inits, rows
        self._predict, self._background, self._radius = predict, background, radius

    @classmethod
    def fit(
        cls, rows: Iterable[Row], *, model: Model = "ridge", target: Target = "z", seed: int = 0
    ) -> "AutoDistiller":
        """Learn from the trials of one or more studies.

        A context counts only by comparison, so one without a finished trial is left out.

        Args:
            rows: of `read_study`; the more data sets, the better.
            model: ridge, its penalty chosen by leaving out one data set at a time; or extra_trees.
            target: z, the robust z-score within the context; rank, the rank in it from 0 to 1; raw,
                the ratio to the teacher as in the paper. Trials that failed or were pruned count
                as the worst of their context.
            seed: of the trees.

        Raises:
            ConfigError: an unknown model or target.
            DataError: fewer than two pipelines to compare.
        """
        _option("model", model, get_args(Model))
        _option("target", target, get_args(Target))
        rows = tuple(row for context in by_context(rows).values() for row in context)
        pipelines = [row.pipeline.canonical() for row in rows]
        if len({*pipelines}) < 2:
            raise DataError(
                f"expected at least two pipelines with finished trials, found {len({*pipelines})}; "
                "run more trials"
            )
        inits = tuple(sorted({row.init for row in rows}))
        x = _design([(p, row.init) for p, row in zip(pipelines, rows, strict=True)], inits)
        y = np.concatenate([targets_of(group, target) for group in by_context(rows).values()])
        # With a single data set, what is new is a pipeline.
        groups, folds = _numbered([family(row.dataset) for row in rows]), LeaveOneGroupOut()
        if groups.max() == 0:
            groups = _numbered(pipelines)
            folds = GroupKFold(min(10, int(groups.max()) + 1))

        def unseen(estimator: Any) -> Array:
            return np.asarray(cross_val_predict(estimator, x, y, groups=groups, cv=folds))

        made = {"model": model, "target": target, "seed": seed, "inits": inits, "rows": rows}
        if model == "extra_trees":
            trees = ExtraTreesRegressor(n_estimators=200, min_samples_leaf=2, random_state=seed)
            radius = _radius(y - unseen(trees))
            return cls(**made, predict=trees.fit(x, y).predict, background=x, radius=radius)
        errors = {alpha: y - unseen(Ridge(alpha=alpha)) for alpha in _ALPHAS}
        alpha = min(errors, key=lambda alpha: float(np.square(errors[alpha]).mean()))
        ridge = Ridge(alpha=alpha).fit(x, y)
        return cls(
            **made,
            predict=_line(np.asarray(ridge.coef_), float(ridge.intercept_)),
            background=x.mean(0, keepdims=True),  # all that the mean of a linear function needs
            radius=_radius(errors[alpha]),
        )

    def recommend(
        self,
        n: int = 5,
        *,
        init: str,
        exclude: Collection[Pipeline] = (),
        candidates: Iterable[Pipeline] | None = None,
    ) -> list[Recommendation]:
        """The pipelines that should do best, best first.

        What ran on some data set with such a student comes before what never ran. The largest of
        thousands of predictions is large mostly by error, and only what ran could be evaluated.

        Args:
            n: how many, if there are as many.
            init: how the student will start, one of `inits`.
            exclude: pipelines that are known already.
            candidates: what to choose from, such as `enumerate_all(space=narrow(...))`; None: the
                whole space.

        Raises:
            ConfigError: an `init` that no trial had, or `n` out of range.
        """
        self._check(init)
        if not 1 <= n <= MOST:
            raise ConfigError(f"n must lie between 1 and {MOST}; found {n}")
        given = enumerate_all() if candidates is None else (c.canonical() for c in candidates)
        known = {pipeline.canonical() for pipeline in exclude}
        pool = [pipeline for pipeline in dict.fromkeys(given) if pipeline not in known]
        if not pool:
            return []
        x = _design([(pipeline, init) for pipeline in pool], self.inits)
        predicted = self._predict(x)
        ran_on = self._ran_on(init)
        never = np.array([pipeline not in ran_on for pipeline in pool])
        best = np.lexsort((-predicted, never))[:n]  # stable: equal ones keep the order of the space
        return [
            Recommendation(
                pipeline=pool[i],
                predicted=float(predicted[i]),
                interval=(float(predicted[i] - self._radius), float(predicted[i] + self._radius)),
                reasons=self._reasons(pool[i], x[i]),
                ran_on=ran_on.get(pool[i], 0),
            )
            for i in best
        ]

    def contributions(self, pipeline: Pipeline, *, init: str) -> dict[str, float]:
        """What each choice adds to the prediction against the average over the trials learned from.

        One choice at a time is replaced by those of the trials. For a ridge the numbers add up to
        the prediction minus its average over the trials.

        Raises:
            ConfigError: an `init` that no trial had.
        """
        self._check(init)
        x = _design([(pipeline.canonical(), init)], self.inits)[0]
        return self._contributions(x)

    def _ran_on(self, init: str) -> dict[Pipeline, int]:
        """The pipelines that ended on students with such a start, and on how many data sets."""
        ended = {
            (row.pipeline.canonical(), row.dataset)
            for row in self.rows
            if row.init == init and row.state == "complete"
        }
        return Counter(pipeline for pipeline, _ in ended)

    def _check(self, init: str) -> None:
        if init not in self.inits:
            raise ConfigError(
                f"init must be {' or '.join(self.inits)}, as of the students in the studies; found "
                f"{init!r}, so add a study of such students or do without recommendations"
            )

    def _contributions(self, x: Array) -> dict[str, float]:
        here = float(self._predict(x[None])[0])
        owners = np.array([name for name, _ in _columns(self.inits)])
        found: dict[str, float] = {}
        for name in SPACE:
            without = np.where(owners == name, self._background, x)
            found[name] = here - float(self._predict(without).mean())
        return found

    def _reasons(self, pipeline: Pipeline, x: Array) -> tuple[tuple[str, float], ...]:
        added, active = self._contributions(x), pipeline.active()
        top = sorted((name for name in active if added[name] > 0), key=lambda name: -added[name])
        return tuple((f"{name}={label(name, active[name])}", added[name]) for name in top[:3])

    def evaluate(self) -> list[HeldOut]:
        """Leave out one data set at a time, with all its contexts and those of its `family`, and
        rank what ran there.

        One row for each data set and one for their mean, for this target and for the paper's. Where
        a data set has several contexts, its row is their mean. Contexts of fewer than three
        pipelines are left out.

        Raises:
            DataError: fewer than two data sets.
        """
        names = list(dict.fromkeys(row.dataset for row in self.rows))
        if len({family(name) for name in names}) < 2:
            raise DataError(
                "expected trials on at least two data sets of different texts, found only "
                f"{' and '.join(names)}; add a study of another"
            )
        table: list[HeldOut] = []
        targets: tuple[Target, ...] = (self.target, "raw")
        for target in dict.fromkeys(targets):
            held = [self._without(name, target) for name in names]
            found = [row for row in held if row is not None]
            table += found + ([_mean("mean", target, found)] if found else [])
        return table

    def _without(self, dataset: str, target: Target) -> HeldOut | None:
        others = [row for row in self.rows if family(row.dataset) != family(dataset)]
        fitted = AutoDistiller.fit(others, model=self.model, target=target, seed=self.seed)
        own = by_context(row for row in self.rows if row.dataset == dataset)
        judged = [fitted._judge(context) for context in own.values()]
        ranked = [row for row in judged if row is not None]
        return _mean(dataset, target, ranked) if ranked else None

    def _judge(self, rows: list[Row]) -> HeldOut | None:
        values: dict[Pipeline, list[float]] = {}
        for row, ratio in zip(rows, targets_of(rows, "raw"), strict=True):
            values.setdefault(row.pipeline.canonical(), []).append(float(ratio))
        # A fixed order, so that ties do not go to what a search happened to run first.
        ran = sorted(values, key=Pipeline.to_json)
        if len(ran) < 3:
            return None
        true = np.array([float(np.mean(values[pipeline])) for pipeline in ran])
        x = _design([(pipeline, rows[0].init) for pipeline in ran], self.inits)
        predicted = self._predict(x)
        k = min(PICKS, len(ran))
        picks = np.argsort(-predicted, kind="stable")[:k]
        return HeldOut(
            dataset=rows[0].dataset,
            target=self.target,
            pipelines=len(ran),
            spearman=rank_correlation(predicted, true),
            percentile=float((rankdata(true)[picks] - 1).mean() / (len(ran) - 1)),
            regret=float(true.max() - true[picks].max()),
            random_regret=float(true.max()) - expected_best(true, k),
            above_labels=_above_labels(rows),
        )


def _columns(inits: Sequence[str]) -> list[tuple[str, str]]:
    """The choice and the name of every feature. The intermediate loss also has one for each start
    of the student, as random ones want another loss than trained ones."""
    found: list[tuple[str, str]] = []
    for name, values in SPACE.items():
        if name == "augment":
            longest = max(len(chain) for chain in values)
            found.append((name, "augment=none"))
            found += [(name, f"augment={a}@{i}") for a in AUGMENTERS for i in range(longest)]
        else:
            found += [(name, f"{name}={value}") for value in values]
    for value in SPACE["intermediate"]:
        found += [("intermediate", f"intermediate={value}&init={init}") for init in inits]
    return found


def _design(pairs: Sequence[tuple[Pipeline, str]], inits: Sequence[str]) -> Array:
    """Features of (canonical pipeline, init) pairs, `(N, F)` of 0 and 1."""
    at = {feature: i for i, (_, feature) in enumerate(_columns(inits))}
    x = np.zeros((len(pairs), len(at)))
    for row, (pipeline, init) in zip(x, pairs, strict=True):
        for name, value in pipeline.active().items():
            if name == "augment" and value:
                row[[at[f"augment={a}@{i}"] for i, a in enumerate(value)]] = 1
            else:
                row[at[f"{name}={label(name, value)}"]] = 1
        joint = at.get(f"intermediate={pipeline.intermediate}&init={init}")
        if joint is not None:  # a start that no trial had is known by the loss alone
            row[joint] = 1
    return x


def _line(coefficients: Array, intercept: float) -> Callable[[Array], Array]:
    # Rounded, so that equal sums are equal in whatever order a processor adds them.
    return lambda x: np.round(x @ coefficients + intercept, 9)


def _radius(residuals: Array) -> float:
    return float(np.quantile(np.abs(residuals), COVERAGE, method="higher"))


def _numbered(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Equal keys get equal numbers, from 0 in order of appearance."""
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _above_labels(rows: Sequence[Row]) -> float:
    above = [
        row.score > row.hard_score
        for row in rows
        if row.state == "complete" and row.score is not None and row.hard_score is not None
    ]
    return float(np.mean(above)) if above else math.nan


def _mean(dataset: str, target: Target, rows: Sequence[HeldOut]) -> HeldOut:
    names = [field.name for field in fields(HeldOut)][2:]
    means = {name: float(np.mean([getattr(row, name) for row in rows])) for name in names}
    return HeldOut(dataset=dataset, target=target, **means)


def _option(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} must be {' or '.join(known)}; found {value!r}")
