"""AutoDistiller: learn from studies of other data sets which pipelines to try first on a new one,
and tell which choices matter.

Deviations (paper; here; why): the target is a trial's standing *within its context*, not the ratio
to the teacher, because that differs more between data sets than between pipelines; the model is a
ridge regression on one-hot choices, not a stack of ensembles, and sees no features of the data set,
as a handful of data sets teaches no more than that; pipelines that ran somewhere are recommended
before those that never ran, not the best of the whole space, whose predictions nothing has tested.
`target="raw"` restores the paper's target.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import get_args

import numpy as np

from attar.data.augment.augment import AUGMENTERS
from attar.errors import ConfigError, DataError, require
from attar.methods.distiller.pipelines import (
    SPACE,
    Pipeline,
    differences,
    enumerate_all,
    label,
)
from attar.methods.distiller.study import Trial, by_context, read_study, teacher_ratio
from attar.report.tables import NONE, Table
from attar.search.predictors import (
    Feature,
    HeldOut,
    Model,
    Predictor,
    Target,
    as_target,
    evaluate,
    fit_predictor,
    judge,
    one_hot,
    require_option,
)
from attar.search.statistics import Array

#: the recommended pipelines that `evaluate` runs, as in the paper
PICKS = 5
#: pipelines that can be asked for: nobody tries more
MOST = 100
#: data sets of the shipped studies that hold texts of another: who has seen one knows both
_FAMILIES = {"polarity": "sst2"}


def targets_of(trials: Sequence[Trial], target: Target) -> Array:
    """What is learned of every trial of one context, `(N,)`.

    Args:
        trials: those that were pruned or failed count as the worst.
        target: z, the robust z-score; rank, the rank from 0 to 1; raw, the ratio to the teacher.
    """
    ratios = np.array(
        [
            teacher_ratio(trial.score, trial.teacher_score)
            if trial.state == "complete" and trial.score is not None
            else math.nan
            for trial in trials
        ]
    )
    return as_target(ratios, target, noise=_noise(trials))


def _noise(trials: Sequence[Trial]) -> float:
    """Standard error of a ratio to the teacher, if the score is the share of right answers; a
    fair guess for other metrics between 0 and 1."""
    scores = [t.score for t in trials if t.state == "complete" and t.score is not None]
    if not scores:
        return 0.0
    share = min(max(float(np.median(scores)), 0.0), 1.0)
    return math.sqrt(share * (1 - share) / trials[0].examples) / trials[0].teacher_score


@dataclass(frozen=True)
class Recommendation:
    """A pipeline to try.

    Attributes:
        pipeline: in canonical form.
        predicted: its expected target, by default the robust z-score among pipelines.
        interval: 80% prediction interval of the target, from the errors on data sets
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


def shipped() -> list[Path]:
    """The studies that come with Attar, by name."""
    folder = files("attar.methods.distiller").joinpath("studies")
    if not folder.is_dir():
        return []
    studies = [Path(str(file)) for file in folder.iterdir() if file.name.endswith(".jsonl")]
    return sorted(studies)


def known_trials(studies: Iterable[str | Path] = ()) -> list[Trial]:
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
            "studies, such as the folder of attar pipeline search"
        )
    return read_study(every)


def family(dataset: str) -> str:
    """What stands for a data set and all that share its texts."""
    return _FAMILIES.get(dataset, dataset)


