"""Projects for tests: the same on SQLite and on a PostgreSQL server of the tests' own."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Pool, create_engine, event, text, update
from sqlalchemy.engine import make_url

import postgres
from annotating import Clock, Maker
from attar.annotate import hashing
from attar.annotate.opening import create_project, open_project
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project
from attar.annotate.tables import ProjectRow


@pytest.fixture(autouse=True, scope="module")
def quick_hashes() -> Iterator[None]:
    """Passwords are hashed with as little work as argon2 allows."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "hasher", lambda: quick)
        yield


def no_sync(connection: Any, *_: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> Iterator[None]:
    """A commit costs milliseconds where it waits; that only matters when the power fails."""
    event.listen(Pool, "checkout", no_sync)
    yield
    event.remove(Pool, "checkout", no_sync)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    if why := postgres.missing():
        pytest.skip(why)
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def new_database(server: str) -> Callable[..., str]:
    """Makes an empty database, or a copy of another, and gives its URL."""
    numbers = count()

    def make(template: str = "template1") -> str:
        name = f"project{next(numbers)}"
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        engine.dispose()
        return make_url(server).set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture(params=["sqlite", "postgresql"], scope="session")
def blank(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str | None]:
    """A new project, which tests copy: the folder, and its database where that is elsewhere."""
    folder, database = tmp_path_factory.mktemp("blank") / "project", None
    if request.param == "postgresql":
        database = request.getfixturevalue("new_database")()
    create_project(folder, database=database).close()
    return folder, database


@pytest.fixture
def make(
    blank: tuple[Path, str | None], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Maker]:
    """Makes projects on either kind of database, and closes them."""
    opened: list[Project] = []
    numbers = count()

    def create(settings: AnnotateConfig | None = None, *, clock: Clock | None = None) -> Project:
        folder, database = tmp_path / f"project{next(numbers)}", blank[1]
        shutil.copytree(blank[0], folder)
        if database is not None:
            template = make_url(database).database
            database = request.getfixturevalue("new_database")(template)
        made = open_project(folder, database=database)
        project = Project(folder, made.engine, clock or Clock())
        opened.append(project)
        if settings is not None:
            with project.write() as session:
                session.execute(update(ProjectRow).values(settings=settings.to_json()))
        return project

    yield create
    for project in opened:
        project.close()
