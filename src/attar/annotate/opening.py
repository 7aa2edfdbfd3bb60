"""How a project is made and opened: its folder and its database.

The folder holds `project.yaml` (which database), `attar.db` unless that is a PostgreSQL server,
`models/`, `exports/`, `backups/` and, where the segmenter has words of its own, `dictionaries/`.
"""

from dataclasses import replace
from pathlib import Path

import yaml
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from attar.annotate.database import (
    DATABASE_FILE,
    cannot_open,
    checked_url,
    engine_of,
    shown_url,
    sqlite_url,
)
from attar.annotate.migrations import head, known, revision_of, upgrade_schema
from attar.annotate.settings import ARMS, AnnotateConfig
from attar.annotate.store import Project
from attar.annotate.tables import Arm, Guideline, ProjectRow
from attar.annotate.wordlists import keep_word_list
from attar.artefacts import expanded, new_folder
from attar.errors import CompatibilityError, ConfigError

PROJECT_FILE = "project.yaml"
FORMAT = 1
_FOLDERS = ("models", "exports", "backups")


def create_project(
    folder: str | Path,
    *,
    database: str | None = None,
    name: str | None = None,
    guideline: str = "",
    settings: AnnotateConfig | None = None,
    seed: int = 13,
) -> Project:
    """Make a project and open it.

    Args:
        folder: a new or an empty one.
        database: URL of an empty PostgreSQL database; None: SQLite in the folder.
        name: of the project; None: that of the folder.
        guideline: text of the first guideline, `g1`.
        settings: None: the defaults.
        seed: of everything that is drawn; together with the texts it fixes the random arm.

    Raises:
        ConfigError: the folder or the database holds something, or cannot be used.
        DataError: the segmenter's word list cannot be read.
    """
    final, url = expanded(folder), checked_url(database)
    with new_folder(final) as unfinished:
        for part in _FOLDERS:
            (unfinished / part).mkdir()
        about = {"format": FORMAT, "database": shown_url(url) if url else DATABASE_FILE}
        (unfinished / PROJECT_FILE).write_text(yaml.safe_dump(about), encoding="utf-8")
        settings = settings or AnnotateConfig()
        words = keep_word_list(unfinished, settings.segmenter)
        project = Project(unfinished, engine_of(url or sqlite_url(unfinished)))
        try:
            _fill(
                project,
                name=name or final.name or final.resolve().name,
                text=guideline,
                settings=replace(settings, segmenter=words),
                seed=seed,
            )
        finally:
            project.close()
    return open_project(final, database=database)


def open_project(folder: str | Path, *, database: str | None = None) -> Project:
    """Open a project.

    Args:
        folder: of the project.
        database: URL of its PostgreSQL database, where `project.yaml` lacks the password; None:
            what that file says.

    Raises:
        ConfigError: there is no project, its database cannot be opened, or it was made by an older
            version and has to be upgraded.
        CompatibilityError: it was made by a newer version.
    """
    project = connect(folder, database=database)
    try:
        found = revision_of(project.engine)
        if found is None:
            raise ConfigError(
                f"the database of {str(project.folder)!r} holds no project; restore a backup, or "
                "make a new project with attar annotate init"
            )
        if found != head():
            if found not in known():
                raise CompatibilityError(
                    f"the project in {str(project.folder)!r} was written by a newer version of "
                    f"Attar (schema {found}, this one knows {head()}); install that version"
                )
            raise ConfigError(
                f"the project in {str(project.folder)!r} was written by an older version of Attar; "
                f"run attar annotate upgrade {project.folder}, which backs it up first"
            )
    except BaseException:
        project.close()
        raise
    return project


def connect(folder: str | Path, *, database: str | None = None) -> Project:
    """Open a project without looking at the version of its tables, as an upgrade does.

    Raises:
        ConfigError: there is no project, or its database cannot be opened.
    """
    place = expanded(folder)
    file = place / PROJECT_FILE
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8"))
        stored, version = str(about["database"]), int(about["format"])
    except OSError:
        raise ConfigError(
            f"expected the folder of an annotation project; {str(place)!r} holds no "
            f"{PROJECT_FILE}: check the path, or make one with attar annotate init"
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, UnicodeDecodeError):
        raise ConfigError(
            f"expected the keys format and database in {str(file)!r}; it is damaged: restore it "
            "from a backup"
        ) from None
    if version > FORMAT:
        raise CompatibilityError(
            f"{str(file)!r} was written by a newer version of Attar; install that version"
        )
    url = checked_url(database)
    if stored != DATABASE_FILE:
        try:
            url = url or checked_url(stored)
        except ConfigError:
            raise ConfigError(
                f"expected {DATABASE_FILE} or the URL of a PostgreSQL database in {str(file)!r}, "
                f"found {stored!r}; restore it from a backup"
            ) from None
    elif url is not None:
        raise ConfigError(
            f"the project in {str(place)!r} keeps its data in {DATABASE_FILE}; leave the URL out"
        )
    elif not (place / DATABASE_FILE).is_file():
        raise ConfigError(
            f"the database {str(place / DATABASE_FILE)!r} is missing; restore it from a backup"
        )
    project = Project(place, engine_of(url or sqlite_url(place)))
    try:
        with project.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            inspect(connection).get_table_names()
    except DBAPIError as error:
        project.close()
        raise cannot_open(place if url is None else shown_url(url), error) from None
    return project


def _fill(project: Project, *, name: str, text: str, settings: AnnotateConfig, seed: int) -> None:
    try:
        if inspect(project.engine).get_table_names():
            raise ConfigError(
                "expected an empty database for the project; it holds tables: give another one"
            )
        upgrade_schema(project.engine)
    except DBAPIError as error:
        raise cannot_open(shown_url(str(project.engine.url)), error) from None
    now = project.clock()
    with project.write() as session:
        session.add(
            Guideline(version="g1", number=1, text=text, rules=None, author="", created=now)
        )
        for number, arm in enumerate(ARMS):
            session.add(Arm(name=arm, number=number, settings={}))
        session.add(
            ProjectRow(
                id=1,
                name=name,
                seed=seed,
                settings=settings.to_json(),
                revision=1,
                guideline="g1",
                sequence=0,
                ranking=None,
                reserve=None,
                paused=False,
                created=now,
            )
        )
