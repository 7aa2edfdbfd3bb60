"""An open project: its folder, and the database that holds what people did.

SQLite takes one writer at a time: every write is one short transaction that begins with `BEGIN
IMMEDIATE`, so two writers wait for each other instead of failing half-way. PostgreSQL locks rows.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from attar.annotate.database import BUSY_MS, DURABLE, WRITES
from attar.annotate.refusals import Busy, Conflict, Moved
from attar.annotate.settings import AnnotateConfig
from attar.annotate.tables import ProjectRow, table
from attar.errors import DataError

#: seconds between two attempts to begin a transaction: at first, and at most
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


@dataclass(frozen=True)
class Project:
    """An open project.

    Args:
        folder: of its files.
        engine: of its database.
        clock: gives the time in seconds since 1970; another one in tests.
        patience: seconds for which a transaction that cannot begin is tried again, besides what
            the database waits by itself; a worker has more of it than a request.
    """

    folder: Path
    engine: Engine
    clock: Callable[[], float] = time.time
    patience: float = 0.0
    _writer: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def sqlite(self) -> bool:
        """Whether the database is a file of the folder."""
        return self.engine.dialect.name == "sqlite"

    @property
    def models(self) -> Path:
        """The folder of the trained segmenters."""
        return self.folder / "models"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing.

        Raises:
            Busy: the database cannot be reached for now.
        """
        with named_errors(), self._begun({}) as session:
            if not self.sqlite:
                session.execute(_ONE_STATE)
            yield session

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Session]:
        """One transaction, which happens whole or not at all.

        Args:
            durable: wait until the disk has it, so that it survives a power cut. Otherwise it
                survives the end of this process, however sudden, but the last such transactions may
                be gone after a power cut: fit for leases and drafts, which the next request makes
                anew. A later durable one makes those before it durable too.

        Raises:
            Busy: others were writing for too long; nothing was changed.
        """
        held = self._writer if self.sqlite else None
        if held is not None and not held.acquire(timeout=BUSY_MS / 1000):
            raise _busy()
        try:
            with named_errors(), self._begun({WRITES: True, DURABLE: durable}) as session:
                if not (durable or self.sqlite):
                    session.execute(_SOON)
                yield session
                session.commit()
        finally:
            if held is not None:
                held.release()

    def _begun(self, options: Mapping[str, Any]) -> Session:
        """A session whose transaction has begun; the caller ends it."""
        pause, until = _PAUSE, time.monotonic() + self.patience
        while True:
            session = Session(self.engine, expire_on_commit=False)
            try:
                session.connection(execution_options=options)
                return session
            except OperationalError as error:
                session.close()
                if not _is_busy(error) or time.monotonic() + pause > until:
                    raise
            except BaseException:
                session.close()
                raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def __enter__(self) -> "Project":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class State:
    """What the project row says: see `tables.ProjectRow`."""

    name: str
    seed: int
    settings: AnnotateConfig
    revision: int
    guideline: str
    sequence: int
    ranking: int | None
    reserve: float | None
    paused: bool


_PROJECT = table(ProjectRow)
_STATE = select(_PROJECT)
_NEXT = (
    update(_PROJECT)
    .values(sequence=_PROJECT.c.sequence + 1)
    .returning(_PROJECT.c.sequence, _PROJECT.c.guideline)
)
#: of PostgreSQL: a reader sees one state; a writer does not wait for the disk
_ONE_STATE = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_SOON = text("SET LOCAL synchronous_commit = off")


def state_of(session: Session) -> State:
    """The project's row, as a value."""
    session.flush()
    row = session.execute(_STATE).one()
    return State(
        name=row.name,
        seed=row.seed,
        settings=AnnotateConfig.from_json(row.settings),
        revision=row.revision,
        guideline=row.guideline,
        sequence=row.sequence,
        ranking=row.ranking,
        reserve=row.reserve,
        paused=row.paused,
    )


def next_sequence(session: Session, *, guideline: str | None = None) -> int:
    """The number of the next annotation, without gaps: who asks holds the row until it commits.

    Args:
        session: a transaction.
        guideline: that the annotation follows; None: it may be one that is no longer in force.

    Raises:
        Moved: another guideline is in force by now. To change it takes the same row, so none is
            numbered after one that it does not follow.
    """
    number, in_force = session.execute(_NEXT).one()
    if guideline not in (None, in_force):
        raise Moved("the guideline was changed at this moment; nothing was saved: send it again")
    return number


def bump_revision(session: Session, *, expected: int) -> None:
    """Count a change of settings or guideline.

    Raises:
        Conflict: the revision is not the expected one any more.
    """
    done = session.execute(
        update(ProjectRow)
        .where(ProjectRow.revision == expected)
        .values(revision=ProjectRow.revision + 1)
        .returning(ProjectRow.revision)
    ).scalar_one_or_none()
    if done is None:
        raise Conflict(
            "somebody else has changed the settings or the guideline since you opened this page; "
            "reload it, look at what they changed and apply your change again"
        )


@contextmanager
def named_errors() -> Iterator[None]:
    """What a database refuses becomes one of our own errors, where it has a name.

    Raises:
        Busy: the same may succeed later.
        DataError: the file is damaged.
    """
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig)
        if _is_busy(error):
            raise _busy() from error
        if "disk is full" in reason or "disk full" in reason:
            raise Busy(
                "the disk of the database is full, so nothing was saved; make room and send it "
                "again"
            ) from error
        raise
    except DBAPIError as error:
        if "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise DataError(
                "the database is damaged; run attar annotate doctor, or restore a backup"
            ) from error
        raise


def _is_busy(error: OperationalError) -> bool:
    """Whether the same may succeed later."""
    return any(word in str(error.orig) for word in ("locked", "connection", "busy", "deadlock"))


def _busy() -> Busy:
    return Busy("others were writing to the database for too long; nothing was lost: send it again")
