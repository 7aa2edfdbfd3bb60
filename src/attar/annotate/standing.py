"""Where a project stands."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session

from attar.annotate.blocks import warnings
from attar.annotate.drawing import open_tasks, staleness
from attar.annotate.jobs import JobInfo, jobs
from attar.annotate.store import Project, State, state_of
from attar.annotate.tables import (
    Annotation,
    Arm,
    BatchRow,
    Lease,
    PickRow,
    SentenceRow,
    Task,
)
from attar.annotate.tasks import LABELS, VOID


@dataclass(frozen=True)
class ArmStatus:
    """An arm: batches and sentences that it drew, how many of them are labelled, and tasks that
    wait."""

    name: str
    batches: int
    sentences: int
    labelled: int
    open: int


@dataclass(frozen=True)
class PersonStatus:
    """Somebody's work: acts that stand, corrections of what was shown, and hours."""

    name: str
    submitted: int
    skipped: int
    flagged: int
    corrections: int
    hours: float


@dataclass(frozen=True)
class Status:
    """Where a project stands. `tasks` counts them by kind and state, `stale` the annotations since
    the corpus was scored."""

    state: State
    sentences: int
    reserved: int
    reserved_labelled: int
    arms: tuple[ArmStatus, ...]
    tasks: Mapping[str, Mapping[str, int]]
    people: tuple[PersonStatus, ...]
    at_work: int
    stale: int
    job: JobInfo | None
    warnings: tuple[str, ...]


def status_of(project: Project) -> Status:
    """Where it stands now."""
    last = next(iter(jobs(project, limit=1)), None)
    with project.read() as session:
        state = state_of(session)
        there = SentenceRow.removed.is_(None)
        tasks: dict[str, dict[str, int]] = {}
        by_kind = select(Task.kind, Task.state, func.count()).group_by(Task.kind, Task.state)
        for kind, name, count in session.execute(by_kind.order_by(Task.kind, Task.state)):
            tasks.setdefault(kind, {})[name] = count
        return Status(
            state=state,
            sentences=_count(session, SentenceRow.uid, there),
            reserved=_count(session, SentenceRow.uid, there, SentenceRow.reserved),
            reserved_labelled=session.scalar(
                select(func.count(Task.sentence.distinct()))
                .join(SentenceRow, SentenceRow.uid == Task.sentence)
                .where(Task.kind == "evaluation", Task.live > 0, there)
            )
            or 0,
            arms=tuple(_arm(session, name) for name in _arms(session)),
            tasks=tasks,
            people=tuple(_people(session)),
            at_work=session.scalar(
                select(func.count(Lease.annotator.distinct())).where(
                    Lease.expires > project.clock()
                )
            )
            or 0,
            stale=staleness(session, state) if state.ranking is not None else state.sequence,
            job=last,
            warnings=tuple(warnings(session, state)),
        )


def _arms(session: Session) -> list[str]:
    return list(session.scalars(select(Arm.name).order_by(Arm.number)))


def _arm(session: Session, name: str) -> ArmStatus:
    drawn = select(func.count(PickRow.sentence.distinct())).where(PickRow.arm == name)
    labelled = drawn.join(Task, Task.id == PickRow.task).where(Task.live > 0)
    return ArmStatus(
        name=name,
        batches=_count(session, BatchRow.id, BatchRow.arm == name),
        sentences=session.scalar(drawn) or 0,
        labelled=session.scalar(labelled) or 0,
        open=open_tasks(session, name),
    )


def _people(session: Session) -> list[PersonStatus]:
    void = select(Annotation.root).where(Annotation.status == VOID)

    def of(*states: str):
        return func.sum(cast(Annotation.status.in_(states), Integer))

    rows = session.execute(
        select(
            Annotation.annotator,
            of(*LABELS),
            of("skipped"),
            of("flagged"),
            func.coalesce(func.sum(Annotation.edits), 0),
            func.sum(Annotation.active_ms),
        )
        .where(Annotation.id == Annotation.root, Annotation.root.not_in(void))
        .group_by(Annotation.annotator)
        .order_by(Annotation.annotator)
    )
    return [
        PersonStatus(name, submitted, skipped, flagged, edits or 0, ms / 3_600_000)
        for name, submitted, skipped, flagged, edits, ms in rows
    ]


def _count(session: Session, column, *where) -> int:
    return session.scalar(select(func.count(column)).where(*where)) or 0
