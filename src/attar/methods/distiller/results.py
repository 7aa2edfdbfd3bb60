"""What a search leaves behind: the storage that its trials wait in, `study.jsonl`, and a summary.

A trial is one of the recommender's or drawn at random (its origin). The drawn ones are the
baseline: the best of the recommended is compared with what the best of equally many drawn ones
scores on average.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from attar import checkpoint
from attar.errors import AttarError, ConfigError
from attar.methods.distiller.recommender import PICKS, expected_best
from attar.methods.distiller.study import SCHEMA, STUDY_FILE, Row

Origin = Literal["recommended", "random"]
_JOURNAL = "journal.log"
_LOCK = "study.lock"
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The database at a URL, or the journal file in the study's folder for None.

    Raises:
        ConfigError: the URL leads to no database that can be opened.
    """
    if url is None:
        journal = folder / _JOURNAL
        lock: Any = _JournalLock(journal)
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # each database has errors of its own
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ConfigError(
            f"the storage {_without_password(url)} cannot be opened ({reason}); check the URL and "
            "that the Python driver of the database is installed, or leave --storage out"
        ) from error


def _without_password(url: str) -> str:
    return re.sub(r"(://[^/@]*?):[^/]*@", r"\1:***@", url)


class _JournalLock:
    """A lock in the form that Optuna asks for, which the system takes from a dead worker at once;
    those of Optuna wait 30 seconds."""

    def __init__(self, journal: Path) -> None:
        self._lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def study_lock(folder: Path) -> FileLock:
    """Held while a worker of this machine takes a trial or writes results."""
    return FileLock(folder / _LOCK)


def study_name(folder: Path) -> str:
    """The study's name in its storage; machines that share a database name their folders alike."""
    return f"attar-{folder.absolute().name}"


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a study.

    Raises:
        ConfigError: so it does, or it is a file.
    """
    try:
        inside = [file.name for file in folder.iterdir()] if folder.exists() else []
    except NotADirectoryError as error:
        raise ConfigError(f"{folder} is a file; give a folder for the study") from error
    if inside and not {_JOURNAL, _LOCK, STUDY_FILE} & {*inside}:
        raise ConfigError(
            f"the folder {folder} holds something else than a study, such as {min(inside)}; give a "
            "new or an empty one"
        )


def write_study(folder: Path, study: optuna.Study) -> list[Row]:
    """Write the trials that have ended to `study.jsonl`, and return them."""
    with study_lock(folder):  # so that none overwrites a newer list
        rows = [row for row, _ in _ended(study)]
        text = "".join(json.dumps(row.to_dict()) + "\n" for row in rows)
        checkpoint.write_text(folder / STUDY_FILE, text)
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


def _row(trial: FrozenTrial, attrs: Mapping[str, Any]) -> Row:
    settings = attrs["settings"]
    student, width = settings["student"], settings["student_width"]
    if student is None:
        student = f"{settings['student_layers']} layers"
        student += "" if width is None else f" of width {width}"
    limit = settings["training"]["limit_labels"]
    return Row.from_dict(
        {
            "schema": SCHEMA,
            "space": settings["space"],
            "dataset": Path(settings["data"]).name,
            "student": student,
            "teacher": Path(settings["teacher"]).name,
            "init": settings["student_init"],
            "setting": "all labels" if limit is None else f"{limit} labels",
            "pipeline": json.loads(trial.user_attrs["pipeline"]),
            "seed": settings["training"]["seed"],
            "score": trial.user_attrs.get("score"),
            "test_score": trial.user_attrs.get("test_score"),
            "teacher_score": attrs["teacher_score"],
            "hard_score": attrs["hard_score"],
            "seconds": trial.user_attrs.get("seconds", 0.0),
            "state": _STATES.get(trial.state, "failed"),
        }
    )


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
    folder = Path(folder)
    if storage is None and not (folder / _JOURNAL).exists():
        raise ConfigError(f"there is no study in {folder}; give the folder of a search")
    found = open_storage(folder, storage)
    try:
        study = optuna.load_study(study_name=study_name(folder), storage=found)
    except KeyError as error:
        raise ConfigError(
            f"the storage has no study {study_name(folder)!r}; search first"
        ) from error
    trials = _ended(study)
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))
    return summarise(trials, missing=len(waiting))


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
