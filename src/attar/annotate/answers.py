"""What people do: answers, skips, flags and undoing them; rows are only ever added."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select

from attar.annotate.acts import Act, Receipt, add, store, stored
from attar.annotate.drafts import change_draft, draft_of, new_draft
from attar.annotate.leases import give_lease, hold, person_of
from attar.annotate.refusals import Conflict, Forbidden, Unknown
from attar.annotate.store import Project, next_sequence, state_of
from attar.annotate.tables import Annotation, SentenceRow
from attar.annotate.tasks import FLAG, SKIPPED, SUBMITTED, VOID, settle
from attar.errors import DataError

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
    act = Act(
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
    return store(project, act)


def skip(project: Project, *, annotator: str, task: str, id: str, active_ms: int = 0) -> Receipt:
    """Leave a task to others; this person is not asked again. Raises what `submit` does."""
    _check_id(id)
    act = Act(id=id, task=task, annotator=annotator, status=SKIPPED, active_ms=active_ms)
    return store(project, act)


def flag(
    project: Project, *, annotator: str, task: str, id: str, note: str = "", active_ms: int = 0
) -> Receipt:
    """Say that something is wrong with a sentence; a reviewer gets it. Raises what `submit`
    does."""
    _check_id(id)
    if len(note) > NOTE or "\0" in note:
        raise DataError(f"expected a note of at most {NOTE:,} characters; found {len(note):,}")
    act = Act(id=id, task=task, annotator=annotator, status=FLAG, note=note, active_ms=active_ms)
    return store(project, act)


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
        act = Act(id=id, task=task.id, annotator=annotator, status=VOID, guideline=found.guideline)
        act = replace(act, root=found.root, parent=last.id)
        if (before := stored(session, act)) is not None:
            return before
        if any(one.status == VOID for one in line):
            raise Conflict("this annotation has been undone already; reload the page")
        common = {"task": task, "person": person, "guideline": found.guideline}
        receipt = add(session, act, number=next_sequence(session), now=now, **common)
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


def _check_id(id: str) -> None:
    try:
        fine = str(uuid.UUID(id)) == id
    except (ValueError, AttributeError, TypeError):
        fine = False
    if not fine:
        raise DataError(
            f"expected a UUID in lower case, such as {uuid.UUID(int=0)}; found {str(id)[:60]!r}"
        )
