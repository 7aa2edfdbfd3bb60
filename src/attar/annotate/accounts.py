"""Who may do what: the accounts of a project."""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, func, select
from sqlalchemy.orm import Session

from attar.annotate.events import ACCOUNT, add_event
from attar.annotate.hashing import hash_password
from attar.annotate.refusals import Conflict, Unknown
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Lease, SessionRow, User
from attar.errors import require
from attar.methods.active_segmentation.events import Event

ROLES = ("annotator", "reviewer", "admin")
LANGUAGES = ("en", "th")
_NAME = re.compile(r"[\w.@+-]{1,64}")


@dataclass(frozen=True)
class Account:
    """A user; `acknowledged` is the guideline that they have read."""

    name: str
    role: str
    active: bool = True
    acknowledged: str | None = None
    language: str | None = None


def add_user(
    project: Project,
    *,
    name: str,
    role: str = "annotator",
    password: str | None = None,
    language: str | None = None,
    author: str = "",
) -> Account:
    """Open an account; that of an annotator is an event, for their habits weigh on the labels.

    Args:
        project: the project.
        name: letters, digits, and . @ + - _.
        role: one of `ROLES`.
        password: None: the account can be used with tokens alone, until one is set.
        language: of the pages; None: that of the browser.
        author: who opens it.

    Raises:
        ConfigError: name, role or password cannot be used.
        Conflict: there is an account of that name.
    """
    check_name(name)
    require(role in ROLES, "role", role, f"one of {', '.join(ROLES)}")
    known = language is None or language in LANGUAGES
    require(known, "language", language, f"one of {', '.join(LANGUAGES)}")
    hashed = None if password is None else hash_password(password)
    with project.write() as session:
        if session.get(User, name) is not None:
            raise Conflict(f"there is an account {name!r} already; choose another name")
        now = project.clock()
        row = add_account(
            session, name=name, now=now, role=role, password=hashed, language=language
        )
        log_account(session, name, after=role, author=author, note="opened", now=now)
        if role == "annotator":
            add_event(session, Event(kind="annotator.join", scope=name, author=author), now=now)
        return account_of(row)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of an account.

    Raises:
        ConfigError: so it is.
    """
    require(bool(_NAME.fullmatch(name)), "name", name, "1 to 64 letters, digits, or . @ + - _")


def add_account(
    session: Session,
    *,
    name: str,
    now: float,
    role: str = "annotator",
    password: str | None = None,
    language: str | None = None,
    active: bool = True,
) -> User:
    """The row of a new account; `password` is a hash."""
    row = User(
        name=name,
        role=role,
        password=password,
        active=active,
        acknowledged=None,
        language=language or "",
        created=now,
    )
    session.add(row)
    session.flush()
    return row


def users(project: Project) -> list[Account]:
    """All accounts, by name."""
    with project.read() as session:
        return [account_of(row) for row in session.scalars(select(User).order_by(User.name))]


def change_user(
    project: Project,
    *,
    name: str,
    role: str | None = None,
    password: str | None = None,
    active: bool | None = None,
    language: str | None = None,
    author: str = "",
) -> Account:
    """Change an account; what is None stays. A new password, or closing it, ends its sessions.

    Raises:
        ConfigError: role or password cannot be used.
        Unknown: there is no such account.
        Conflict: it is the last open account of an administrator.
    """
    require(role is None or role in ROLES, "role", role, f"one of {', '.join(ROLES)}")
    known = language is None or language in LANGUAGES
    require(known, "language", language, f"one of {', '.join(LANGUAGES)}")
    hashed = None if password is None else hash_password(password)
    with project.write() as session:
        # two administrators who close each other's accounts at once wait for each other
        held = select(User).where((User.role == "admin") | (User.name == name)).order_by(User.name)
        session.scalars(held.with_for_update(key_share=True)).all()
        row = session.get(User, name)
        if row is None:
            raise Unknown(
                f"there is no account {name!r}; look for it in the list of accounts, or add it"
            )
        was_active, was_admin = row.active, row.active and row.role == "admin"
        was = row.role
        row.role = role or row.role
        row.active = row.active if active is None else active
        row.language = language or row.language
        row.password = hashed or row.password
        session.flush()
        if was_admin:
            _keep_an_admin(session)
        done = {
            "role": row.role != was,
            "new password": hashed is not None,
            "opened": row.active and not was_active,
            "closed": was_active and not row.active,
        }
        if note := ", ".join(what for what, so in done.items() if so):
            now = project.clock()
            log_account(
                session, name, before=was, after=row.role, author=author, note=note, now=now
            )
        if hashed or not row.active:
            session.execute(delete(SessionRow).where(SessionRow.user == name))
        if was_active and not row.active:
            session.execute(delete(Lease).where(Lease.annotator == name))
            event = Event(kind="annotator.leave", scope=name, author=author)
            add_event(session, event, now=project.clock())
        return account_of(row)


def acknowledge(project: Project, *, annotator: str, guideline: str) -> None:
    """Note that somebody has read the guideline in force.

    Raises:
        Conflict: it is not the one in force any more.
        Unknown: there is no such account.
    """
    with project.write() as session:
        current = state_of(session).guideline
        if guideline != current:
            raise Conflict(
                f"the guideline in force is {current}, not {guideline}; reload the page and read it"
            )
        row = session.get(User, annotator)
        if row is None:
            raise Unknown(f"there is no account {annotator!r}")
        if row.acknowledged != guideline:
            row.acknowledged = guideline
            event = Event(
                kind="annotator.train",
                scope=annotator,
                after=guideline,
                author=annotator,
                note="read the guideline",
            )
            add_event(session, event, now=project.clock())


def log_account(
    session: Session,
    name: str,
    *,
    note: str,
    author: str,
    now: float,
    before: str = "",
    after: str = "",
) -> None:
    """Write what happened to an account into the log."""
    event = Event(kind=ACCOUNT, scope=name, before=before, after=after, note=note, author=author)
    add_event(session, event, now=now)


def _keep_an_admin(session: Session) -> None:
    admins = select(func.count()).select_from(User).where(User.role == "admin", User.active)
    if not session.scalar(admins):
        raise Conflict("this is the last open account of an administrator; open another one first")


def account_of(row: User | Row[Any]) -> Account:
    """The account that a row of `user` stands for."""
    return Account(row.name, row.role, row.active, row.acknowledged, row.language or None)
