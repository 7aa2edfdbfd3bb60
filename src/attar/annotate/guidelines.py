"""The guideline as people read it: its text, and what changed since they last did."""

import difflib
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from attar.annotate.store import Project, state_of
from attar.annotate.tables import Guideline, User


@dataclass(frozen=True)
class Changed:
    """One line of a comparison."""

    kind: Literal["same", "added", "removed"]
    text: str


@dataclass(frozen=True)
class Reading:
    """The guideline in force for one person; `previous` is the version that they last read."""

    version: str
    text: str
    acknowledged: bool
    previous: str | None
    diff: tuple[Changed, ...]


def reading(project: Project, *, user: str) -> Reading:
    """What a person has to read."""
    with project.read() as session:
        now = state_of(session).guideline
        text, number = _version(session, now)
        reader = session.get(User, user)
        read = None if reader is None else reader.acknowledged
        if read == now:  # the change before this one, for whom it may concern
            before = select(Guideline.version).where(Guideline.number == number - 1)
            previous = session.scalar(before)
        else:
            previous = read
        old = _version(session, previous)[0] if previous else ""
    diff = compared(old, text) if previous else ()
    return Reading(now, text, read == now, previous, diff)


def compared(old: str, new: str) -> tuple[Changed, ...]:
    """The lines of two texts: what stayed, what was added and what was removed."""
    found: list[Changed] = []
    for line in difflib.ndiff(old.splitlines(), new.splitlines()):
        mark, text = line[:1], line[2:]
        if mark == " ":
            found.append(Changed("same", text))
        elif mark in "+-":
            found.append(Changed("added" if mark == "+" else "removed", text))
    return tuple(found)


def _version(session: Session, version: str) -> tuple[str, int]:
    row = session.execute(
        select(Guideline.text, Guideline.number).where(Guideline.version == version)
    ).one()
    return row.text, row.number
