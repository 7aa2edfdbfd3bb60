"""Training again, in a process of its own, while people go on annotating.

One worker at a time takes jobs. Whatever it is killed at, the ranking before stays in force and the
queue goes on: models are put together beside their place, scores are written under the number of
the run, and one transaction at the end puts all of it in force.
"""

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from attar.annotate.drawing import fill_queues
from attar.annotate.events import QUEUED, queue_job
from attar.annotate.policies import apply_policy
from attar.annotate.refusals import Busy
from attar.annotate.store import Project, State, named_errors, state_of
from attar.annotate.tables import Annotation, Job, SentenceRow
from attar.annotate.tasks import LABELS
from attar.annotate.training import DONE, score_history, train_models
from attar.errors import AttarError, ConfigError, require

logger = logging.getLogger(__name__)

_KINDS = ("train", "history", "policy")
RUNNING, FAILED, ABANDONED = "running", "failed", "abandoned"
#: of the lock on PostgreSQL that the worker holds
_LOCK = 0x61747477
#: times in a row that a job is taken up again after it was cut short
_AGAIN = 3
#: seconds for which each of its transactions may wait
PATIENCE = 60.0


_TAKE_PLACE = text("SELECT pg_try_advisory_lock(:key)")
_HAS_PLACE = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted "
    "AND pid = pg_backend_pid() AND database = "
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)
_LEAVE_PLACE = text("SELECT pg_advisory_unlock(:key)")


@dataclass(frozen=True)
class JobInfo:
    """A job: `step` is the one that it is at, `sequence` the last annotation that it looks at."""

    id: int
    kind: str
    state: str
    reason: str
    step: str
    sequence: int | None
    error: str
    asked: float
    started: float | None
    ended: float | None
    result: dict[str, Any] | None


def ask_for(project: Project, *, kind: str = "train", reason: str = "asked for") -> JobInfo:
    """Queue a job; one of that kind that waits already is not doubled.

    Args:
        project: the project.
        kind: train; history: score all batches so far under the guideline of today; policy: do what
            the policies of changed guidelines ask for.
        reason: for the log.
    """
    require(kind in _KINDS, "kind", kind, f"one of {', '.join(_KINDS)}")
    with project.write() as session:
        waiting = session.scalar(select(Job).where(Job.kind == kind, Job.state == QUEUED))
        if waiting is None:
            waiting = queue_job(session, kind, reason=reason, now=project.clock())
        return _info(waiting)


def jobs(project: Project, *, limit: int = 20) -> list[JobInfo]:
    """The last jobs, the newest first."""
    with project.read() as session:
        rows = session.scalars(select(Job).order_by(Job.id.desc()).limit(limit))
        return [_info(row) for row in rows]


