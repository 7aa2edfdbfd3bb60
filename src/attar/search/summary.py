"""What a search leaves behind: `study.jsonl`, a summary, and the text that shows it.

A trial is recommended, drawn at random, or one of all that there are (its origin). The drawn ones
are the baseline: the best of the recommended is compared with what the best of equally many drawn
ones scores on average.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from attar import artefacts
from attar.errors import AttarError, ConfigError
from attar.report.tables import NONE, Table
from attar.report.units import digits
from attar.search.statistics import expected_best
from attar.search.storage import STUDY_FILE, open_study, study_lock, study_name
from attar.search.trials import Origin, PlannedTrial, counted

State = Literal["complete", "pruned", "failed"]
_STATES: dict[TrialState, State] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
#: trials that a table shows
_SHOWN = 5
#: drawn trials whose best is reported with the summary, as in AutoDistiller's paper
_DRAWN = 5


class EndedTrial(Protocol):
    """What is read of a trial that has ended; higher scores are better."""

    @property
    def state(self) -> State:
        """How it ended."""
        ...

    @property
    def score(self) -> float | None:
        """On validation data; None where it did not get that far."""
        ...

    @property
    def test_score(self) -> float | None:
        """On test data; None where that was not measured."""
        ...

    @property
    def seconds(self) -> float:
        """How long it ran."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON values, one line of the study."""
        ...


T = TypeVar("T", bound=EndedTrial)
Convert = Callable[[FrozenTrial, Mapping[str, Any]], T]
"""Makes a method's own trial of an Optuna trial and the attributes of its study."""


def state_of(trial: FrozenTrial) -> State:
    """How a trial has ended."""
    return _STATES.get(trial.state, "failed")


def ended_trials(study: optuna.Study, convert: Convert[T]) -> list[tuple[T, Origin]]:
    """The trials that have ended, each with its origin; without those that were run again."""
    attrs = study.user_attrs
    return [
        (convert(trial, attrs), planned.origin)
        for trial in counted(study.get_trials(deepcopy=False))
        if trial.state.is_finished() and (planned := PlannedTrial.of(trial)) is not None
    ]


def write_study(folder: Path, study: optuna.Study, *, convert: Convert[T]) -> list[T]:
    """Write the trials that have ended to `study.jsonl`, and return them."""
    with study_lock(folder):  # so that none overwrites a newer list
        trials = [trial for trial, _ in ended_trials(study, convert)]
        text = "".join(json.dumps(trial.to_dict()) + "\n" for trial in trials)
        artefacts.write_text(folder / STUDY_FILE, text)
    return trials


@dataclass(frozen=True)
class Best:
    """The best of so many trials, by its score."""

    trials: int
    score: float


@dataclass(frozen=True)
class Summary(Generic[T]):
    """What a search found.

    Attributes:
        ranked: the trials that were run to their end with their origins, best first.
        pruned: how many were ended early.
        failed: how many failed.
        missing: how many have not ended, such as those that other workers run.
        random: what the best of five drawn trials scores on average, or of all if they are fewer;
            None where none was drawn.
        recommended: the best of the recommended trials; None where there were none.
        same_budget: what the best of equally many drawn trials scores on average; None where fewer
            were drawn.
    """

    ranked: tuple[tuple[T, Origin], ...]
    pruned: int
    failed: int
    missing: int
    random: Best | None
    recommended: Best | None
    same_budget: Best | None

    @property
    def best(self) -> T:
        """The best trial."""
        return self.ranked[0][0]

    @property
    def ended(self) -> int:
        """How many trials have ended, in whatever way."""
        return len(self.ranked) + self.pruned + self.failed

    def to_dict(self) -> dict[str, Any]:
        """The counts and comparisons, for a record."""
        return {
            "trials": self.ended,
            **{name: getattr(self, name) for name in ("pruned", "failed", "missing")},
            **{
                name: None if best is None else asdict(best)
                for name in ("random", "recommended", "same_budget")
                for best in [getattr(self, name)]
            },
        }


