"""Which choices matter: the share of the variance of scores that each explains.

By functional ANOVA: Hutter, Hoos, Leyton-Brown: An Efficient Approach for Assessing Hyperparameter
Importance, 2014.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from attar.errors import DataError
from attar.search.storage import passing_study

#: finished trials of one context that a forest needs to say anything
_FEWEST = 8


@dataclass(frozen=True)
class ScoredChoices:
    """A finished trial: the choices that had an effect in it, as words, and its score."""

    chosen: Mapping[str, str]
    score: float


Context = Sequence[ScoredChoices]
"""Trials whose scores compare."""


def importance(
    contexts: Sequence[Context], *, choices: Sequence[str], seed: int = 0
) -> dict[str, float]:
    """Share of the variance of scores that each choice alone explains, largest first; sums to 1.

    Functional ANOVA by Optuna on the trials of each context, averaged over contexts. A choice that
    had no effect in a trial is given a random value there: a mark for it would be a second name of
    the choice that it depends on, and share its importance.

    Args:
        contexts: those that are `silent` are left out.
        choices: all that there are, by name.
        seed: of forests and of those values.

    Raises:
        DataError: no context is left.
    """
    shares = [_fanova(context, choices, seed) for context in contexts if silent(context) is None]
    if not shares:
        raise DataError(
            f"expected a context with at least {_FEWEST} finished trials of different scores, "
            f"found {' and '.join(str(silent(c)) for c in contexts) or 'no trial'}; run more trials"
        )
    mean = {name: math.fsum(share.get(name, 0.0) for share in shares) for name in choices}
    return {name: mean[name] / len(shares) for name in sorted(mean, key=lambda n: -mean[n])}


def silent(context: Context) -> str | None:
    """Why the trials of one context say nothing about importance; None if they do: there are at
    least 8, not all of the same choices, with different scores."""
    if len(context) < _FEWEST:
        return f"{len(context)} finished trials, fewer than {_FEWEST}"
    if len({tuple(trial.chosen.items()) for trial in context}) < 2:
        return "the same choices in all trials"
    return "equal scores" if len({trial.score for trial in context}) < 2 else None


def _fanova(context: Context, choices: Sequence[str], seed: int) -> dict[str, float]:
    rng = random.Random(seed)
    seen = {name: sorted({t.chosen[name] for t in context if name in t.chosen}) for name in choices}
    varied = {name: values for name, values in seen.items() if len(values) > 1}
    distributions: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution(values)
        for name, values in varied.items()
    }
    study = passing_study(["maximize"])
    for trial in context:
        params = {
            name: trial.chosen.get(name, rng.choice(options)) for name, options in varied.items()
        }
        study.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=trial.score)
        )
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
