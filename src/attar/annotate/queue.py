"""Who works on what: blocks, leases and drafts.

A task is leased to one person at a time for each answer that it needs; a lease that shows no sign
of life ends, and the task goes to the next. Whoever asks again gets the same task back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.orm import Session

from attar.annotate.blocks import new_block
from attar.annotate.drafts import DraftInfo, change_draft, draft_of, info, new_draft
from attar.annotate.leases import (
    Held,
    LeaseInfo,
    Person,
    extend_lease,
    give_lease,
    hold,
    leased,
    person_of,
)
from attar.annotate.refusals import Conflict, Forbidden, Unknown
from attar.annotate.store import Project, State, state_of
from attar.annotate.suggestions import doubts, of_engine, suggested
from attar.annotate.tables import Annotation, Block, BlockItem, Lease, Task, table
from attar.annotate.tasks import (
    FLAG,
    FLAGGED,
    LABELS,
    OPEN,
    REVIEWERS,
    answered,
    at_work,
    in_force,
)
from attar.data.segments.cuts import check
from attar.errors import DataError

#: tasks that are looked at until one is free
_AHEAD = 4


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
        flags: what is wrong with it, in the words of those who flagged it, for a reviewer.
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
    flags: tuple[str, ...] = ()


_TASKS, _BLOCKS, _ITEMS = (table(kind) for kind in (Task, Block, BlockItem))
_ME, _NOW = bindparam("me"), bindparam("now")


def _free(wanted: Select[str]) -> Select[str]:
    """The tasks of a query that a person may take; those that others are at are passed
    over. What somebody flagged is for any reviewer."""
    others = at_work(_TASKS.c.id, besides=_ME, now=_NOW)
    mine = _TASKS.c.only_for.is_(None) | (_TASKS.c.only_for == _ME)
    return wanted.where(
        ~answered(_TASKS.c.id, by=_ME),
        mine | (_TASKS.c.state == FLAGGED),
        _TASKS.c.live + others < _TASKS.c.needed,
    )


def _at_once(wanted: Select[str]) -> Select[str]:
    """The first of them, without those that another transaction holds at this moment."""
    held = {"of": _TASKS, "skip_locked": True, "key_share": True}
    return wanted.limit(_AHEAD).with_for_update(**held)


_LEFT_OF_BLOCKS = _free(
    select(_TASKS.c.id)
    .join(_ITEMS, _ITEMS.c.task == _TASKS.c.id)
    .join(_BLOCKS, _BLOCKS.c.id == _ITEMS.c.block)
    .where(_BLOCKS.c.annotator == _ME, _BLOCKS.c.open, _TASKS.c.state == OPEN)
    .order_by(_BLOCKS.c.id, _ITEMS.c.position)
)
_OF_BLOCKS = _at_once(_LEFT_OF_BLOCKS)
_OF_REVIEWERS = _at_once(
    _free(
        select(_TASKS.c.id)
        .where(
            ((_TASKS.c.kind == "adjudicate") & (_TASKS.c.state == OPEN))
            | (_TASKS.c.state == FLAGGED)
        )
        .order_by(_TASKS.c.order, _TASKS.c.id)
    )
)
_HOLD_ALL = (
    select(_TASKS.c.id)
    .where(_TASKS.c.id.in_(bindparam("tasks", expanding=True)))
    .order_by(_TASKS.c.id)
    .with_for_update(key_share=True)
)
_CLOSE = update(_BLOCKS).where(_BLOCKS.c.annotator == _ME, _BLOCKS.c.open).values(open=False)


def next_task(project: Project, *, annotator: str) -> Assignment | None:
    """Lease a task: the one that this person was at, else the next of their block.

    Returns:
        None: there is nothing for them to do for now, or the project is paused.

    Raises:
        Forbidden: there is no such user, or the account is closed.
        Busy: the database was busy; ask again.
    """
    with project.write(durable=False) as session:
        state, now = state_of(session), project.clock()
        person = person_of(session, annotator)
        if state.paused:
            return None
        held = _at_work(session, person, now=now) or _waiting(session, person, now=now)
        if held is None and not project.sqlite:  # which has one writer
            held = _left(session, person=person, now=now)
        if held is None:
            session.execute(_CLOSE, {"me": annotator})
            if new_block(session, state, annotator=annotator, now=now):
                held = _next_of(session, _OF_BLOCKS, person=person, now=now)
        if held is None:
            return None
        lease = give_lease(session, held, state=state, annotator=annotator, now=now)
        given = _assignment(session, held, state=state, person=person, lease=lease, now=now)
    engine = state.settings.cold_start
    bare = given.cuts is None and given.draft is None
    shown = held.prefill and state.settings.prefill and state.ranking is None
    if engine is None or not (bare and shown):
        return given
    cuts = of_engine(given.text, engine)
    if cuts is not None:
        with project.write(durable=False) as session:
            said = {"prefill": cuts, "prefill_model": engine}
            change_draft(session, given.task, annotator=annotator, **said)
    return replace(given, cuts=cuts)


def beat(project: Project, *, annotator: str, lease: str) -> LeaseInfo:
    """A sign of life: extends a lease.

    Raises:
        Conflict: it had ended, and the task was given to somebody else.
    """
    with project.write(durable=False) as session:
        state, now = state_of(session), project.clock()
        wanted = select(Lease.task, Lease.annotator).where(Lease.id == lease)
        row = session.execute(wanted).one_or_none()
        if row is not None and row.annotator != annotator:
            raise Forbidden("this lease belongs to somebody else")
        held = row and hold(session, row.task, annotator=annotator, now=now)
        if held is None or held.lease != lease or not (held.at_work(now) or held.free):
            raise Conflict(
                "you were away for too long, and the task was given to somebody else; your draft "
                "is kept: ask for the next task"
            )
        until = now + state.settings.lease_seconds
        extend_lease(session, held.id, annotator=annotator, until=until)
        return LeaseInfo.of(lease, until, state=state)


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
    with project.write(durable=False) as session:
        now = project.clock()
        held = hold(session, task, annotator=annotator, now=now)
        check_answer(held.text, cuts=cuts, decided=decided)
        if held.answered:
            return False
        draft = draft_of(session, task, annotator=annotator)
        if draft is None:
            raise Unknown("this task was not given to you; ask for the next one")
        spent = max(draft.active_ms, active_ms)
        kept = {"cuts": cuts, "decided": decided, "caret": caret, "active_ms": spent}
        change_draft(session, task, annotator=annotator, saved=now, **kept)
        if held.at_work(now):
            until = now + state_of(session).settings.lease_seconds
            extend_lease(session, task, annotator=annotator, until=until)
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


def _at_work(session: Session, person: Person, *, now: float) -> Held | None:
    """The task that this person holds; of several the last that they took."""
    for task in leased(session, annotator=person.name, now=now):
        held = hold(session, task, annotator=person.name, now=now)
        if held.free and not held.answered:
            return held
    return None


def _waiting(session: Session, person: Person, *, now: float) -> Held | None:
    """For a reviewer a decision between answers or a flagged sentence; else the next of the blocks
    of this person."""
    found = None
    if person.role in REVIEWERS:
        found = _next_of(session, _OF_REVIEWERS, person=person, now=now)
    return found or _next_of(session, _OF_BLOCKS, person=person, now=now)


def _next_of(session: Session, wanted: Select[str], *, person: Person, now: float) -> Held | None:
    tasks = session.scalars(wanted, {"me": person.name, "now": now}).all()
    return _first(session, tasks, person=person, now=now)


def _left(session: Session, *, person: Person, now: float) -> Held | None:
    """What others hold at this moment of the blocks of a person: a block ends when nothing is left
    of it, not when its last tasks were passed over."""
    tasks = session.scalars(_LEFT_OF_BLOCKS, {"me": person.name, "now": now}).all()
    # all in one order, or two whose blocks have them in another would wait for each other
    session.execute(_HOLD_ALL, {"tasks": tasks})
    return _first(session, tasks, person=person, now=now)


def _first(session: Session, tasks: Sequence[str], *, person: Person, now: float) -> Held | None:
    """The first task that is still free once it is held."""
    for task in tasks:
        held = hold(session, task, annotator=person.name, now=now)
        if held.free and not held.answered:
            return held
    return None


def _assignment(
    session: Session, held: Held, *, state: State, person: Person, lease: LeaseInfo, now: float
) -> Assignment:
    draft = draft_of(session, held.id, annotator=person.name)
    if draft is None:
        shown, model = None, None
        if held.prefill and state.settings.prefill:
            shown, model = suggested(session, held.sentence, state=state)
        common = {"annotator": person.name, "now": now}
        new_draft(session, held.id, prefill=shown, prefill_model=model, **common)
    else:
        shown, model = draft.prefill, draft.prefill_model
    return Assignment(
        task=held.id,
        text=held.text,
        positions=_tuple(held.positions),
        cuts=_tuple(shown),
        doubts=_tuple(doubts(session, held.sentence, model=model, state=state)),
        draft=info(draft),
        guideline=state.guideline,
        acknowledged=person.acknowledged == state.guideline,
        lease=lease,
        answers=_answers(session, held.sentence) if held.kind == "adjudicate" else (),
        flags=_flags(session, held, person=person),
    )


def _answers(session: Session, sentence: str) -> tuple[Others, ...]:
    acts = select(Annotation).where(
        Annotation.sentence == sentence, Annotation.kind != "adjudicate"
    )
    return tuple(
        Others(a.annotator, tuple(a.cuts), _tuple(a.decided))
        for a in in_force(session.scalars(acts))
        if a.status in LABELS
    )


def _flags(session: Session, task: Held, *, person: Person) -> tuple[str, ...]:
    if task.state != FLAGGED or person.role not in REVIEWERS:
        return ()
    acts = session.scalars(select(Annotation).where(Annotation.task == task.id))
    return tuple(act.note for act in in_force(acts) if act.status == FLAG)


def _tuple(stored: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if stored is None else tuple(stored)
