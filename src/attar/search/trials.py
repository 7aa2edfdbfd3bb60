"""The trials of a study wait in an Optuna storage, from which any number of workers take them: each
runs once.

Every worker holds the lock of a file of its own, which the system takes from a dead one at once. So
a running trial whose worker's lock is free was left behind, whatever became of process numbers and
of the machine's name, and it goes back into the queue. On a database that several machines share, a
worker sees the files of its own folder alone: what another machine left behind waits for a worker
there.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from attar.errors import ConfigError
from attar.methods.distiller.pipelines import Pipeline, label
from attar.methods.distiller.study import STUDY_FILE

logger = logging.getLogger(__name__)


Origin = Literal["recommended", "random"]
"""Whether a trial was chosen by the recommender or drawn."""
JOURNAL = "journal.log"
_LOCK = "study.lock"
_WORKERS = "workers"
#: of what other settings tell by its content
_NAMES = ("data", "teacher")
#: a trial whose workers died so often is not tried again
_LIVES = 3
#: seconds in which another machine has listed the trials, or is taken for dead
_PATIENCE = 60.0


class Queue:
    """The trials of one study, for one worker; `with` it, the worker is known to be alive."""

    def __init__(self, folder: Path, study: optuna.Study, *, shared: bool) -> None:
        self.folder, self.study, self._shared = folder, study, shared
        self._name = f"{uuid.uuid4().hex}.lock"
        self._life = FileLock(folder / _WORKERS / self._name)

    @classmethod
    def open(
        cls,
        folder: Path,
        url: str | None,
        *,
        settings: dict[str, Any],
        plan: Sequence[tuple[Pipeline, Origin]],
    ) -> "Queue":
        """The study of a folder, its trials listed by whoever comes first.

        Args:
            folder: is made if it is not there.
            url: of a database; None: a journal file in the folder.
            settings: what the study was made with, as JSON values.
            plan: the trials.

        Raises:
            ConfigError: the study was made with other settings, or the database cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = None if url is None else open_storage(folder, url)  # before there is a folder
        folder.mkdir(parents=True, exist_ok=True)
        storage = storage or open_storage(folder, None)
        with study_lock(folder):
            name = study_name(folder)
            try:
                study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
                study.set_user_attr("settings", settings)
            except DuplicatedStudyError:
                study = optuna.load_study(study_name=name, storage=storage)
                if url is not None:  # another machine may be listing them
                    _wait(lambda: "listed" in study.user_attrs)
            _check_settings(study, settings, folder)
            if study.user_attrs.get("listed", 0) < len(plan):  # new, or more are asked for now
                _enqueue(study, plan)
                study.set_user_attr("listed", len(plan))
        return cls(folder, study, shared=url is not None)

    def __enter__(self) -> "Queue":
        Path(self._life.lock_file).parent.mkdir(exist_ok=True)
        self._life.acquire()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._life.release()
        if error is None:  # else the file tells the others that its trial was left behind
            Path(self._life.lock_file).unlink(missing_ok=True)

    def take(self) -> optuna.Trial | None:
        """The next waiting trial, which no other worker gets; None if there is none."""
        with study_lock(self.folder):  # so that a trial is never seen without its worker
            self._rescue()
            if not self.count(TrialState.WAITING):
                return None
            trial = self.study.ask()
            if "pipeline" not in trial.user_attrs:  # another machine was faster
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            trial.set_user_attr("worker", self._name)
            return trial

    def put_back(self, trial: FrozenTrial | optuna.Trial, *, lives: int | None = None) -> None:
        """Let another worker run a trial from its beginning; it has that many lives left, or as
        many as before."""
        attrs = {name: trial.user_attrs[name] for name in ("pipeline", "origin")}
        attrs["lives"] = trial.user_attrs.get("lives", _LIVES) if lives is None else lives
        with study_lock(self.folder):  # so that nobody thinks that all is done
            # First the new one: to die in between must not lose the trial.
            again = {"instead_of": trial.number}
            if not any(t.user_attrs.get("instead_of") == trial.number for t in self._trials()):
                self.study.enqueue_trial(
                    parameters(Pipeline.from_json(attrs["pipeline"])), user_attrs=attrs | again
                )
            self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def count(self, *states: TrialState) -> int:
        """Trials in these states."""
        return len(self._trials(*states))

    def done_here(self) -> bool:
        """Whether no other worker of this folder runs a trial, and none waits."""
        running = {t.user_attrs.get("worker") for t in self._trials(TrialState.RUNNING)}
        here = {file.name for file in (self.folder / _WORKERS).iterdir()} - {self._name}
        return not self.count(TrialState.WAITING) and not running & here

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _rescue(self) -> None:
        """Put the trials of dead workers back."""
        for trial in self._trials(TrialState.RUNNING):
            if self._alive(trial):
                continue
            left = trial.user_attrs.get("lives", _LIVES) - 1
            if "pipeline" not in trial.user_attrs:  # asked for when another machine was faster
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            elif left:
                self.put_back(trial, lives=left)
            else:
                logger.warning("trial %d failed: %d workers died of it", trial.number, _LIVES)
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            if worker := trial.user_attrs.get("worker"):
                (self.folder / _WORKERS / worker).unlink(missing_ok=True)

    def _alive(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker")
        if worker is None:  # it died while it took the trial; or takes it now, on another machine
            began = trial.datetime_start
            age = 0.0 if began is None else (datetime.now() - began).total_seconds()
            return self._shared and age < _PATIENCE
        file = self.folder / _WORKERS / worker
        if not file.exists():
            return self._shared
        try:
            with FileLock(file, blocking=False):
                return False
        except Timeout:
            return True


def parameters(pipeline: Pipeline) -> dict[str, Any]:
    """The choices of a pipeline as Optuna stores them."""
    return {
        name: label(name, value) if name == "augment" else value
        for name, value in pipeline.active().items()
    }


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The database at a URL, or the journal file in the study's folder for None.

    Raises:
        ConfigError: the URL leads to no database that can be opened.
    """
    if url is None:
        journal = folder / JOURNAL
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


def study_lock(folder: Path) -> FileLock:
    """Held while a worker of this machine takes a trial or writes results."""
    return FileLock(folder / _LOCK, is_singleton=True)  # who holds it may take it again


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
    if inside and not {JOURNAL, _LOCK, STUDY_FILE} & {*inside}:
        raise ConfigError(
            f"the folder {folder} holds something else than a study, such as {min(inside)}; give a "
            "new or an empty one"
        )


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


def _check_settings(study: optuna.Study, settings: dict[str, Any], folder: Path) -> None:
    stored = study.user_attrs.get("settings")
    if stored is None:  # whoever made the study died
        study.set_user_attr("settings", settings)
    elif differ := sorted(_differences(stored, settings)):
        raise ConfigError(
            f"the study in {folder} was made with other settings ({'; '.join(differ)}); give the "
            "same to go on with it, or another folder"
        )


def _differences(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """Where two settings differ, such as `max_steps 300, now 400`."""
    for name in stored.keys() | settings.keys():
        old, new = stored.get(name), settings.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new)
        elif old != new and name not in _NAMES:
            yield f"{name} {old}, now {new}"


def _enqueue(study: optuna.Study, plan: Sequence[tuple[Pipeline, Origin]]) -> None:
    there = {trial.user_attrs.get("pipeline") for trial in study.get_trials(deepcopy=False)}
    for pipeline, origin in plan:
        attrs = {"pipeline": pipeline.to_json(), "origin": origin}
        if attrs["pipeline"] not in there:
            study.enqueue_trial(parameters(pipeline), user_attrs=attrs)


def _wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not ready() and time.monotonic() < end:
        time.sleep(0.2)


def _without_password(url: str) -> str:
    return re.sub(r"(://[^/@]*?):[^/]*@", r"\1:***@", url)
