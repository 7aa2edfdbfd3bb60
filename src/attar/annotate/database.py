"""The database of a project: SQLite in its folder, or a PostgreSQL server."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session

from attar.errors import ConfigError

DATABASE_FILE = "attar.db"
#: milliseconds that a writer waits for another
BUSY_MS = 5000
#: options of a transaction: whether it writes, and whether it waits for the disk
WRITES, DURABLE = "attar_write", "attar_durable"
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_CHECK = "check that it exists and that you may read and write it"


def sqlite_url(folder: Path) -> str:
    """The URL of the database in a project's folder."""
    url = URL.create("sqlite", database=str(folder / DATABASE_FILE))  # quotes a ? in the path
    return url.render_as_string()


def checked_url(database: str | None) -> str | None:
    """A PostgreSQL URL, with the driver that the project uses.

    Raises:
        ConfigError: it is none.
    """
    if database is None:
        return None
    try:
        url = make_url(database)
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigError(
            "expected the URL of a PostgreSQL database, such as "
            f"postgresql://user@host/name; found {'one of another kind' if url else 'no URL'}: "
            "leave it out for SQLite in the project's folder"
        )
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def shown_url(url: str) -> str:
    """Without the password, which is for `~/.pgpass` or PGPASSWORD."""
    return make_url(url).set(password=None).render_as_string(hide_password=False)


def engine_of(url: str) -> Engine:
    """What connects to a database.

    Raises:
        ConfigError: the driver of PostgreSQL is not installed.
    """
    try:
        if not url.startswith("sqlite"):
            return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30)
        # as many as there are threads, for one that is opened anew has to read the schema again
        engine = create_engine(
            url, connect_args={"timeout": BUSY_MS / 1000}, pool_size=40, max_overflow=25
        )
    except (ImportError, NoSuchModuleError):
        raise ConfigError(
            "a project on PostgreSQL needs the package psycopg; install it with "
            "`pip install 'attar[annotate]'`"
        ) from None

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions of its own
        for pragma in ("journal_mode=WAL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get(WRITES, False):
            _wait_for_disk(connection, always=options.get(DURABLE, True))
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _wait_for_disk(connection: Connection, *, always: bool) -> None:
    """Whether a commit waits until the disk has it (`FULL`), or only a checkpoint does (`NORMAL`).

    With a write-ahead log both survive `kill -9`, as the log is written by then. A power cut may
    cost the last commits made under `NORMAL`, in the order in which they were made, and never
    damages the file.
    """
    mode = "FULL" if always else "NORMAL"
    if connection.info.get("synchronous") != mode:
        connection.exec_driver_sql(f"PRAGMA synchronous={mode}")
        connection.info["synchronous"] = mode


def one_at_a_time(session: Session, *, key: int) -> None:
    """Wait for the other transactions that asked with the same key; on SQLite, which has one writer
    at a time, writers have waited already."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_LOCK, {"key": key})


def cannot_open(where: object, error: DBAPIError) -> ConfigError:
    """Why a database cannot be opened, in one sentence."""
    reason = str(error.orig).strip().split("\n")[0].rstrip(".")
    damaged = "malformed" in reason or "not a database" in reason  # in the words of SQLite
    advice = "restore it from a backup" if damaged else _CHECK
    return ConfigError(f"the database {str(where)!r} cannot be opened ({reason}); {advice}")
