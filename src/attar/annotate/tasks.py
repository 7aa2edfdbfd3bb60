"""What follows from the annotations: the state of a task, and the adjudications.

An annotation and its later revisions make a line, named after the first (`root`). A line that was
voided is as if it had never been; of any other the last revision counts.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Exists,
    ScalarSelect,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.orm import Session

from attar.annotate.tables import Adjudication, Annotation, Lease, Task, table

#: an annotation, or a row with its seq, root, status and role
Act = TypeVar("Act", bound=Any)

#: tasks in one statement
_CHUNK = 500
OPEN, DONE, FLAGGED, CANCELLED = "open", "done", "flagged", "cancelled"
SUBMITTED, SKIPPED, FLAG, VOID, MIGRATED = "submitted", "skipped", "flagged", "void", "migrated"
#: answers that count
LABELS = (SUBMITTED, MIGRATED)
#: who decides between answers and about flags
REVIEWERS = ("reviewer", "admin")


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


def in_force(annotations: Iterable[Act]) -> list[Act]:
    """The last revision of every line that was not voided, in the order of `seq`."""
    last = dict[str, Act]()
    void = set[str]()
    for one in sorted(annotations, key=lambda one: one.seq):
        last[one.root] = one
        if one.status == VOID:
            void.add(one.root)
    return sorted((a for root, a in last.items() if root not in void), key=lambda a: a.seq)


def standing(annotations: Iterable[Act], *, needed: int) -> tuple[int, str]:
    """What the annotations of a task say of it: how many answers are in force, and its state.

    A flag waits for a reviewer. The answer that one gives after it settles it, so that what is
    still needed is asked of everybody again.
    """
    acts = list(annotations)
    standing = in_force(acts)
    first = dict[str, int]()  # the place of a line in the log is that of its first act
    for act in sorted(acts, key=lambda act: act.seq):
        first.setdefault(act.root, act.seq)
    live = sum(act.status in LABELS for act in standing)
    reviewed = [
        first[act.root] for act in standing if act.status in LABELS and act.role in REVIEWERS
    ]
    flagged = [first[act.root] for act in standing if act.status == FLAG]
    if live >= needed:
        return live, DONE
    return live, FLAGGED if max(flagged, default=0) > max(reviewed, default=0) else OPEN


_ACTS = table(Annotation)
_TASKS = table(Task)
_LOG = select(
    _ACTS.c.seq, _ACTS.c.root, _ACTS.c.status, _ACTS.c.role, _ACTS.c.kind, _ACTS.c.sentence
).where(_ACTS.c.task == bindparam("of_task"))
_STATE = select(_TASKS.c.needed, _TASKS.c.state, _TASKS.c.kind, _TASKS.c.sentence).where(
    _TASKS.c.id == bindparam("of_task")
)
_SET = (
    update(_TASKS)
    .where(_TASKS.c.id == bindparam("of_task"))
    .values(live=bindparam("now_live"), state=bindparam("now_state"))
)


def settle(session: Session, task: str) -> None:
    """Set what follows from the annotations of a task, whose row the caller holds."""
    session.flush()
    which = {"of_task": task}
    was = session.execute(_STATE, which).one()
    live, state = standing(session.execute(_LOG, which), needed=was.needed)
    state = was.state if was.state == CANCELLED else state
    session.execute(_SET, which | {"now_live": live, "now_state": state})
    if was.kind == "adjudicate":
        _adjudicate(session, was.sentence)


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
    session.flush()


def replay(session: Session) -> int:
    """Build what follows from the annotations again, from nothing.

    Returns:
        How many tasks were not as the annotations say.
    """
    session.flush()
    session.execute(delete(Adjudication))
    kept = select(_TASKS.c.id, _TASKS.c.live, _TASKS.c.state).order_by(_TASKS.c.id)
    before = session.execute(kept).all()
    for task in before:
        settle(session, task.id)
    return sum(old != new for old, new in zip(before, session.execute(kept), strict=True))


def answered(task: ColumnElement[str], *, by: ColumnElement[str]) -> Exists:
    """Whether an act of a person on a task is in force, a skip or a flag included."""
    mine, later = _ACTS.alias(), _ACTS.alias()
    undone = exists().where(later.c.root == mine.c.root, later.c.status == VOID)
    return exists().where(mine.c.task == task, mine.c.annotator == by, ~undone)


def at_work(
    task: ColumnElement[str], *, besides: ColumnElement[str], now: ColumnElement[float]
) -> ScalarSelect[int]:
    """How many people but one hold a lease on a task."""
    leases = table(Lease).alias()
    return (
        select(func.count())
        .select_from(leases)
        .where(leases.c.task == task, leases.c.annotator != besides, leases.c.expires > now)
        .scalar_subquery()
    )