def work(
    project: Project,
    *,
    once: bool = False,
    pause: float = 2.0,
    stop: threading.Event | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> int:
    """Do jobs as they come, queue them when they are due, and keep the arms' queues filled.

    Args:
        project: the project.
        once: return when nothing is left to do.
        pause: seconds between two looks.
        stop: ends it after the job at hand.
        on_step: is told each step before it begins.

    Returns:
        How many jobs were done.

    Raises:
        ConfigError: another worker is at work on the project.
        Busy: with `once`, the database stayed busy.
    """
    stop = stop or threading.Event()
    project = replace(project, patience=PATIENCE)
    done = busy = 0
    with _alone(project) as keep_place:

        def begin_step(name: str) -> None:
            keep_place()
            on_step(name)

        _give_up_unfinished(project)
        while not stop.is_set():
            try:
                keep_place()
                if busy:
                    _give_up_unfinished(project)
                _queue_what_is_due(project)
                fill_queues(project)
                job = _take(project)
                if job is not None:
                    _run(project, job, on_step=begin_step)
                    done += 1
                busy = 0
            except Busy as error:
                busy += 1
                logger.warning("%s", error)
                if once and busy > _AGAIN:
                    raise
                stop.wait(pause * 2 ** min(busy, 5))
                continue
            if job is not None:
                continue
            if once:
                break
            stop.wait(pause)
    return done


@contextmanager
def _alone(project: Project) -> Iterator[Callable[[], None]]:
    """Be the only worker; a kill gives the place back at once.

    Yields:
        A function that makes sure of the place. It raises Busy if the connection that kept it was
        lost: somebody else may have been at work in between.

    Raises:
        ConfigError: there is another.
    """
    taken = ConfigError(
        f"another worker is at work on the project in {str(project.folder)!r}; one is enough"
    )
    if project.sqlite:
        lock = FileLock(project.folder / "worker.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise taken from None
        with contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(lock.release)
            yield lambda: None
        return
    with project.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

        def take() -> None:
            if not connection.scalar(_TAKE_PLACE, {"key": _LOCK}):
                raise taken

        def keep() -> None:
            with named_errors():
                connection.rollback()  # a lost connection is made anew only after that
                if connection.scalar(_HAS_PLACE, {"key": _LOCK}):
                    return
                take()
            raise Busy("the worker lost its connection to the database; what it was at begins anew")

        take()
        try:
            yield keep
        finally:
            with contextlib.suppress(DBAPIError):  # what is lost is given back
                connection.execute(_LEAVE_PLACE, {"key": _LOCK})


def _give_up_unfinished(project: Project) -> None:
    """What was cut short, as its worker was killed or the database was away: its jobs are queued
    again, its half-made models deleted."""
    with project.write() as session:
        for job in session.scalars(select(Job).where(Job.state == RUNNING)).all():
            job.state, job.ended = ABANDONED, project.clock()
            last = session.scalars(
                select(Job.state).where(Job.kind == job.kind).order_by(Job.id.desc()).limit(_AGAIN)
            ).all()
            waiting = session.scalar(
                select(Job.id).where(Job.kind == job.kind, Job.state == QUEUED)
            )
            if set(last) == {ABANDONED} and len(last) == _AGAIN:
                job.error = f"cut short {_AGAIN} times in a row; it is not taken up again by itself"
            elif waiting is None:
                reason = f"again: job {job.id} was cut short"
                queue_job(session, job.kind, reason=reason, now=project.clock())
    for left in project.models.glob("*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _queue_what_is_due(project: Project) -> None:
    with project.read() as session:
        reason = _due(session, state_of(session), now=project.clock())
    if reason:
        ask_for(project, reason=reason)


def _due(session: Session, state: State, *, now: float) -> str:
    """Why the models should be trained again; empty: they should not."""
    trained = select(Job).where(
        Job.kind == "train", Job.state.in_((DONE, FAILED, QUEUED, ABANDONED))
    )
    last = session.scalar(trained.order_by(Job.id.desc()).limit(1))
    if last is not None and last.state == QUEUED:
        return ""
    seen = (last.sequence or 0) if last is not None else 0
    fresh = state.sequence - seen
    settings = state.settings
    if not fresh:
        return ""
    if 0 < settings.retrain_after <= fresh:
        return f"{fresh} new annotations"
    if settings.retrain_characters:
        new = session.scalar(
            select(func.sum(SentenceRow.n))
            .join(Annotation, Annotation.sentence == SentenceRow.uid)
            .where(Annotation.seq > seen, Annotation.status.in_(LABELS))
        )
        if (new or 0) >= settings.retrain_characters:
            return f"{new} new characters"
    began = last.asked if last is not None else None
    hours = settings.retrain_hours
    if hours and began is not None and now - began >= hours * 3600:
        return f"{hours:g} hours have passed"
    return ""


def _take(project: Project) -> int | None:
    """The number of the next job, which is then running."""
    with project.write() as session:
        job = session.scalar(select(Job).where(Job.state == QUEUED).order_by(Job.id).limit(1))
        if job is None:
            return None
        job.state, job.started = RUNNING, project.clock()
        job.sequence = state_of(session).sequence
        return job.id


def _apply_policy(project: Project, job: int, *, step: Callable[[str], None]) -> None:
    step("policy")
    done = apply_policy(project)
    with project.write() as session:
        row = session.get_one(Job, job)
        row.state, row.ended, row.result = DONE, project.clock(), asdict(done)


_RUN: Mapping[str, Callable[..., None]] = MappingProxyType(
    {"train": train_models, "history": score_history, "policy": _apply_policy}
)


def _run(project: Project, job: int, *, on_step: Callable[[str], None]) -> None:
    """Do a job; a mistake in it is its result, and the worker goes on.

    Raises:
        Busy: the database was, for longer than a worker waits.
    """

    def step(name: str) -> None:
        with project.write() as session:
            session.execute(update(Job).where(Job.id == job).values(step=name))
        on_step(name)

    try:
        with project.read() as session:
            kind = session.get_one(Job, job).kind
        _RUN[kind](project, job, step=step)
    except Busy:  # nothing is in force yet, so it can be begun again
        raise
    except AttarError as error:
        logger.warning("job %d failed: %s", job, error)
        _note_failure(project, job, error=str(error))
    except Exception as error:
        logger.exception("job %d failed", job)
        _note_failure(project, job, error=f"{type(error).__name__}: {error}"[:2000])


def _note_failure(project: Project, job: int, *, error: str) -> None:
    """Keep why a job failed; one whose results are in force by then stays done."""
    with project.write() as session:
        row = session.get_one(Job, job)
        row.error = error
        if row.state == RUNNING:
            row.state, row.ended = FAILED, project.clock()


def _info(row: Job) -> JobInfo:
    return JobInfo(
        id=row.id,
        kind=row.kind,
        state=row.state,
        reason=row.reason,
        step=row.step,
        sequence=row.sequence,
        error=row.error,
        asked=row.asked,
        started=row.started,
        ended=row.ended,
        result=row.result,
    )
