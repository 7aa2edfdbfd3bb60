"""What people did: answers, skips, flags and undoing them; rows are only ever added.

The client makes the id of every act, so that it may send it again when no answer came: the same act
twice is the same row. What cannot be accepted is kept as a draft.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from attar.annotate.drafts import change_draft, draft_of, end_draft, new_draft
from attar.annotate.leases import Held, Person, end_lease, give_lease, held, hold, person_of
from attar.annotate.queue import check_answer
from attar.annotate.refusals import Conflict, Forbidden, GuidelineChanged, Unknown
from attar.annotate.store import Project, next_sequence, state_of
from attar.annotate.tables import Annotation, Guideline, SentenceRow, table
from attar.annotate.tasks import FLAG, REVIEWERS, SKIPPED, SUBMITTED, VOID, settle
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
        Conflict: the id was used for something else; the text has changed; the task was given to
            others meanwhile; or this person has answered it.
        GuidelineChanged: it has, or this person has not read it.
        Unknown: there is no such task, or it was never given to this person.
        Forbidden: no such account, or the task is for somebody else.
        Busy: the database was busy; send it again.

    What a conflict keeps out stays as a draft.
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
        person = person_of(session, annotator)
        task = hold(session, found.task, annotator=annotator, now=now)
        line = session.scalars(
            select(Annotation).where(Annotation.root == found.root).order_by(Annotation.seq)
        ).all()
        last = line[-1]
        act = _Act(id=id, task=task.id, annotator=annotator, status=VOID, guideline=found.guideline)
        act = replace(act, root=found.root, parent=last.id)
        if (before := _stored(session, act)) is not None:
            return before
        if any(one.status == VOID for one in line):
            raise Conflict("this annotation has been undone already; reload the page")
        common = {"task": task, "person": person, "guideline": found.guideline}
        receipt = _add(session, act, now=now, **common)
        settle(session, task.id)
        draft = draft_of(session, task.id, annotator=annotator)
        shown = {"prefill": found.prefill, "prefill_model": found.prefill_model}
        if draft is None:
            new_draft(session, task.id, annotator=annotator, now=now, **shown)
        kept = {"cuts": last.cuts, "decided": last.decided} if last.cuts is not None else {}
        spent = {"active_ms": found.active_ms, "saved": now}
        change_draft(session, task.id, annotator=annotator, **shown, **kept, **spent)
        task = hold(session, task.id, annotator=annotator, now=now)
        if task.free:
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


_ACTS = table(Annotation)
_KNOWN = select(_ACTS.c.id, _ACTS.c.task, _ACTS.c.seq, _ACTS.c.status, _ACTS.c.digest).where(
    _ACTS.c.id == bindparam("act")
)
_GUIDELINE = select(table(Guideline).c.text).where(
    table(Guideline).c.version == bindparam("version")
)
_INSERT = insert(_ACTS)


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
    task = held(session, act.task, annotator=act.annotator, now=now)
    # only now, as the same may have been stored while this waited for the task
    if (before := _stored(session, act)) is not None:
        return before
    if task is None:
        raise Unknown(f"there is no task {act.task!r}; ask for the next one")
    state, person = state_of(session), person_of(session, act.annotator)
    if task.only_for not in (None, act.annotator) or (
        task.kind == "adjudicate" and person.role not in REVIEWERS
    ):
        raise Forbidden("this task is for somebody else; ask for the next one")
    if act.text_sha is not None and act.text_sha != text_digest(task.text):
        return Conflict(
            "the text that you saw is not the one that is stored; reload the page and try again"
        )
    if act.cuts is not None:
        check_answer(task.text, cuts=act.cuts, decided=act.decided)
        _check_asked(task, act)
    if task.answered:
        return Conflict("you have answered this task already; undo that answer to change it")
    draft = draft_of(session, task.id, annotator=act.annotator)
    if draft is None:
        raise Unknown("this task was not given to you; ask for the next one")
    if why := _refusal(session, act, task=task, person=person, guideline=state.guideline):
        if act.cuts is not None:
            kept = {"cuts": act.cuts, "decided": act.decided, "saved": now}
            change_draft(session, task.id, annotator=act.annotator, **kept)
        return why
    receipt = _add(
        session,
        act,
        task=task,
        person=person,
        now=now,
        guideline=state.guideline,
        prefill=draft.prefill,
        prefill_model=draft.prefill_model,
    )
    end_lease(session, task.id, annotator=act.annotator, now=now)
    end_draft(session, task.id, annotator=act.annotator)
    settle(session, task.id)
    return receipt


def _refusal(
    session: Session, act: _Act, *, task: Held, person: Person, guideline: str
) -> Conflict | None:
    """Why an act comes too late; None: it does not."""
    if act.guideline is not None and act.guideline != guideline:
        return GuidelineChanged(
            f"the guideline has changed from {act.guideline} to {guideline} while you worked; "
            "your draft is kept: read what changed, look at your cuts again and submit"
        )
    unread = act.cuts is not None and person.acknowledged != guideline
    # there is nothing to read in one without text
    if unread and session.execute(_GUIDELINE, {"version": guideline}).scalar_one().strip():
        return GuidelineChanged(
            f"you have not read the guideline {guideline} yet; your draft is kept: read it, look "
            "at your cuts again and submit"
        )
    if not task.free:
        return Conflict(
            "you were away for too long, and the task was given to others or withdrawn; your "
            "draft is kept: ask for the next task"
        )
    return None


def _check_asked(task: Held, act: _Act) -> None:
    if task.positions is None and act.decided is None:
        return
    asked = range(1, len(task.text)) if task.positions is None else task.positions
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
    row = session.execute(_KNOWN, {"act": act.id}).one_or_none()
    if row is None:
        return None
    if row.digest != act.digest:
        raise Conflict(
            f"the id {act.id} was used for another answer; make a new one for each answer"
        )
    return Receipt(row.id, row.task, row.seq, row.status, created=False)


def _add(
    session: Session,
    act: _Act,
    *,
    task: Held,
    person: Person,
    now: float,
    guideline: str,
    prefill: Sequence[int] | None = None,
    prefill_model: str | None = None,
) -> Receipt:
    edits = None
    if prefill is not None and act.cuts is not None:
        changed = {*prefill} ^ {*act.cuts}
        edits = len(changed if act.decided is None else changed & {*act.decided})
    seq = next_sequence(session)
    session.execute(
        _INSERT,
        {
            "seq": seq,
            "id": act.id,
            "task": task.id,
            "sentence": task.sentence,
            "annotator": person.name,
            "role": person.role,
            "root": act.root or act.id,
            "parent": act.parent,
            "kind": task.kind,
            "status": act.status,
            "cuts": act.cuts,
            "decided": act.decided,
            "guideline": guideline,
            "prefill": prefill,
            "prefill_model": prefill_model,
            "edits": edits,
            "active_ms": act.active_ms,
            "note": act.note,
            "trace": act.trace,
            "digest": act.digest,
            "created": now,
        },
    )
    return Receipt(act.id, task.id, seq, act.status, created=True)


def _check_id(id: str) -> None:
    try:
        fine = str(uuid.UUID(id)) == id
    except (ValueError, AttributeError, TypeError):
        fine = False
    if not fine:
        raise DataError(
            f"expected a UUID in lower case, such as {uuid.UUID(int=0)}; found {str(id)[:60]!r}"
        )
