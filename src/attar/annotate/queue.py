"""Who works on what: blocks, leases and drafts.

A task is leased to one person at a time for each answer that it needs; a lease that shows no sign
of life ends, and the task goes to the next. Whoever asks again gets the same task back.
"""

import logging
import uuid
from dataclasses import dataclass

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session, aliased

from attar.annotate.blocks import new_block
from attar.annotate.refusals import Conflict, Forbidden, Unknown
from attar.annotate.store import Project, State, state_of
from attar.annotate.tables import (
    Annotation,
    Block,
    BlockItem,
    Draft,
    Lease,
    Score,
    SentenceRow,
    Task,
    User,
)
from attar.annotate.tasks import FLAGGED, LABELS, OPEN, VOID, in_force
from attar.data.segments.cuts import check
from attar.errors import AttarError, DataError
from attar.methods.active_segmentation.engines import load_engine

logger = logging.getLogger(__name__)

REVIEWERS = ("reviewer", "admin")
#: seconds between two leases of one person, at least
_TICK = 1e-3
#: tasks that are looked at until one is free
_AHEAD = 4


@dataclass(frozen=True)
class LeaseInfo:
    """A lease: until `expires` (seconds since 1970) nobody else gets the task."""

    id: str
    expires: float
    beat_seconds: float


@dataclass(frozen=True)
class DraftInfo:
    """What somebody has made of a task so far; `active_ms` is their time at work."""

    cuts: tuple[int, ...] | None
    decided: tuple[int, ...] | None
    caret: int | None
    active_ms: int
    saved: float


@dataclass(frozen=True)
class Others:
    """What somebody else answered, for the reviewer who decides between them."""

    annotator: str
    cuts: tuple[int, ...]
    decided: tuple[int, ...] | None


@dataclass(frozen=True)
class Assignment:
    """A task for one person. It says nothing of arm, score, rank or kind.

    Args:
        task: its id.
        text: of the sentence.
        positions: offsets that are asked about; None: all.
        cuts: that the editor begins with; None: none are shown.
        doubts: offsets where the model that proposed these is unsure; None: the project does not
            show them.
        draft: what the same person saved before; comes before `cuts`.
        guideline: version that the answer must name.
        acknowledged: whether this person has read that version.
        lease: that they hold now.
        answers: of others; empty unless a reviewer is asked to decide between them.
    """

    task: str
    text: str
    positions: tuple[int, ...] | None
    cuts: tuple[int, ...] | None
    doubts: tuple[int, ...] | None
    draft: DraftInfo | None
    guideline: str
    acknowledged: bool
    lease: LeaseInfo
    answers: tuple[Others, ...] = ()


def next_task(project: Project, *, annotator: str) -> Assignment | None:
    """Lease a task: the one that this person was at, else the next of their block.

    Returns:
        None: there is nothing for them to do for now, or the project is paused.

    Raises:
        Forbidden: there is no such user, or the account is closed.
        Busy: the database was busy; ask again.
    """
    with project.write() as session:
        state, now = state_of(session), project.clock()
        user = active_user(session, annotator)
        if state.paused:
            return None
        task = _at_work(session, user, now) or _for_reviewer(session, user, now)
        task = task or _from_blocks(session, user, now)
        if task is None and new_block(session, state, annotator=annotator, now=now):
            task = _from_blocks(session, user, now)
        if task is None:
            return None
        lease = give_lease(session, task, state=state, annotator=annotator, now=now)
        return _assignment(session, task, state=state, user=user, lease=lease, now=now)


def beat(project: Project, *, annotator: str, lease: str) -> LeaseInfo:
    """A sign of life: extends a lease.

    Raises:
        Conflict: it had ended, and the task was given to somebody else.
    """
    with project.write() as session:
        state, now = state_of(session), project.clock()
        row = session.get(Lease, lease)
        if row is not None and row.annotator != annotator:
            raise Forbidden("this lease belongs to somebody else")
        task = row and lock_task(session, row.task)
        held = row is not None and row.expires > now
        if row is None or task is None or not (held or has_slot(session, task, annotator, now)):
            raise Conflict(
                "you were away for too long, and the task was given to somebody else; your draft "
                "is kept: ask for the next task"
            )
        row.expires = now + state.settings.lease_seconds
        return _lease_info(row, state)


def release(project: Project, *, annotator: str, task: str) -> None:
    """Give a task back, as on logging out; the draft stays."""
    with project.write() as session:
        session.execute(delete(Lease).where(Lease.task == task, Lease.annotator == annotator))


