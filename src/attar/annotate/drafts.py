"""What people were offered and have made of it so far.

A draft is there from when somebody gets a task until they answer it, so it also says who was given
what.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from attar.annotate.tables import Draft, table


@dataclass(frozen=True)
class DraftInfo:
    """What somebody has made of a task so far; `active_ms` is their time at work."""

    cuts: tuple[int, ...] | None
    decided: tuple[int, ...] | None
    caret: int | None
    active_ms: int
    saved: float


_DRAFTS = table(Draft)
_HERE = (_DRAFTS.c.task == bindparam("of_task"), _DRAFTS.c.annotator == bindparam("of_person"))
_SELECT = select(_DRAFTS).where(*_HERE)
_INSERT = insert(_DRAFTS)
_DELETE = delete(_DRAFTS).where(*_HERE)


def draft_of(session: Session, task: str, *, annotator: str) -> Row[Any] | None:
    """The columns of a draft; None: they were never given the task, or have answered it."""
    return session.execute(_SELECT, {"of_task": task, "of_person": annotator}).one_or_none()


def new_draft(
    session: Session,
    task: str,
    *,
    annotator: str,
    now: float,
    prefill: Sequence[int] | None,
    prefill_model: str | None,
) -> None:
    """Note that somebody got a task, and what they were shown."""
    row = {"task": task, "annotator": annotator, "cuts": None, "decided": None, "caret": None}
    shown = {"prefill": prefill, "prefill_model": prefill_model}
    session.execute(_INSERT, {**row, **shown, "active_ms": 0, "saved": now})


def change_draft(session: Session, task: str, *, annotator: str, **values: Any) -> None:
    """Change columns of a draft."""
    wanted = update(_DRAFTS).where(_DRAFTS.c.task == task, _DRAFTS.c.annotator == annotator)
    session.execute(wanted.values(values))


def end_draft(session: Session, task: str, *, annotator: str) -> None:
    """Delete a draft."""
    session.execute(_DELETE, {"of_task": task, "of_person": annotator})


def info(draft: Row[Any] | None) -> DraftInfo | None:
    """As it is shown; None: nothing has been made of the task yet."""
    if draft is None or draft.cuts is None:
        return None
    return DraftInfo(
        cuts=tuple(draft.cuts),
        decided=None if draft.decided is None else tuple(draft.decided),
        caret=draft.caret,
        active_ms=draft.active_ms,
        saved=draft.saved,
    )
