"""Who is at work on what: a task as it stands for one person, and leases on it.

What every request runs is built once, and reads columns instead of objects: with fifty people at
work the time of the processor is what they wait for.
"""

import uuid
from dataclasses import dataclass

from sqlalchemy import (
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.orm import Session

from attar.annotate.refusals import Forbidden, Unknown
from attar.annotate.store import State
from attar.annotate.tables import Lease, SentenceRow, Task, User, table
from attar.annotate.tasks import FLAGGED, OPEN, answered, at_work

#: seconds between two leases of one person, at least
_TICK = 1e-3


@dataclass(frozen=True)
class LeaseInfo:
    """A lease: until `expires` (seconds since 1970) nobody else gets the task; pauses of more than
    `idle_seconds` are not work."""

    id: str
    expires: float
    beat_seconds: float
    idle_seconds: float

    @classmethod
    def of(cls, id: str, expires: float, *, state: State) -> "LeaseInfo":
        """A lease, by the settings of its project."""
        return cls(id, expires, state.settings.beat_seconds, state.settings.idle_seconds)


@dataclass(frozen=True)
class Person:
    """A person with an open account, and the guideline that they have read."""

    name: str
    role: str
    acknowledged: str | None


@dataclass(frozen=True)
class Held:
    """A task as it stands for one person; nobody else changes it until the transaction ends.

    Args:
        id: of the task; `sentence` to `prefill` are as in its row, `text` is of the sentence.
        others: leases of other people in force.
        answered: whether an act of this person is in force, a skip or a flag included.
        lease: of this person, in force or not.
        expires: when it ends.
    """

    id: str
    sentence: str
    text: str
    kind: str
    needed: int
    live: int
    state: str
    positions: list[int] | None
    only_for: str | None
    prefill: bool
    others: int
    answered: bool
    lease: str | None
    expires: float | None

    def at_work(self, now: float) -> bool:
        """Whether the lease of this person is in force."""
        return self.expires is not None and self.expires > now

    @property
    def free(self) -> bool:
        """Whether one more person may answer it."""
        return self.state in (OPEN, FLAGGED) and self.live + self.others < self.needed


_TASKS, _TEXTS, _LEASES, _USERS = (table(kind) for kind in (Task, SentenceRow, Lease, User))
_TASK, _ME, _NOW = bindparam("task_id"), bindparam("me"), bindparam("now")
_PERSON = select(_USERS.c.name, _USERS.c.role, _USERS.c.acknowledged).where(
    _USERS.c.name == _ME, _USERS.c.active
)
_LOCK = select(literal_column("1")).select_from(_TASKS).where(_TASKS.c.id == _TASK)
_LOCK = _LOCK.with_for_update(key_share=True)
_HELD = (
    select(
        _TASKS.c.id,
        _TASKS.c.sentence,
        _TEXTS.c.text,
        _TASKS.c.kind,
        _TASKS.c.needed,
        _TASKS.c.live,
        _TASKS.c.state,
        _TASKS.c.positions,
        _TASKS.c.only_for,
        _TASKS.c.prefill,
        at_work(_TASKS.c.id, besides=_ME, now=_NOW).label("others"),
        answered(_TASKS.c.id, by=_ME).label("answered"),
        _LEASES.c.id.label("lease"),
        _LEASES.c.expires,
    )
    .select_from(_TASKS)
    .join(_TEXTS, _TEXTS.c.uid == _TASKS.c.sentence)
    .outerjoin(_LEASES, (_LEASES.c.task == _TASKS.c.id) & (_LEASES.c.annotator == _ME))
    .where(_TASKS.c.id == _TASK)
)
_MINE = (
    select(_LEASES.c.task)
    .where(_LEASES.c.annotator == _ME, _LEASES.c.expires > _NOW)
    .order_by(_LEASES.c.taken.desc(), _LEASES.c.id)
)
_LATEST = select(func.max(_LEASES.c.taken)).where(_LEASES.c.annotator == _ME)
_END = delete(_LEASES).where(
    _LEASES.c.task == _TASK, (_LEASES.c.expires <= _NOW) | (_LEASES.c.annotator == _ME)
)
_TAKE = insert(_LEASES)
_EXTEND = (
    update(_LEASES)
    .where(_LEASES.c.task == _TASK, _LEASES.c.annotator == _ME)
    .values(expires=bindparam("until"))
)


def person_of(session: Session, name: str) -> Person:
    """Somebody who may work.

    Raises:
        Forbidden: there is no such account, or it is closed.
    """
    row = session.execute(_PERSON, {"me": name}).one_or_none()
    if row is None:
        raise Forbidden(f"there is no open account {name!r}; ask an administrator")
    return Person(*row)


def held(session: Session, task: str, *, annotator: str, now: float) -> Held | None:
    """A task as it stands for somebody, until the transaction ends; None: there is none."""
    which = {"task_id": task, "me": annotator, "now": now}
    if session.get_bind().dialect.name != "sqlite":  # which has one writer anyway
        session.execute(_LOCK, which)
    row = session.execute(_HELD, which).one_or_none()
    return None if row is None else Held(*row)


def hold(session: Session, task: str, *, annotator: str, now: float) -> Held:
    """The same.

    Raises:
        Unknown: there is none.
    """
    found = held(session, task, annotator=annotator, now=now)
    if found is None:
        raise Unknown(f"there is no task {task!r}; ask for the next one")
    return found


def leased(session: Session, *, annotator: str, now: float) -> list[str]:
    """The tasks that somebody holds, the last that they took first."""
    return list(session.scalars(_MINE, {"me": annotator, "now": now}))


def give_lease(
    session: Session, task: Held, *, state: State, annotator: str, now: float
) -> LeaseInfo:
    """Lease a free task, or extend the lease."""
    which = {"task_id": task.id, "me": annotator, "now": now}
    until = now + state.settings.lease_seconds
    if task.lease is not None and task.at_work(now):
        session.execute(_EXTEND, which | {"until": until})
        return LeaseInfo.of(task.lease, until, state=state)
    session.execute(_END, which)
    latest = session.scalar(_LATEST, which) or 0
    lease = {
        "id": uuid.uuid4().hex,
        "task": task.id,
        "annotator": annotator,
        "taken": max(now, latest + _TICK),  # what was taken last comes back first
        "expires": until,
    }
    session.execute(_TAKE, lease)
    return LeaseInfo.of(lease["id"], until, state=state)


def end_lease(session: Session, task: str, *, annotator: str, now: float) -> None:
    """End the lease of somebody, and those that have ended by themselves."""
    session.execute(_END, {"task_id": task, "me": annotator, "now": now})


def extend_lease(session: Session, task: str, *, annotator: str, until: float) -> None:
    """Extend a lease, if there is one."""
    session.execute(_EXTEND, {"task_id": task, "me": annotator, "until": until})
