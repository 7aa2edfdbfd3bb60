"""How far a project is, as plain values."""

from typing import Any

from sqlalchemy import distinct, func, select
from sqlalchemy.orm import Session

from attar.annotate import blocks
from attar.annotate.drawing import model_paths, open_tasks, staleness
from attar.annotate.store import state_of
from attar.annotate.tables import (
    Annotation,
    Arm,
    EventRow,
    Job,
    PickRow,
    SentenceRow,
    Snapshot,
    Task,
)


def overview(session: Session) -> dict[str, Any]:
    """The corpus, the evaluation set, the arms, the people, the last training, and what needs
    attention.
    """
    state = state_of(session)
    there = SentenceRow.removed.is_(None)
    job = session.scalar(select(Job).order_by(Job.id.desc()).limit(1))
    return {
        "name": state.name,
        "guideline": state.guideline,
        "paused": state.paused,
        "annotations": state.sequence,
        "sentences": _count(session, SentenceRow, there),
        "snapshots": _snapshots(session),
        "evaluation": {
            "reserved": _count(session, SentenceRow, there, SentenceRow.reserved),
            "labelled": _count(session, Task, Task.kind == "evaluation", Task.state == "done"),
        },
        "arms": [_arm(session, name) for name in session.scalars(select(Arm.name))],
        "flagged": _count(session, Task, Task.state == "flagged"),
        "annotators": _annotators(session),
        "models": {arm: path for arm, (_, path) in model_paths(session).items()},
        "since_scoring": staleness(session, state) if state.ranking is not None else None,
        "last_job": None
        if job is None
        else {"kind": job.kind, "state": job.state, "step": job.step, "error": job.error},
        "warnings": [*blocks.warnings(session, state), *_unexplained(session)],
    }


def _count(session: Session, table: Any, *where: Any) -> int:
    return session.scalar(select(func.count()).select_from(table).where(*where)) or 0


def _snapshots(session: Session) -> list[dict[str, Any]]:
    rows = session.scalars(select(Snapshot).order_by(Snapshot.number))
    return [{"name": row.name, "source": row.source, **(row.report or {})} for row in rows]


def _arm(session: Session, name: str) -> dict[str, Any]:
    picked = select(func.count(distinct(PickRow.sentence))).where(PickRow.arm == name)
    done = picked.join(Task, Task.id == PickRow.task).where(Task.state == "done")
    batches = select(func.count(distinct(PickRow.batch))).where(PickRow.arm == name)
    return {
        "arm": name,
        "batches": session.scalar(batches) or 0,
        "sentences": session.scalar(picked) or 0,
        "labelled": session.scalar(done) or 0,
        "open": open_tasks(session, name),
    }


def _annotators(session: Session) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Annotation.annotator, func.count(), func.sum(Annotation.active_ms))
        .where(Annotation.status == "submitted")
        .group_by(Annotation.annotator)
        .order_by(Annotation.annotator)
    )
    return [
        {"annotator": name, "submitted": count, "hours": round((spent or 0) / 3.6e6, 2)}
        for name, count, spent in rows
    ]


def _unexplained(session: Session) -> list[str]:
    rows = session.scalars(
        select(EventRow).where(EventRow.detected, EventRow.note == "").order_by(EventRow.id)
    )
    return [
        f"{row.kind} was noticed and nobody has logged why; attar annotate event add --kind "
        f"{row.kind} --note says so"
        for row in rows
    ]