class AutoDistiller:
    """Predicts how well pipelines compare with each other; made by `fit`.

    Its steps, by the numbers that the code has: `fit` collects trials (1), their targets
    (2) and features (3), and fits a regression (4); `recommend` scores every candidate and returns
    the best (5), to be run.

    Attributes:
        trials: those learned from.
        inits: how their students started.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        model: Model,
        target: Target,
        seed: int,
        inits: tuple[str, ...],
        trials: tuple[Trial, ...],
    ) -> None:
        self.model: Model = model
        self.target: Target = target
        self.seed, self.inits, self.trials = seed, inits, trials
        self._predictor = predictor

    @classmethod
    def fit(
        cls, trials: Iterable[Trial], *, model: Model = "ridge", target: Target = "z", seed: int = 0
    ) -> "AutoDistiller":
        """Learn from the trials of one or more studies.

        A context counts only by comparison, so one without a finished trial is left out.

        Args:
            trials: of `read_study`; the more data sets, the better.
            model: ridge, its penalty chosen by leaving out one data set at a time; or extra_trees.
            target: z, the robust z-score within the context; rank, the rank in it from 0 to 1; raw,
                the ratio to the teacher as in the paper. Trials that failed or were pruned count
                as the worst of their context.
            seed: of the trees.

        Raises:
            ConfigError: an unknown model or target.
            DataError: fewer than two pipelines to compare.
        """
        require_option("model", model, known=get_args(Model))
        require_option("target", target, known=get_args(Target))
        # 1. One row for every trial.
        contexts = by_context(trials).values()
        trials = tuple(trial for context in contexts for trial in context)
        pipelines = [trial.pipeline.canonical() for trial in trials]
        if len({*pipelines}) < 2:
            raise DataError(
                f"expected at least two pipelines with finished trials, found {len({*pipelines})}; "
                "run more trials"
            )
        inits = tuple(sorted({trial.init for trial in trials}))
        # 2. What is to be predicted of each: how well it did.
        targets = np.concatenate([targets_of(context, target) for context in contexts])
        # 3. What it is predicted from: the choices of the pipeline.
        x = _design([(p, trial.init) for p, trial in zip(pipelines, trials, strict=True)], inits)
        # 4. The regression of the targets on the features.
        predictor = fit_predictor(
            x,
            targets,
            features=_features(inits),
            groups=[family(trial.dataset) for trial in trials],
            items=pipelines,  # with a single data set, what is new is a pipeline
            model=model,
            seed=seed,
        )
        return cls(predictor, model=model, target=target, seed=seed, inits=inits, trials=trials)

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
        require(1 <= n <= MOST, "n", n, f"between 1 and {MOST}")
        given = enumerate_all() if candidates is None else (c.canonical() for c in candidates)
        known = {pipeline.canonical() for pipeline in exclude}
        pool = [pipeline for pipeline in dict.fromkeys(given) if pipeline not in known]
        if not pool:
            return []
        # 5. Every candidate is scored, and the best are recommended.
        x = _design([(pipeline, init) for pipeline in pool], self.inits)
        predicted, radius = self._predictor.predict(x), self._predictor.radius
        ran_on = self._ran_on(init)
        never = np.array([pipeline not in ran_on for pipeline in pool])
        best = np.lexsort((-predicted, never))[:n]  # stable: equal ones keep the order of the space
        return [
            Recommendation(
                pipeline=pool[i],
                predicted=float(predicted[i]),
                interval=(float(predicted[i] - radius), float(predicted[i] + radius)),
                reasons=self._reasons(pool[i], x[i]),
                ran_on=ran_on.get(pool[i], 0),
            )
            for i in best
        ]

    def contributions(self, pipeline: Pipeline, *, init: str) -> dict[str, float]:
        """What each choice adds to the prediction against the average over the trials learned from
        (see `Predictor.contributions`).

        Raises:
            ConfigError: an `init` that no trial had.
        """
        self._check(init)
        x = _design([(pipeline.canonical(), init)], self.inits)[0]
        return self._predictor.contributions(x)

    def _ran_on(self, init: str) -> dict[Pipeline, int]:
        """The pipelines that ended on students with such a start, and on how many data sets."""
        ended = {
            (trial.pipeline.canonical(), trial.dataset)
            for trial in self.trials
            if trial.init == init and trial.state == "complete"
        }
        return Counter(pipeline for pipeline, _ in ended)

    def _check(self, init: str) -> None:
        if init not in self.inits:
            raise ConfigError(
                f"init must be {' or '.join(self.inits)}, as of the students in the studies; found "
                f"{init!r}, so add a study of such students or do without recommendations"
            )

    def _reasons(self, pipeline: Pipeline, x: Array) -> tuple[tuple[str, float], ...]:
        added, active = self._predictor.contributions(x), pipeline.active()
        top = sorted((name for name in active if added[name] > 0), key=lambda name: -added[name])
        return tuple((f"{name}={label(name, active[name])}", added[name]) for name in top[:3])

    def evaluate(self) -> list[HeldOut]:
        """Leave out one data set at a time, with all its contexts and those of its `family`, and
        rank what ran there.

        One row for each data set and one for their mean, for this target and for the paper's. Where
        a data set has several contexts, its row is their mean. Contexts of fewer than three
        pipelines are left out. Regrets are ratios to the teacher; `above_baseline` is the share of
        the trials that taught more than labels alone.

        Raises:
            DataError: fewer than two data sets.
        """
        names = list(dict.fromkeys(trial.dataset for trial in self.trials))
        if len({family(name) for name in names}) < 2:
            raise DataError(
                "expected trials on at least two data sets of different texts, found only "
                f"{' and '.join(names)}; add a study of another"
            )
        return evaluate(names, [self.target, "raw"], self._judge_unseen)

    def _judge_unseen(self, dataset: str, target: Target) -> list[HeldOut | None]:
        """Rows of a data set's contexts, by a model that has not seen it."""
        others = [t for t in self.trials if family(t.dataset) != family(dataset)]
        fitted = AutoDistiller.fit(others, model=self.model, target=target, seed=self.seed)
        own = by_context(trial for trial in self.trials if trial.dataset == dataset)
        return [fitted._judge(context) for context in own.values()]

    def _judge(self, trials: list[Trial]) -> HeldOut | None:
        values: dict[Pipeline, list[float]] = {}
        for trial, ratio in zip(trials, targets_of(trials, "raw"), strict=True):
            values.setdefault(trial.pipeline.canonical(), []).append(float(ratio))
        # A fixed order, so that ties do not go to what a search happened to run first.
        ran = sorted(values, key=Pipeline.to_json)
        x = _design([(pipeline, trials[0].init) for pipeline in ran], self.inits)
        return judge(
            self._predictor.predict(x),
            np.array([float(np.mean(values[pipeline])) for pipeline in ran]),
            picks=PICKS,
            dataset=trials[0].dataset,
            target=self.target,
            above_baseline=_above_labels(trials),
        )


