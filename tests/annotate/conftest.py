"""Projects for tests: the same on SQLite and on a PostgreSQL server of the tests' own."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

import postgres
from annotating import Clock, Maker
from attar.annotate.settings import Settings
from attar.annotate.store import Project, create_project


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    if why := postgres.missing():
        pytest.skip(why)
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def new_database(server: str) -> Callable[[], str]:
    """Makes an empty database, and gives its URL."""
    numbers = count()

    def make() -> str:
        name = f"project{next(numbers)}"
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return make_url(server).set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    """Makes projects on either kind of database, and closes them."""
    opened: list[Project] = []
    numbers = count()

    def create(settings: Settings | None = None, *, clock: Clock | None = None) -> Project:
        database = None
        if request.param == "postgresql":
            database = request.getfixturevalue("new_database")()
        folder = tmp_path / f"project{next(numbers)}"
        made = create_project(folder, database=database, settings=settings)
        project = Project(made.folder, made.engine, clock or Clock())
        opened.append(project)
        return project

    yield create
    for project in opened:
        project.close()
