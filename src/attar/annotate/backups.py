"""Backups and upgrades.

A backup is one file: a consistent copy of the SQLite database, taken while people work, the models
and the word lists. A project on PostgreSQL is backed up with the tools of that database.
"""

import shutil
import sqlite3
import tempfile
import zipfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from sqlalchemy.exc import DBAPIError

from attar.annotate.database import DATABASE_FILE
from attar.annotate.migrations import head, known, revision_of, upgrade_schema
from attar.annotate.opening import PROJECT_FILE, connect
from attar.annotate.refusals import Busy
from attar.annotate.store import Project, named_errors
from attar.annotate.tasks import replay
from attar.annotate.wordlists import WORD_LISTS
from attar.artefacts import (
    disk_is_full,
    expanded,
    new_folder,
    replacing,
    require_new_file,
    require_space,
)
from attar.errors import CompatibilityError, ConfigError, DataError, require

_MODELS = "models"
_IN_FORCE = "SELECT path FROM model WHERE run = (SELECT ranking FROM project)"
_BUFFER = 2**20


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did: `backup` is the copy of before; None on PostgreSQL, and where there was
    nothing to do."""

    before: str
    after: str
    backup: Path | None


def back_up(project: Project, *, output: str | Path | None = None) -> Path:
    """Copy a project into one file, while people work.

    Args:
        project: on SQLite.
        output: a new file; None: one in the project's `backups/`, named after the time.

    Raises:
        ConfigError: the project is on PostgreSQL, or the file is there already or no `.zip`.
        ResourceError: the disk has no room for it.
    """
    if not project.sqlite:
        raise ConfigError(
            "a project on PostgreSQL is backed up with pg_dump; copy the folder of the project, "
            "which holds models and word lists, beside it"
        )
    stamp = datetime.fromtimestamp(project.clock(), UTC).strftime("%Y%m%d-%H%M%S-%f")
    require(
        output is None or Path(output).suffix.lower() == ".zip",
        "the name of the backup",
        str(output),
        "one that ends in .zip, as that is what is written",
    )
    final = expanded(output or project.folder / "backups" / f"{stamp}.zip")
    require_new_file(final)
    for last in (False, True):
        try:
            _write(project, final, lenient=last)
            break
        except FileNotFoundError as error:  # a training that ended has put others in their place
            if last:
                raise Busy(
                    "models were replaced while they were copied; nothing was written: try again"
                ) from error
    return final


def restore(backup: str | Path, folder: str | Path) -> Path:
    """Unpack a backup into a new folder.

    Raises:
        ConfigError: the folder holds something.
        DataError: this is no backup, or it is damaged.
    """
    if not expanded(backup).is_file():
        raise DataError(f"expected a backup, found no file {str(backup)!r}; check the path")
    with new_folder(folder) as unfinished:
        try:
            with zipfile.ZipFile(expanded(backup)) as archive:
                for entry in archive.infolist():
                    _unpack(archive, entry, folder=unfinished)
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            if disk_is_full(error):
                raise
            raise DataError(
                f"the backup {str(backup)!r} cannot be unpacked ({error}); use another"
            ) from error
        for name in (_MODELS, "exports", "backups"):
            (unfinished / name).mkdir(parents=True, exist_ok=True)
        if not _whole(unfinished):
            raise DataError(f"{str(backup)!r} is no whole backup of a project; use another")
    return expanded(folder)


def upgrade(folder: str | Path, *, database: str | None = None) -> Upgrade:
    """Bring a project to this version of Attar, after a backup where it is on SQLite; stop its
    server first.

    Raises:
        ConfigError: there is no project.
        CompatibilityError: it was written by a newer version.
        DataError: its tables are not those that its version says.
        Busy: others are writing to the database.
    """
    with connect(folder, database=database) as project:
        found = revision_of(project.engine)
        if found is None:
            raise ConfigError(
                f"the database of {str(project.folder)!r} holds no project; restore a backup"
            )
        if found == head():
            return Upgrade(found, found, None)
        if found not in known():
            raise CompatibilityError(
                f"the project in {str(project.folder)!r} was written by a newer version of Attar "
                f"(schema {found}, this one knows {head()}); install that version"
            )
        copy = back_up(project) if project.sqlite else None
        # what follows from the log may follow by another rule now
        try:
            with named_errors():
                upgrade_schema(project.engine, then=replay)
        except DBAPIError as error:
            kept = f"; {str(copy)!r} is a copy of it as it was" if copy else ""
            raise DataError(
                f"the tables of {str(project.folder)!r} are not those of the schema {found} that "
                f"they name ({error.orig!s}), so they cannot be brought to {head()}{kept}"
            ) from error
        return Upgrade(found, head(), copy)


def _write(project: Project, final: Path, *, lenient: bool) -> None:
    """Write the file. The database is copied first: what it names is there before it does.

    Raises:
        FileNotFoundError: a file went while it was copied; or, unless `lenient`, the models in
            force are not there. A project that has lost them still has its annotations to save.
    """
    database = project.folder / DATABASE_FILE
    size = database.stat().st_size + sum(file.stat().st_size for file in _files(project))
    require_space(final.parent, needed=2 * size, what="the backup")
    final.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=final.parent, prefix=".backup-") as scratch,
        replacing(final) as unfinished,
    ):
        copy = Path(scratch) / DATABASE_FILE
        _copy_database(database, copy)
        with closing(sqlite3.connect(copy)) as connection:
            models = [project.models / path for (path,) in connection.execute(_IN_FORCE)]
        with zipfile.ZipFile(unfinished, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(copy, DATABASE_FILE)
            archive.write(project.folder / PROJECT_FILE, PROJECT_FILE)
            for file in _files(project):
                archive.write(file, file.relative_to(project.folder).as_posix())
        if not (lenient or all(model.is_dir() for model in models)):
            raise FileNotFoundError


def _files(project: Project) -> list[Path]:
    """Models and word lists, but for those that are still being written."""
    folders = (project.models, project.folder / WORD_LISTS)
    found = (file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file())
    return [f for f in found if not any(part.endswith(".partial") for part in f.parts)]


def _copy_database(database: Path, copy: Path) -> None:
    """A consistent copy by SQLite itself; the write-ahead log is part of it."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *, folder: Path) -> None:
    """One file of a backup; a name that leads elsewhere is refused."""
    place = (folder / entry.filename).resolve()
    if not place.is_relative_to(folder.resolve()) or entry.is_dir():
        raise DataError(
            f"expected a backup; {str(archive.filename)!r} holds {entry.filename!r}, which none "
            "does: use another"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as packed, place.open("wb") as out:
        shutil.copyfileobj(packed, out, _BUFFER)


def _whole(folder: Path) -> bool:
    """Whether a folder is a project whose database is its own and undamaged."""
    database = folder / DATABASE_FILE
    try:
        about = yaml.safe_load((folder / PROJECT_FILE).read_text(encoding="utf-8"))
        if not database.is_file() or about["database"] != DATABASE_FILE:
            return False
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, sqlite3.DatabaseError):
        return False