def _features(inits: Sequence[str]) -> list[Feature]:
    """The columns of the design. The intermediate loss also has one for each start of the student,
    as random ones want another loss than trained ones."""
    columns: list[Feature] = []
    for name, values in SPACE.items():
        if name == "augment":
            longest = max(len(chain) for chain in values)
            columns.append(Feature(name, "augment=none"))
            places = [f"augment={a}@{i}" for a in AUGMENTERS for i in range(longest)]
            columns += [Feature(name, place) for place in places]
        else:
            columns += [Feature(name, f"{name}={label(name, value)}") for value in values]
    for value in SPACE["intermediate"]:
        columns += [Feature("intermediate", f"intermediate={value}&init={init}") for init in inits]
    return columns


def _design(pairs: Sequence[tuple[Pipeline, str]], inits: Sequence[str]) -> Array:
    """Features of (canonical pipeline, init) pairs, `(N, F)` of 0 and 1."""

    def names(pipeline: Pipeline, init: str) -> list[str]:
        features: list[str] = []
        for name, value in pipeline.active().items():
            if name == "augment" and value:
                features += [f"augment={a}@{i}" for i, a in enumerate(value)]
            else:
                features.append(f"{name}={label(name, value)}")
        if init in inits:  # a start that no trial had is known by the loss alone
            features.append(f"intermediate={pipeline.intermediate}&init={init}")
        return features

    return one_hot([names(*pair) for pair in pairs], _features(inits))


def _above_labels(trials: Sequence[Trial]) -> float:
    above = [
        trial.score > trial.hard_score
        for trial in trials
        if trial.state == "complete" and trial.score is not None and trial.hard_score is not None
    ]
    return float(np.mean(above)) if above else math.nan


# -------------------------------------------------------------------------------------- as text


def recommendation_table(best: Sequence[Recommendation]) -> Table:
    """The recommended pipelines, numbered."""
    rows = [
        [
            f"{number}  {differences(one.pipeline)}",
            f"{one.predicted:+.2f}",
            f"{one.interval[0]:+.2f} to {one.interval[1]:+.2f}",
            f"{one.ran_on} data set{'s' * (one.ran_on != 1)}",
        ]
        for number, one in enumerate(best, 1)
    ]
    head = [
        "differs from the default in",
        "predicted z",
        "80% prediction interval of z",
        "tried on",
    ]
    return Table(head, rows)


def evaluation_text(learned: AutoDistiller) -> str:
    """How well such recommendations did where the answer is known."""
    cannot = "How good such recommendations are on new data cannot be told"
    try:
        table = learned.evaluate()
    except DataError as error:
        return f"{cannot}: {error}."
    own = [row for row in table if row.target == learned.target]
    if not own:
        return f"{cannot}: no data set has three pipelines or more."
    rows = [_judged(row.dataset, row) for row in own]
    rows += [
        _judged("mean, with the paper's target", row)
        for row in table
        if row.target != learned.target and row.dataset == "mean"
    ]
    head = ["data set left out", "pipelines", "Spearman", "percentile", f"regret, best {PICKS}"]
    head += [f"regret, random {PICKS}", "better than labels alone"]
    return f"{Table(head, rows).text()}\n\n{reading(own[-1])}"


def _judged(name: str, row: HeldOut) -> list[str]:
    return [
        name,
        f"{row.candidates:.0f}",
        f"{row.spearman:+.2f}",
        f"{row.percentile:.2f}",
        f"{row.regret:.4f}",
        f"{row.random_regret:.4f}",
        NONE if math.isnan(row.above_baseline) else f"{100 * row.above_baseline:.0f}%",
    ]


def reading(mean: HeldOut) -> str:
    """One sentence on the mean over data sets, whatever it says."""
    below = mean.regret < mean.random_regret
    return (
        f"Each data set was ranked without having been seen; running the {PICKS} best by that "
        f"ranking instead of all pipelines loses {mean.regret:.4f} of the teacher's score on "
        f"average and {PICKS} random ones lose {mean.random_regret:.4f}, so on these studies the "
        f"recommendation is {'better' if below else 'NOT better'} than chance."
    )
