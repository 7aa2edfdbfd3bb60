"""The versions of the tables, as Alembic keeps them: forward only.

A schema that was released is never changed: a new file in `versions/` leads from it to the next.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from attar.annotate.database import WRITES

HERE = Path(__file__).parent


def head() -> str:
    """The revision that this version of Attar works with."""
    return revisions()[0]


@cache
def revisions() -> tuple[str, ...]:
    """All of them, the newest first."""
    return tuple(one.revision for one in _scripts().walk_revisions())


def known() -> frozenset[str]:
    """The revisions that this version can upgrade."""
    return frozenset(revisions())


def revision_of(engine: Engine) -> str | None:
    """The revision of a database; None: it holds no project."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade_schema(
    engine: Engine, *, to: str = "head", then: Callable[[Session], object] = lambda session: None
) -> None:
    """Bring the tables of a database to a revision, in one transaction: a kill leaves the old
    ones.

    Args:
        engine: of the database.
        to: the revision.
        then: is run with the new tables, in the same transaction.
    """
    config = _config()
    with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        with Session(connection) as session:  # which leaves the transaction to the connection
            then(session)
            session.flush()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