def save_draft(
    project: Project,
    *,
    annotator: str,
    task: str,
    cuts: tuple[int, ...],
    decided: tuple[int, ...] | None = None,
    caret: int | None = None,
    active_ms: int = 0,
) -> bool:
    """Keep unfinished work, and extend the lease.

    Returns:
        Whether it was kept; False for one that comes after the answer.

    Raises:
        DataError: the cuts do not fit the text.
        Unknown: this person was never given this task.
    """
    with project.write() as session:
        row = lock_task(session, task)
        check_answer(_text(session, row), cuts=cuts, decided=decided)
        if has_answered(session, row, annotator):
            return False
        draft = session.get(Draft, (task, annotator))
        if draft is None:
            raise Unknown("this task was not given to you; ask for the next one")
        now = project.clock()
        keep_draft(draft, cuts=cuts, decided=decided, now=now)
        draft.caret, draft.active_ms = caret, max(draft.active_ms, active_ms)
        lease = session.scalar(
            select(Lease).where(
                Lease.task == task, Lease.annotator == annotator, Lease.expires > now
            )
        )
        if lease is not None:
            lease.expires = now + state_of(session).settings.lease_seconds
        return True


def check_answer(text: str, *, cuts: tuple[int, ...], decided: tuple[int, ...] | None) -> None:
    """Refuse cuts that do not fit a text.

    Raises:
        DataError: so it is.
    """
    check(text, cuts, where="the answer")
    if decided is not None:
        check(text, decided, where="the decided positions of the answer")
        if outside := sorted({*cuts} - {*decided}):
            raise DataError(
                f"expected every cut among the decided positions; offset {outside[0]} is not"
            )


def active_user(session: Session, name: str) -> User:
    """A user who may work.

    Raises:
        Forbidden: there is none of that name, or the account is closed.
    """
    user = session.get(User, name)
    if user is None or not user.active:
        raise Forbidden(f"there is no open account {name!r}; ask an administrator")
    return user


