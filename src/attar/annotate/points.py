"""Points of learning curves in the store."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from attar.annotate.store import Project
from attar.annotate.tables import Job, MetricPoint
from attar.methods.active_segmentation.curves import Costs, Point


def load_points(project: Project) -> list[Point]:
    """The curves: for each epoch, arm and batch the point of the latest run."""
    with project.read() as session:
        return points_of(session)


def points_of(session: Session) -> list[Point]:
    """`load_points` within a transaction.

    The evaluation sentences become more while people label them. Within an epoch the points count
    those that all of them have in common, so that they can be compared; a point that was scored on
    fewer than half of the newest's keeps its score, but has no counts.
    """
    done = select(MetricPoint).join(Job, Job.id == MetricPoint.run).where(Job.state == "done")
    latest = dict[tuple[int, str, int], MetricPoint]()
    for row in session.scalars(done.order_by(MetricPoint.run, MetricPoint.id)):
        latest[row.epoch, row.arm, row.batch] = row
    found = list[Point]()
    for epoch in sorted({key[0] for key in latest}):
        rows = [row for key, row in latest.items() if key[0] == epoch]
        newest = max(rows, key=lambda row: row.run)
        enough = [row for row in rows if 2 * len(row.test) >= len(newest.test)]
        common = set(newest.test).intersection(*(row.test for row in enough))
        found += [_point(row, common if row in enough else None) for row in rows]
    return sorted(found, key=lambda point: (point.epoch, point.arm, point.batch))


def add_points(session: Session, points: Sequence[Point], *, run: int, test: Sequence[str]) -> None:
    """Store points.

    Args:
        session: a transaction.
        points: of one run.
        run: its number.
        test: uid of each evaluation sentence, as in the counts.
    """
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
            test=list(test),
        )
        for point in points
    )


def _point(row: MetricPoint, common: set[str] | None) -> Point:
    point = Point(
        arm=row.arm,
        costs=Costs(**row.costs),
        scores=row.scores,
        epoch=row.epoch,
        batch=row.batch,
        refits=tuple(row.refits),
    )
    if row.counts is None or not common:
        return point
    where = [place for place, uid in enumerate(row.test) if uid in common]
    order = sorted(where, key=lambda place: row.test[place])
    counts = np.array(row.counts, float).reshape(-1, 3)[order]
    right, predicted, gold = counts.sum(axis=0)
    f1 = 2 * right / (predicted + gold) if predicted + gold else 0.0
    return replace(point, counts=counts, scores={**point.scores, "word_f1": float(f1)})
