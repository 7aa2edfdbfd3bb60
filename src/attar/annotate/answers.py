"""What people did: answers, skips, flags and undoing them; rows are only ever added.

The client makes the id of every act, so that it may send it again when no answer came: the same act
twice is the same row. What cannot be accepted is kept as a draft.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from attar.annotate.queue import (
    active_user,
    check_answer,
    give_lease,
    has_answered,
    has_slot,
    keep_draft,
    lock_task,
)
from attar.annotate.refusals import Conflict, Forbidden, Unknown
from attar.annotate.store import Project, next_sequence, state_of
from attar.annotate.tables import Annotation, Draft, Lease, SentenceRow, Task
from attar.annotate.tasks import FLAG, SKIPPED, SUBMITTED, VOID, settle
from attar.errors import AttarError, DataError

#: milliseconds of one task, characters of a note and of the JSON of a trace, at most
LONGEST_MS, NOTE, TRACE = 24 * 3600 * 1000, 2000, 65536


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer as the client sends it.

    Args:
        id: UUID that the client made.
        task: that it answers.
        text_sha: `text_digest` of the text that the person saw.
        cuts: offsets before which a word begins.
        decided: offsets that the person decided on; None: all.
        guideline: version that they worked by.
        active_ms: milliseconds of work.
        trace: what happened in the editor, as plain JSON.
    """

    id: str
    task: str
    text_sha: str
    cuts: tuple[int, ...]
    guideline: str
    decided: tuple[int, ...] | None = None
    active_ms: int = 0
    trace: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Receipt:
    """What was stored; `created` is False when it was there before."""

    id: str
    task: str
    seq: int
    status: str
    created: bool


@dataclass(frozen=True)
class Past:
    """One act of somebody; `undone` or not."""

    id: str
    task: str
    seq: int
    created: float
    text: str
    status: str
    cuts: tuple[int, ...] | None
    decided: tuple[int, ...] | None
    guideline: str
    undone: bool


