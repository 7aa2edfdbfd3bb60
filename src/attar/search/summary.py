"""What a search leaves behind: `study.jsonl`, and a summary.

A trial is one of the recommender's or drawn at random (its origin). The drawn ones are the
baseline: the best of the recommended is compared with what the best of equally many drawn ones
scores on average.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from attar import artefacts
from attar.errors import AttarError, ConfigError
from attar.methods.distiller.autodistiller import PICKS
from attar.methods.distiller.pipelines import Pipeline
from attar.methods.distiller.study import SCHEMA, STUDY_FILE, Row
from attar.search.statistics import expected_best
from attar.search.trials import JOURNAL, Origin, open_storage, study_lock, study_name

_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}


def write_study(folder: Path, study: optuna.Study) -> list[Row]:
    """Write the trials that have ended to `study.jsonl`, and return them."""
    with study_lock(folder):  # so that none overwrites a newer list
        rows = [row for row, _ in _ended(study)]
        text = "".join(json.dumps(row.to_dict()) + "\n" for row in rows)
        artefacts.write_text(folder / STUDY_FILE, text)
    return rows


def _ended(study: optuna.Study) -> list[tuple[Row, Origin]]:
    """The trials that have ended, each with its origin; without those that were run again."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("instead_of") for trial in trials}
    attrs = study.user_attrs
    return [
        (_row(trial, attrs), trial.user_attrs.get("origin", "random"))
        for trial in trials
        if trial.state.is_finished()
        and "pipeline" in trial.user_attrs
        and trial.number not in again
    ]


@dataclass(frozen=True)
class Best:
    """The best of so many trials: a score on validation data."""

    trials: int
    score: float


@dataclass(frozen=True)
class Summary:
    """What a search found; all scores but the trials' `test_score` are on validation data.

    Attributes:
        ranked: the trials that were trained to their end with their origins, best first.
        pruned: how many were ended early.
        failed: how many failed.
        missing: how many have not ended, such as those that other workers run.
        teacher: its score.
        hard: that of the student taught by labels alone.
        random: what the best of five drawn trials scores on average, or of all if they are fewer;
            None where none was drawn.
        recommended: the best of the recommended trials; None where there were none.
        same_budget: what the best of equally many drawn trials scores on average; None where fewer
            were drawn.
    """

    ranked: tuple[tuple[Row, Origin], ...]
    pruned: int
    failed: int
    missing: int
    teacher: float
    hard: float | None
    random: Best | None
    recommended: Best | None
    same_budget: Best | None


def summary(folder: str | Path, *, storage: str | None = None) -> Summary:
    """What the search in a folder has found so far.

    Args:
        folder: of the search.
        storage: the URL that it was given, if any.

    Raises:
        ConfigError: there is no study, or its storage cannot be opened.
        AttarError: no trial was trained to its end.
    """
    study = _open(Path(folder), storage)
    if study is None and storage is not None:
        name = study_name(Path(folder))
        raise ConfigError(f"the storage has no study {name!r}; search first")
    if study is None:
        raise ConfigError(f"there is no study in {folder}; give the folder of a search")
    trials = _ended(study)
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))
    return summarise(trials, missing=len(waiting))


def settings_of(folder: str | Path, *, storage: str | None = None) -> dict[str, Any] | None:
    """What the study in a folder was made with; None where there is none yet.

    Raises:
        ConfigError: its storage cannot be opened.
    """
    study = _open(Path(folder), storage)
    return None if study is None else study.user_attrs.get("settings")


def _open(folder: Path, storage: str | None) -> optuna.Study | None:
    if storage is None and not (folder / JOURNAL).exists():
        return None
    try:
        found = open_storage(folder, storage)
        return optuna.load_study(study_name=study_name(folder), storage=found)
    except KeyError:
        return None


def summarise(trials: Sequence[tuple[Row, Origin]], *, missing: int = 0) -> Summary:
    """The same of trials that are at hand.

    In the comparison a pruned trial counts with the score it had when it was ended, and a failed
    one as the worst: leaving them out would make what is drawn look better than it is.

    Raises:
        AttarError: no trial was trained to its end.
    """
    complete = [trial for trial in trials if trial[0].state == "complete"]
    if not complete:
        raise AttarError(
            f"none of the {len(trials)} trials that ended was trained to its end; the log says why "
            "they failed"
        )
    scores = [row.score for row, _ in trials if row.score is not None]
    values: dict[Origin, list[float]] = {"recommended": [], "random": []}
    for row, origin in trials:
        values[origin].append(min(scores) if row.score is None else row.score)
    first = values["recommended"]
    best = complete[0][0]
    return Summary(
        ranked=tuple(sorted(complete, key=lambda trial: -(trial[0].score or 0.0))),
        pruned=sum(row.state == "pruned" for row, _ in trials),
        failed=sum(row.state == "failed" for row, _ in trials),
        missing=missing,
        teacher=best.teacher_score,
        hard=best.hard_score,
        random=_expected(values["random"], min(PICKS, len(values["random"]))),
        recommended=Best(len(first), max(first)) if first else None,
        same_budget=_expected(values["random"], len(first)),
    )


def _expected(drawn: Sequence[float], count: int) -> Best | None:
    """What the best of `count` of the drawn trials scores on average."""
    if not 1 <= count <= len(drawn):
        return None
    return Best(count, expected_best(drawn, count))


def _row(trial: FrozenTrial, attrs: Mapping[str, Any]) -> Row:
    settings = attrs["settings"]
    student, width = settings["student"], settings["student_width"]
    if student is None:
        student = f"{settings['student_layers']} layers"
        student += "" if width is None else f" of width {width}"
    return Row.from_dict(
        {
            "schema": SCHEMA,
            "space": settings["space"],
            "dataset": _dataset(settings),
            "student": student,
            "teacher": Path(settings["teacher"]).name,
            "init": settings["student_init"],
            "setting": _setting(settings),
            "pipeline": json.loads(trial.user_attrs["pipeline"]),
            "seed": settings["training"]["seed"],
            "examples": settings["examples"],
            "score": trial.user_attrs.get("score"),
            "test_score": trial.user_attrs.get("test_score"),
            "teacher_score": attrs["teacher_score"],
            "hard_score": attrs["hard_score"],
            "seconds": trial.user_attrs.get("seconds", 0.0),
            "state": _STATES.get(trial.state, "failed"),
        }
    )


def _dataset(settings: Mapping[str, Any]) -> str:
    """The data set, so far as its name tells it from others: `reviews/train.csv`, `glue/sst2`."""
    path = Path(settings["data"])
    name = f"{path.parent.name}/{path.name}" if path.suffix and path.parent.name else path.name
    label = settings["columns"][-1]
    return "".join(
        [
            name,
            "" if settings["data_config"] is None else f"/{settings['data_config']}",
            "" if label is None else f", {label}",
        ]
    )


def _setting(settings: Mapping[str, Any]) -> str:
    """How a trial was trained: in words what matters most, and a digest of the rows, the teacher's
    weights and all that is the same in every trial, since scores of others do not compare."""
    training = settings["training"]
    searched = {field.name for field in fields(Pipeline)} | {"mixup_beta", "seed"}
    same = {name: value for name, value in training.items() if name not in searched}
    same |= {name: settings[name] for name in ("rows", "weights")}
    digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:6]
    limit = training["limit_labels"]
    return (
        f"{'all' if limit is None else limit} labels, {training['max_steps']} steps of "
        f"{training['per_device_train_batch_size']} ({digest})"
    )
