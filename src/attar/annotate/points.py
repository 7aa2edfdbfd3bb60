"""Points of learning curves in the store."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from attar.annotate.store import Project
from attar.annotate.tables import Job, MetricPoint, SentenceRow
from attar.methods.active_segmentation.points import Costs, Point, comparable


def load_points(project: Project) -> list[Point]:
    """The curves: for each epoch, arm and batch the point of the latest run."""
    with project.read() as session:
        return points_of(session)


def points_of(session: Session) -> list[Point]:
    """`load_points` within a transaction. Within an epoch the points count the evaluation sentences
    that they have in common, see `comparable`.
    """
    done = select(MetricPoint).join(Job, Job.id == MetricPoint.run).where(Job.state == "done")
    latest = dict[tuple[int, str, int], MetricPoint]()
    for row in session.scalars(done.order_by(MetricPoint.run, MetricPoint.id)):
        latest[row.epoch, row.arm, row.batch] = row
    of = documents_of(session, {uid for row in latest.values() for uid in row.test})
    rows = sorted(latest.values(), key=lambda row: (row.run, row.id))
    found = comparable([_point(row, of) for row in rows])
    return sorted(found, key=lambda point: (point.epoch, point.arm, point.batch))


def documents_of(session: Session, sentences: Collection[str]) -> dict[str, str]:
    """The document of each evaluation sentence, also of those that left the corpus."""
    if not sentences:
        return {}
    kept = select(SentenceRow.uid, SentenceRow.document).where(SentenceRow.reserved)
    return {uid: name for uid, name in session.execute(kept) if uid in sentences}


def add_points(session: Session, points: Sequence[Point], *, run: int) -> None:
    """Store points of one run, within a transaction."""
    session.add_all(
        MetricPoint(
            run=run,
            epoch=point.epoch,
            arm=point.arm,
            batch=point.batch,
            costs=asdict(point.costs),
            scores=dict(point.scores),
            counts=None if point.counts is None else point.counts.astype(int).tolist(),
            refits=list(point.refits),
            test=list(point.test),
        )
        for point in points
    )


def _point(row: MetricPoint, documents: Mapping[str, str]) -> Point:
    names = tuple(documents.get(uid, "") for uid in row.test)
    return Point(
        arm=row.arm,
        costs=Costs(**row.costs),
        scores=row.scores,
        epoch=row.epoch,
        batch=row.batch,
        counts=None if row.counts is None else np.array(row.counts, float).reshape(-1, 3),
        documents=names if any(names) else (),
        refits=tuple(row.refits),
        test=tuple(row.test),
    )