def lock_task(session: Session, task: str) -> Task:
    """The row of a task, held until the transaction ends.

    Raises:
        Unknown: there is none.
    """
    row = session.scalar(
        select(Task)
        .where(Task.id == task)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise Unknown(f"there is no task {task!r}; ask for the next one")
    return row


def has_answered(session: Session, task: Task, annotator: str) -> bool:
    """Whether an answer of this person is in force, a skip or a flag included."""
    acts = select(Annotation).where(Annotation.task == task.id, Annotation.annotator == annotator)
    return bool(in_force(session.scalars(acts)))


def has_slot(session: Session, task: Task, annotator: str, now: float) -> bool:
    """Whether one more person may answer a task, whose row the caller holds."""
    others = session.scalar(
        select(func.count())
        .select_from(Lease)
        .where(Lease.task == task.id, Lease.annotator != annotator, Lease.expires > now)
    )
    return task.state in (OPEN, FLAGGED) and task.live + (others or 0) < task.needed


def give_lease(session: Session, task: Task, *, state: State, annotator: str, now: float) -> Lease:
    """Lease a task that has a slot, and whose row the caller holds."""
    mine = session.scalar(select(Lease).where(Lease.task == task.id, Lease.annotator == annotator))
    session.execute(delete(Lease).where(Lease.task == task.id, Lease.expires <= now))
    session.flush()
    if mine is not None and mine.expires > now:
        mine.expires = now + state.settings.lease_seconds
        return mine
    latest = session.scalar(select(func.max(Lease.taken)).where(Lease.annotator == annotator))
    lease = Lease(
        id=uuid.uuid4().hex,
        task=task.id,
        annotator=annotator,
        taken=max(now, (latest or 0) + _TICK),  # what was taken last comes back first
        expires=now + state.settings.lease_seconds,
    )
    session.add(lease)
    session.flush()
    return lease


def keep_draft(
    draft: Draft, *, cuts: tuple[int, ...], decided: tuple[int, ...] | None, now: float
) -> None:
    """Put cuts into a draft."""
    draft.cuts, draft.saved = list(cuts), now
    draft.decided = None if decided is None else list(decided)


def _at_work(session: Session, user: User, now: float) -> Task | None:
    """The task that this person holds; of several the last that they took."""
    held = select(Lease.task).where(Lease.annotator == user.name, Lease.expires > now)
    for name in session.scalars(held.order_by(Lease.taken.desc(), Lease.id)).all():
        task = lock_task(session, name)
        if has_slot(session, task, user.name, now) and not has_answered(session, task, user.name):
            return task
    return None


def _for_reviewer(session: Session, user: User, now: float) -> Task | None:
    """A decision between answers, or a sentence that somebody flagged."""
    if user.role not in REVIEWERS:
        return None
    wanted = select(Task.id).where(
        ((Task.kind == "adjudicate") & (Task.state == OPEN)) | (Task.state == FLAGGED)
    )
    return _first(session, wanted.order_by(Task.order, Task.id), user, now)


def _from_blocks(session: Session, user: User, now: float) -> Task | None:
    """The next task of the blocks of this person; a block with nothing left is closed."""
    mine = select(Block).where(Block.annotator == user.name, Block.open).order_by(Block.id)
    for block in session.scalars(mine).all():
        wanted = (
            select(Task.id)
            .join(BlockItem, BlockItem.task == Task.id)
            .where(BlockItem.block == block.id, Task.state == OPEN)
            .order_by(BlockItem.position)
        )
        if (task := _first(session, wanted, user, now)) is not None:
            return task
        block.open = False
        session.flush()
    return None


def _first(session: Session, wanted, user: User, now: float) -> Task | None:
    """The first task of a query that this person may take; those that others are at are passed
    over."""
    mine, voided = aliased(Annotation), aliased(Annotation)
    undone = exists().where(voided.root == mine.root, voided.status == VOID)
    answered = exists().where(mine.task == Task.id, mine.annotator == user.name, ~undone)
    others = (
        select(func.count())
        .select_from(Lease)
        .where(Lease.task == Task.id, Lease.annotator != user.name, Lease.expires > now)
        .scalar_subquery()
    )
    free = wanted.where(
        ~answered,
        (Task.only_for.is_(None)) | (Task.only_for == user.name),
        Task.live + others < Task.needed,
    ).with_for_update(of=Task, skip_locked=True, key_share=True)
    # between the look and the lock somebody may have taken it, so look again under the lock
    for name in session.scalars(free.limit(_AHEAD)).all():
        task = lock_task(session, name)
        if has_slot(session, task, user.name, now) and not has_answered(session, task, user.name):
            return task
    return None


def _assignment(
    session: Session, task: Task, *, state: State, user: User, lease: Lease, now: float
) -> Assignment:
    text = _text(session, task)
    draft = session.get(Draft, (task.id, user.name))
    if draft is None:
        cuts, model = _prefill(session, task, text=text, state=state)
        draft = Draft(
            task=task.id,
            annotator=user.name,
            cuts=None,
            decided=None,
            caret=None,
            active_ms=0,
            prefill=cuts,
            prefill_model=model,
            saved=now,
        )
        session.add(draft)
        session.flush()
    kept = DraftInfo(
        cuts=_tuple(draft.cuts),
        decided=_tuple(draft.decided),
        caret=draft.caret,
        active_ms=draft.active_ms,
        saved=draft.saved,
    )
    return Assignment(
        task=task.id,
        text=text,
        positions=_tuple(task.positions),
        cuts=_tuple(draft.prefill),
        doubts=_doubts(session, draft, state),
        draft=None if draft.cuts is None else kept,
        guideline=state.guideline,
        acknowledged=user.acknowledged == state.guideline,
        lease=_lease_info(lease, state),
        answers=_answers(session, task) if task.kind == "adjudicate" else (),
    )


def _prefill(
    session: Session, task: Task, *, text: str, state: State
) -> tuple[list[int] | None, str | None]:
    """The cuts of the model in force, and its run's name; before there is one, those of the engine
    for the cold start; None: the task begins without any."""
    if not (task.prefill and state.settings.prefill):
        return None, None
    if state.ranking is None:
        return _first_cuts(text, state.settings.cold_start)
    score = session.get(Score, (state.ranking, task.sentence))
    return (None, None) if score is None else (score.cuts, str(state.ranking))


def _first_cuts(text: str, engine: str | None) -> tuple[list[int] | None, str | None]:
    """The cuts of an engine, and its name."""
    if engine is None:
        return None, None
    try:
        return list(load_engine(engine)(text)), engine
    except AttarError as error:  # not installed here: people go on working
        logger.warning("%s; tasks begin without cuts", error)
        return None, None


def _doubts(session: Session, draft: Draft, state: State) -> tuple[int, ...] | None:
    """Where the model in force is unsure; None: this is not shown, or the cuts are another's."""
    shown = state.settings.show_doubts and not state.settings.comparing
    if not shown or draft.prefill_model != str(state.ranking):
        return None
    sentence = select(Task.sentence).where(Task.id == draft.task).scalar_subquery()
    wanted = select(Score.doubts).where(Score.run == state.ranking, Score.sentence == sentence)
    return _tuple(session.scalar(wanted))


def _answers(session: Session, task: Task) -> tuple[Others, ...]:
    acts = select(Annotation).where(
        Annotation.sentence == task.sentence, Annotation.kind != "adjudicate"
    )
    return tuple(
        Others(a.annotator, tuple(a.cuts), _tuple(a.decided))
        for a in in_force(session.scalars(acts))
        if a.status in LABELS
    )


def _text(session: Session, task: Task) -> str:
    return session.scalars(select(SentenceRow.text).where(SentenceRow.uid == task.sentence)).one()


def _lease_info(row: Lease, state: State) -> LeaseInfo:
    return LeaseInfo(row.id, row.expires, state.settings.beat_seconds)


def _tuple(stored: list[int] | None) -> tuple[int, ...] | None:
    return None if stored is None else tuple(stored)
