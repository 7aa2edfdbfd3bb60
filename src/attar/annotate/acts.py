"""How an act of somebody is stored, or refused.

The client makes the id of every act, so that it may send it again when no answer came: the same act
twice is the same row. What comes too late is kept as a draft.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from attar.annotate.drafts import change_draft, draft_of, end_draft
from attar.annotate.leases import Held, Person, end_lease, held, person_of
from attar.annotate.queue import check_answer
from attar.annotate.refusals import Conflict, Forbidden, GuidelineChanged, Moved, Unknown
from attar.annotate.store import Project, next_sequence, state_of
from attar.annotate.tables import Annotation, Guideline, table
from attar.annotate.tasks import REVIEWERS, settle
from attar.errors import AttarError, DataError


@dataclass(frozen=True)
class Receipt:
    """What was stored; `created` is False when it was there before."""

    id: str
    task: str
    seq: int
    status: str
    created: bool


def text_digest(text: str) -> str:
    """SHA-256 of the UTF-8 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


_ACTS = table(Annotation)
_KNOWN = select(_ACTS.c.id, _ACTS.c.task, _ACTS.c.seq, _ACTS.c.status, _ACTS.c.digest).where(
    _ACTS.c.id == bindparam("act")
)
_GUIDELINE = select(table(Guideline).c.text).where(
    table(Guideline).c.version == bindparam("version")
)
_INSERT = insert(_ACTS)


@dataclass(frozen=True, kw_only=True)
class Act:
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


def store(project: Project, act: Act) -> Receipt:
    """Store an act once, however often it is sent; raises what `answers.submit` does."""
    for last in (False, True):
        try:
            with project.write() as session:
                result = _accept(session, act, now=project.clock())
        except (IntegrityError, Moved):
            # the same id was stored at the same moment, or the guideline has changed: now it shows
            if last:
                raise
        else:
            if isinstance(result, AttarError):
                raise result
            return result
    raise AssertionError("unreachable")


def _accept(session: Session, act: Act, *, now: float) -> Receipt | AttarError:
    """Store an act, or keep its cuts as a draft and say why."""
    task = held(session, act.task, annotator=act.annotator, now=now)
    # only now, as the same may have been stored while this waited for the task
    if (before := stored(session, act)) is not None:
        return before
    if task is None:
        raise Unknown(f"there is no task {act.task!r}; ask for the next one")
    state, person = state_of(session), person_of(session, act.annotator)
    reviewer = person.role in REVIEWERS
    draft = draft_of(session, task.id, annotator=act.annotator)
    # a reviewer was given it because it was flagged, which may have been undone meanwhile
    mine = task.only_for in (None, act.annotator) or (reviewer and draft is not None)
    if not mine or (task.kind == "adjudicate" and not reviewer):
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
    if draft is None:
        raise Unknown("this task was not given to you; ask for the next one")
    if why := _refusal(session, act, task=task, person=person, guideline=state.guideline):
        if act.cuts is not None:
            kept = {"cuts": act.cuts, "decided": act.decided, "saved": now}
            change_draft(session, task.id, annotator=act.annotator, **kept)
        return why
    receipt = add(
        session,
        act,
        number=next_sequence(session, guideline=state.guideline),
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
    session: Session, act: Act, *, task: Held, person: Person, guideline: str
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


def _check_asked(task: Held, act: Act) -> None:
    if task.positions is None and act.decided is None:
        return
    asked = range(1, len(task.text)) if task.positions is None else task.positions
    left = sorted({*asked} - {*(act.decided or ())})
    if left:
        raise DataError(
            f"expected a decision on every offset that was asked about; {left[0]} has none"
        )


def stored(session: Session, act: Act) -> Receipt | None:
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


def add(
    session: Session,
    act: Act,
    *,
    number: int,
    task: Held,
    person: Person,
    now: float,
    guideline: str,
    prefill: Sequence[int] | None = None,
    prefill_model: str | None = None,
) -> Receipt:
    """Add the row of an act that was accepted, under its `number` in the log."""
    edits = None
    if prefill is not None and act.cuts is not None:
        changed = {*prefill} ^ {*act.cuts}
        edits = len(changed if act.decided is None else changed & {*act.decided})
    session.execute(
        _INSERT,
        {
            "seq": number,
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
    return Receipt(act.id, task.id, number, act.status, created=True)
