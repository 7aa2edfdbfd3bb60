"""Where a study lives: a folder, and an Optuna storage that any number of workers share."""

import re
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from attar.errors import ConfigError

#: the trials that have ended, a line each
STUDY_FILE = "study.jsonl"
JOURNAL = "journal.log"
_LOCK = "study.lock"
#: how often a worker tries to make the tables of a database while others make them, and the seconds
#: in between
_TRIES, _PAUSE = 5, 0.5


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
        return _database(url)
    except Exception as error:  # each database has errors of its own
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ConfigError(
            f"the storage {_without_password(url)} cannot be opened ({reason}); check the URL and "
            "that the Python driver of the database is installed, or leave storage out"
        ) from error


def open_study(folder: Path, url: str | None) -> optuna.Study | None:
    """The study of a folder; None where there is none yet.

    Raises:
        ConfigError: the storage cannot be opened.
    """
    if url is None and not (folder / JOURNAL).exists():
        return None
    try:
        storage = open_storage(folder, url)
        return optuna.load_study(study_name=study_name(folder), storage=storage)
    except KeyError:
        return None


def passing_study(
    directions: Sequence[Literal["minimize", "maximize"]], *, sampler: BaseSampler | None = None
) -> optuna.Study:
    """A study in memory, made in passing, which is no news.

    Args:
        directions: `minimize` or `maximize` for each objective.
        sampler: what draws its trials.
    """
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(directions=directions, sampler=sampler)
    finally:
        optuna.logging.set_verbosity(level)


def settings_of(folder: str | Path, *, storage: str | None = None) -> dict[str, Any] | None:
    """What the study in a folder was made with; None where there is none yet.

    Raises:
        ConfigError: its storage cannot be opened.
    """
    study = open_study(Path(folder), storage)
    return None if study is None else study.user_attrs.get("settings")


def study_lock(folder: Path) -> FileLock:
    """Held while a worker of this machine takes a trial or writes results."""
    return FileLock(folder / _LOCK, is_singleton=True)  # who holds it may take it again


def study_name(folder: Path) -> str:
    """The study's name in its storage; machines that share a database name their folders alike."""
    return f"attar-{folder.absolute().name}"


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something other than a study.

    Raises:
        ConfigError: so it does, or it is a file.
    """
    try:
        inside = [file.name for file in folder.iterdir()] if folder.exists() else []
    except NotADirectoryError as error:
        raise ConfigError(f"{folder} is a file; give a folder for the study") from error
    if inside and not {JOURNAL, _LOCK, STUDY_FILE} & {*inside}:
        raise ConfigError(
            f"the folder {folder} holds something other than a study, such as {min(inside)}; give "
            "a new or an empty one"
        )


def _database(url: str) -> BaseStorage:
    """The database at a URL; its connections are closed when the storage is no longer used."""
    from sqlalchemy.exc import IntegrityError, InternalError, ProgrammingError

    for left in reversed(range(_TRIES)):
        try:
            database = RDBStorage(url)
        except (IntegrityError, InternalError, ProgrammingError):
            if not left:
                raise
            time.sleep(_PAUSE)  # another worker is making the same tables
        else:
            storage = optuna.storages.get_storage(database)
            weakref.finalize(storage, database.engine.dispose)
            return storage
    raise AssertionError("unreachable")


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


def _without_password(url: str) -> str:
    return re.sub(r"(://[^/@]*?):[^/]*@", r"\1:***@", url)
