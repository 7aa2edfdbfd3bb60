"""The journals against the database."""

from collections import Counter
from collections.abc import Sequence

from annotators import Journal, Sent
from sqlalchemy import func, select

from attar.annotate.checks import examine, problems
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Annotation, Job, Task
from attar.annotate.tasks import CANCELLED, DONE, LABELS, OPEN, in_force


def audit(project: Project, journals: Sequence[Journal], *, drained: bool) -> dict[str, int]:
    """What is wrong, and how much there was of it.

    Args:
        project: after the run.
        journals: of all annotators.
        drained: nobody was given anything any more, so that a task that is still open is lost.

    Returns:
        `lost`: answers with a receipt that are not stored as they were sent, and such tasks.
        `doubled`: answers that are stored twice, more answers to a task than it needs,
        two of one person, and tasks that ask what another asks. `not_idempotent`: answers that were
        sent again, and not to the same effect. `unknown`: stored answers that nobody sent.
    """
    sent = {one.body["id"]: one for journal in journals for one in journal.sent}
    with project.read() as session:
        rows = session.scalars(select(Annotation).order_by(Annotation.seq)).all()
        tasks = session.scalars(select(Task)).all()
        last = state_of(session).sequence
        jobs = Counter(session.scalars(select(Job.state)))
    stored = {row.id: row for row in rows}
    by_task: dict[str, list[Annotation]] = {task.id: [] for task in tasks}
    for row in rows:
        by_task[row.task].append(row)
    missing = sum(not _same(one, stored.get(id)) for id, one in sent.items() if one.stored)
    still = sum(task.state == OPEN for task in tasks)
    doubled = len(rows) - len(stored)
    for task in tasks:
        acts = [act for act in in_force(by_task[task.id]) if act.status in LABELS]
        doubled += max(0, len(acts) - task.needed)
        doubled += len(acts) - len({act.annotator for act in acts})
        missing += task.live != len(acts)
    asked = Counter(
        (t.sentence, t.kind if t.kind in ("evaluation", "adjudicate") else "arm")
        for t in tasks
        if t.only_for is None and t.state != CANCELLED
    )
    doubled += sum(count - 1 for count in asked.values())
    wrong = list(problems(examine(project)))
    for finding in wrong:
        print(f"doctor: {finding.check}: {finding.text}")
    return {
        "lost": missing + (still if drained else 0),
        "open": still,
        "doubled": doubled,
        "not_idempotent": sum(not one.idempotent for one in sent.values()),
        "unknown": sum(id not in sent for id in stored),
        "gaps": last - len(rows),
        "doctor": len(wrong),
        "tasks": len(tasks),
        "answers": len(rows),
        "sent_again": sum(one.repeated for one in sent.values()),
        "refused": sum(not one.stored for one in sent.values()),
        "trained": jobs["done"],
        "abandoned": jobs["abandoned"],
        "failed": jobs["failed"],
    }


def progress(project: Project) -> tuple[int, int, int]:
    """How many tasks are done, and how many are open; how many jobs the worker has done."""
    with project.read() as session:
        rows = session.execute(select(Task.state, func.count()).group_by(Task.state)).all()
        trained = session.scalar(select(func.count()).where(Job.state == DONE))
    found = {state: count for state, count in rows}
    return found.get(DONE, 0), found.get(OPEN, 0), trained or 0


def step(project: Project) -> str:
    """What the worker is at; empty: nothing."""
    with project.read() as session:
        job = session.scalar(select(Job).where(Job.state == "running").limit(1))
    return "" if job is None else job.step


def _same(sent: Sent, row: Annotation | None) -> bool:
    kept = row is not None and (row.task, row.annotator, row.guideline) == (
        sent.body["task"],
        sent.annotator,
        sent.body["guideline"],
    )
    return kept and row is not None and list(row.cuts) == sent.body["cuts"]