def text_digest(text: str) -> str:
    """SHA-256 of the UTF-8 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def submit(project: Project, *, annotator: str, answer: Answer) -> Receipt:
    """Store an answer.

    Raises:
        DataError: id, cuts or decided positions are not valid.
        Conflict: the id was used for something else; the text or the guideline has changed; the
            task was given to others meanwhile; or this person has answered it. The cuts are kept as
            a draft.
        Unknown: there is no such task.
        Forbidden: no such account, or the task is for somebody else.
        Busy: the database was busy; send it again.
    """
    _check_id(answer.id)
    if len(json.dumps(answer.trace, default=str)) > TRACE:
        raise DataError(f"expected a trace of at most {TRACE:,} characters; leave out the oldest")
    act = _Act(
        id=answer.id,
        task=answer.task,
        annotator=annotator,
        status=SUBMITTED,
        cuts=answer.cuts,
        decided=answer.decided,
        guideline=answer.guideline,
        text_sha=answer.text_sha,
        active_ms=min(max(answer.active_ms, 0), LONGEST_MS),
        trace=[dict(one) for one in answer.trace],
    )
    return _store(project, act)


def skip(project: Project, *, annotator: str, task: str, id: str, active_ms: int = 0) -> Receipt:
    """Leave a task to others; this person is not asked again. Raises what `submit` does."""
    _check_id(id)
    act = _Act(id=id, task=task, annotator=annotator, status=SKIPPED, active_ms=active_ms)
    return _store(project, act)


def flag(
    project: Project, *, annotator: str, task: str, id: str, note: str = "", active_ms: int = 0
) -> Receipt:
    """Say that something is wrong with a sentence; a reviewer gets it. Raises what `submit`
    does."""
    _check_id(id)
    if len(note) > NOTE or "\0" in note:
        raise DataError(f"expected a note of at most {NOTE:,} characters; found {len(note):,}")
    act = _Act(id=id, task=task, annotator=annotator, status=FLAG, note=note, active_ms=active_ms)
    return _store(project, act)


def void(project: Project, *, annotator: str, annotation: str, id: str) -> Receipt:
    """Undo an act of one's own: the task comes back to this person first, with what they had.

    Args:
        project: the project.
        annotator: who undoes.
        annotation: id of the act.
        id: UUID that the client made for the undoing.

    Raises:
        Unknown: there is no such act.
        Forbidden: it is somebody else's.
        Conflict: it was undone before, under another id.
    """
    _check_id(id)
    with project.write() as session:
        found = session.scalar(select(Annotation).where(Annotation.id == annotation))
        if found is None:
            raise Unknown(f"there is no annotation {annotation!r}; reload the page")
        if found.annotator != annotator:
            raise Forbidden("only who made an annotation can undo it")
        state, now = state_of(session), project.clock()
        active_user(session, annotator)
        task = lock_task(session, found.task)
        line = session.scalars(
            select(Annotation).where(Annotation.root == found.root).order_by(Annotation.seq)
        ).all()
        act = _Act(id=id, task=task.id, annotator=annotator, status=VOID, guideline=found.guideline)
        act = act.with_parent(root=found.root, parent=line[-1].id)
        if (before := _stored(session, act)) is not None:
            return before
        if any(one.status == VOID for one in line):
            raise Conflict("this annotation has been undone already; reload the page")
        receipt = _add(session, act, task=task, sentence=found.sentence, now=now)
        settle(session, task)
        last = line[-1]
        draft = session.get(Draft, (task.id, annotator)) or _empty_draft(task, annotator, now)
        draft.prefill, draft.prefill_model = found.prefill, found.prefill_model
        draft.active_ms = found.active_ms
        if last.cuts is not None:
            keep_draft(
                draft,
                cuts=tuple(last.cuts),
                decided=None if last.decided is None else tuple(last.decided),
                now=now,
            )
        session.add(draft)
        if has_slot(session, task, annotator, now):
            give_lease(session, task, state=state, annotator=annotator, now=now)
        return receipt


def history(
    project: Project, *, annotator: str, limit: int = 50, before: int | None = None
) -> list[Past]:
    """The acts of one person, the last first.

    Args:
        project: the project.
        annotator: whose.
        limit: how many, at most 500.
        before: only those with a smaller `seq`, for the next page.
    """
    with project.read() as session:
        wanted = (
            select(Annotation, SentenceRow.text)
            .join(SentenceRow, SentenceRow.uid == Annotation.sentence)
            .where(Annotation.annotator == annotator, Annotation.id == Annotation.root)
            .order_by(Annotation.seq.desc())
            .limit(max(1, min(limit, 500)))
        )
        if before is not None:
            wanted = wanted.where(Annotation.seq < before)
        rows = session.execute(wanted).all()
        roots = [row.root for row, _ in rows]
        undone = set(
            session.scalars(
                select(Annotation.root).where(Annotation.root.in_(roots), Annotation.status == VOID)
            )
        )
    return [
        Past(
            id=row.id,
            task=row.task,
            seq=row.seq,
            created=row.created,
            text=text,
            status=row.status,
            cuts=None if row.cuts is None else tuple(row.cuts),
            decided=None if row.decided is None else tuple(row.decided),
            guideline=row.guideline,
            undone=row.root in undone,
        )
        for row, text in rows
    ]


@dataclass(frozen=True, kw_only=True)
class _Act:
    """An act before it is stored."""

    id: str
    task: str
    annotator: str
    status: str
    cuts: tuple[int, ...] | None = None
    decided: tuple[int, ...] | None = None
    guideline: str | None = None
    text_sha: str | None = None
    root: str | None = None
    parent: str | None = None
    note: str = ""
    active_ms: int = 0
    trace: Sequence[Mapping[str, Any]] = ()

    def with_parent(self, *, root: str, parent: str) -> "_Act":
        """The same, as a revision."""
        return _Act(**{**self.__dict__, "root": root, "parent": parent})

    @property
    def digest(self) -> str:
        """Of what makes two acts the same: all but times, which differ when it is sent again."""
        parts = [self.task, self.annotator, self.status, self.cuts, self.decided, self.note]
        parts += [self.guideline, self.text_sha, self.root]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _store(project: Project, act: _Act) -> Receipt:
    for last in (False, True):
        try:
            with project.write() as session:
                result = _accept(session, act, now=project.clock())
        except IntegrityError:  # the same id was stored at the same moment: now it is there
            if last:
                raise
        else:
            if isinstance(result, AttarError):
                raise result
            return result
    raise AssertionError("unreachable")


def _accept(session: Session, act: _Act, *, now: float) -> Receipt | AttarError:
    """Store an act, or keep its cuts as a draft and say why."""
    if (before := _stored(session, act)) is not None:
        return before
    state = state_of(session)
    user = active_user(session, act.annotator)
    task = lock_task(session, act.task)
    if (before := _stored(session, act)) is not None:  # stored while this waited for the lock
        return before
    text = session.scalars(select(SentenceRow.text).where(SentenceRow.uid == task.sentence)).one()
    if task.only_for not in (None, act.annotator) or (
        task.kind == "adjudicate" and user.role == "annotator"
    ):
        raise Forbidden("this task is for somebody else; ask for the next one")
    if act.text_sha is not None and act.text_sha != text_digest(text):
        return Conflict(
            "the text that you saw is not the one that is stored; reload the page and try again"
        )
    draft = session.get(Draft, (task.id, act.annotator))
    if act.cuts is not None:
        check_answer(text, cuts=act.cuts, decided=act.decided)
        _check_asked(task, act, length=len(text))
        draft = draft or _empty_draft(task, act.annotator, now)
        session.add(draft)
        keep_draft(draft, cuts=act.cuts, decided=act.decided, now=now)
    if has_answered(session, task, act.annotator):
        return Conflict("you have answered this task already; undo that answer to change it")
    if act.guideline is not None and act.guideline != state.guideline:
        return Conflict(
            f"the guideline has changed from {act.guideline} to {state.guideline} while you "
            "worked; your draft is kept: read what changed, look at your cuts again and submit"
        )
    if not has_slot(session, task, act.annotator, now):
        return Conflict(
            "you were away for too long, and the task was given to others or withdrawn; your "
            "draft is kept: ask for the next task"
        )
    receipt = _add(
        session,
        act,
        task=task,
        sentence=task.sentence,
        now=now,
        draft=draft,
        guideline=state.guideline,
    )
    session.flush()
    lease = session.scalar(
        select(Lease).where(Lease.task == task.id, Lease.annotator == act.annotator)
    )
    for gone in (lease, draft):
        if gone is not None:
            session.delete(gone)
    settle(session, task)
    return receipt


def _check_asked(task: Task, act: _Act, *, length: int) -> None:
    if task.positions is None and act.decided is None:
        return
    asked = range(1, length) if task.positions is None else task.positions
    left = sorted({*asked} - {*(act.decided or ())})
    if left:
        raise DataError(
            f"expected a decision on every offset that was asked about; {left[0]} has none"
        )


def _stored(session: Session, act: _Act) -> Receipt | None:
    """The receipt of an act that is there already.

    Raises:
        Conflict: its id is there, but for something else.
    """
    row = session.scalar(select(Annotation).where(Annotation.id == act.id))
    if row is None:
        return None
    same = row.digest == act.digest
    if not same:
        raise Conflict(
            f"the id {act.id} was used for another answer; make a new one for each answer"
        )
    return Receipt(row.id, row.task, row.seq, row.status, created=False)


def _add(
    session: Session,
    act: _Act,
    *,
    task: Task,
    sentence: str,
    now: float,
    draft: Draft | None = None,
    guideline: str | None = None,
) -> Receipt:
    prefill = None if draft is None else draft.prefill
    edits = None
    if prefill is not None and act.cuts is not None:
        changed = {*prefill} ^ {*act.cuts}
        edits = len(changed if act.decided is None else changed & {*act.decided})
    row = Annotation(
        seq=next_sequence(session),
        id=act.id,
        task=task.id,
        sentence=sentence,
        annotator=act.annotator,
        root=act.root or act.id,
        parent=act.parent,
        kind=task.kind,
        status=act.status,
        cuts=None if act.cuts is None else list(act.cuts),
        decided=None if act.decided is None else list(act.decided),
        guideline=act.guideline or guideline,
        prefill=prefill,
        prefill_model=None if draft is None else draft.prefill_model,
        edits=edits,
        active_ms=act.active_ms,
        note=act.note,
        trace=list(act.trace),
        digest=act.digest,
        created=now,
    )
    session.add(row)
    session.flush()
    return Receipt(row.id, row.task, row.seq, row.status, created=True)


def _empty_draft(task: Task, annotator: str, now: float) -> Draft:
    return Draft(
        task=task.id,
        annotator=annotator,
        cuts=None,
        decided=None,
        caret=None,
        active_ms=0,
        prefill=None,
        prefill_model=None,
        saved=now,
    )


def _check_id(id: str) -> None:
    try:
        fine = str(uuid.UUID(id)) == id
    except (ValueError, AttributeError, TypeError):
        fine = False
    if not fine:
        raise DataError(
            f"expected a UUID in lower case, such as {uuid.UUID(int=0)}; found {str(id)[:60]!r}"
        )