def read_summary(folder: str | Path, convert: Convert[T], *, storage: str | None) -> Summary[T]:
    """What the search in a folder has found so far.

    Args:
        folder: of the search.
        convert: makes the method's own trial of a stored one.
        storage: the URL that it was given, if any.

    Raises:
        ConfigError: there is no study, or its storage cannot be opened.
        AttarError: no trial was run to its end.
    """
    study = open_study(Path(folder), storage)
    if study is None and storage is not None:
        name = study_name(Path(folder))
        raise ConfigError(f"the storage has no study {name!r}; search first")
    if study is None:
        raise ConfigError(f"there is no study in {folder}; give the folder of a search")
    return summarise(ended_trials(study, convert), missing=unfinished(study))


def unfinished(study: optuna.Study) -> int:
    """Trials that wait, or that a worker runs."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)))


def summarise(trials: Sequence[tuple[T, Origin]], *, missing: int = 0) -> Summary[T]:
    """The same of trials that are at hand.

    In the comparison a pruned trial counts with the score it had when it was ended, and a failed
    one as the worst: leaving them out would make what is drawn look better than it is.

    Raises:
        AttarError: no trial was run to its end.
    """
    complete = [trial for trial in trials if trial[0].state == "complete"]
    if not complete:
        raise AttarError(
            f"none of the {len(trials)} trials that ended was run to its end; the log says why "
            "they failed"
        )
    scores = [trial.score for trial, _ in trials if trial.score is not None]
    values: dict[str, list[float]] = {"recommended": [], "random": []}
    for trial, origin in trials:
        score = min(scores) if trial.score is None else trial.score
        values.setdefault(origin, []).append(score)
    first, drawn = values["recommended"], values["random"]
    return Summary(
        ranked=tuple(sorted(complete, key=lambda trial: -(trial[0].score or 0.0))),
        pruned=sum(trial.state == "pruned" for trial, _ in trials),
        failed=sum(trial.state == "failed" for trial, _ in trials),
        missing=missing,
        random=_expected(drawn, min(_DRAWN, len(drawn))),
        recommended=Best(len(first), max(first)) if first else None,
        same_budget=_expected(drawn, len(first)),
    )


def _expected(drawn: Sequence[float], count: int) -> Best | None:
    """What the best of `count` of the drawn trials scores on average."""
    if not 1 <= count <= len(drawn):
        return None
    return Best(count, expected_best(drawn, count))


# ------------------------------------------------------------------------------------- as text


def trials_table(summary: Summary[T], describe: Callable[[T], str], *, heading: str) -> Table:
    """The best trials.

    Args:
        summary: of the search.
        describe: a trial in the first column.
        heading: of that column.
    """
    rows = [
        [
            describe(trial),
            score_text(trial.score),
            score_text(trial.test_score),
            digits(trial.seconds),
            origin,
        ]
        for trial, origin in summary.ranked[:_SHOWN]
    ]
    return Table([heading, "validation score", "test score", "seconds", "chosen"], rows)


def summary_lines(
    summary: Summary[T], *, references: Mapping[str, float | None]
) -> list[tuple[str, str]]:
    """What the best trial is measured by, as label and text; all on validation data.

    Args:
        summary: of the search.
        references: scores to compare with, such as a teacher's, by name.
    """
    lines = [
        ("trials", f"{summary.ended}, of which {summary.pruned} pruned and {summary.failed} failed")
    ]
    if summary.missing:
        text = f"{summary.missing}, run by other workers; at their end the same command shows all"
        lines.append(("still running", text))
    lines += [(name, score_text(score)) for name, score in references.items()]
    chosen = "(chosen by this score: judge by the test score)"
    lines.append(("best", f"{score_text(summary.best.score)}  {chosen}"))
    if summary.random is not None:
        text = f"{score_text(summary.random.score)} on average"
        lines.append((f"best of {summary.random.trials} random", text))
    if summary.recommended is not None:
        text = verdict(summary.recommended, summary.same_budget)
        text = f"{score_text(summary.recommended.score)}, {text}"
        lines.append((f"best of {summary.recommended.trials} recommended", text))
    return lines


def verdict(recommended: Best, drawn: Best | None) -> str:
    """What the recommendation was worth at its own budget."""
    if drawn is None:
        return "too few random ones have ended to compare it with"
    apart = round(recommended.score - drawn.score, 4)
    worth = "as good as" if apart == 0 else f"{abs(apart):.4f} {'above' if apart > 0 else 'BELOW'}"
    return f"{worth} the best of {drawn.trials} random, {score_text(drawn.score)} on average"


def score_text(score: float | None) -> str:
    """A score with four digits, or a dash for none."""
    return NONE if score is None else f"{score:.4f}"
