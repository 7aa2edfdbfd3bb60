"""What follows from the annotations: the state of a task, and the adjudications.

An annotation and its later revisions make a line, named after the first (`root`). A line that was
voided is as if it had never been; of any other the last revision counts.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from attar.annotate.tables import Adjudication, Annotation, Task

#: tasks in one statement
_CHUNK = 500
OPEN, DONE, FLAGGED, CANCELLED = "open", "done", "flagged", "cancelled"
SUBMITTED, SKIPPED, FLAG, VOID, MIGRATED = "submitted", "skipped", "flagged", "void", "migrated"
#: answers that count
LABELS = (SUBMITTED, MIGRATED)


@dataclass(frozen=True)
class NewTask:
    """A question to ask.

    Args:
        sentence: uid.
        kind: arm, overlap, control, evaluation, relabel or adjudicate.
        needed: answers of different people.
        order: the smaller, the sooner within its kind.
        positions: offsets that are asked about; None: all.
        only_for: the one who is asked; None: anybody.
        prefill: whether cuts may be shown.
        round: tells questions apart that are otherwise the same, such as those of two guidelines.
    """

    sentence: str
    kind: str
    needed: int = 1
    order: int = 0
    positions: tuple[int, ...] | None = None
    only_for: str | None = None
    prefill: bool = True
    round: str = ""


def task_id(task: NewTask, *, seed: int) -> str:
    """16 hexadecimal digits, which say nothing of arm or rank and are the same on every
    database."""
    parts = [seed, task.sentence, task.kind, task.positions, task.only_for, task.round]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def ask(session: Session, tasks: Sequence[NewTask], *, seed: int, now: float) -> list[str]:
    """Add tasks; one that was asked before is not asked again.

    Returns:
        The ids, in order.
    """
    named = {task_id(task, seed=seed): task for task in tasks}
    there = set[str]()
    names = list(named)
    for start in range(0, len(names), _CHUNK):
        part = names[start : start + _CHUNK]
        there.update(session.scalars(select(Task.id).where(Task.id.in_(part))))
    session.add_all(
        Task(
            id=name,
            sentence=task.sentence,
            kind=task.kind,
            needed=task.needed,
            positions=None if task.positions is None else list(task.positions),
            only_for=task.only_for,
            prefill=task.prefill,
            state=OPEN,
            live=0,
            order=task.order,
            round=task.round,
            created=now,
        )
        for name, task in named.items()
        if name not in there
    )
    session.flush()
    return [task_id(task, seed=seed) for task in tasks]


def in_force(annotations: Iterable[Annotation]) -> list[Annotation]:
    """The last revision of every line that was not voided, in the order of `seq`."""
    last = dict[str, Annotation]()
    void = set[str]()
    for one in sorted(annotations, key=lambda one: one.seq):
        last[one.root] = one
        if one.status == VOID:
            void.add(one.root)
    return sorted((a for root, a in last.items() if root not in void), key=lambda a: a.seq)


def settle(session: Session, task: Task) -> None:
    """Set what follows from the annotations of a task, whose row the caller holds."""
    acts = in_force(session.scalars(select(Annotation).where(Annotation.task == task.id)))
    task.live = sum(act.status in LABELS for act in acts)
    if task.state != CANCELLED:
        flagged = any(act.status == FLAG for act in acts)
        task.state = DONE if task.live >= task.needed else FLAGGED if flagged else OPEN
    if task.kind == "adjudicate":
        _adjudicate(session, task.sentence)
    session.flush()


def _adjudicate(session: Session, sentence: str) -> None:
    """Set the adjudications of a sentence: the last answer of a reviewer for each guideline."""
    session.execute(delete(Adjudication).where(Adjudication.sentence == sentence))
    asked = select(Annotation).where(
        Annotation.sentence == sentence, Annotation.kind == "adjudicate"
    )
    latest = {a.guideline: a for a in in_force(session.scalars(asked)) if a.status in LABELS}
    session.add_all(
        Adjudication(sentence=sentence, guideline=version, annotation=a.id, reviewer=a.annotator)
        for version, a in latest.items()
    )


def replay(session: Session) -> int:
    """Build what follows from the annotations again, from nothing.

    Returns:
        How many tasks were not as the annotations say.
    """
    session.execute(delete(Adjudication))
    wrong = 0
    for task in session.scalars(select(Task).order_by(Task.id)).all():
        before = (task.live, task.state)
        task.live = 0
        if task.state != CANCELLED:
            task.state = OPEN
        settle(session, task)
        wrong += before != (task.live, task.state)
    return wrong
