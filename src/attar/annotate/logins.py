"""Logging in and out. Failed logins are counted by name and address."""

import secrets
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select
from sqlalchemy.orm import Session

from attar.annotate import hashing
from attar.annotate.accounts import Account, account_of
from attar.annotate.database import one_at_a_time
from attar.annotate.hashing import digest_of
from attar.annotate.refusals import Throttled, Unauthenticated
from attar.annotate.store import Project
from attar.annotate.tables import LoginFailure, SessionRow, User, table

#: seconds that a login lasts
SESSION_SECONDS = 14 * 24 * 3600.0
#: seconds in which failed logins are counted; how many one name may have from one address, one
#: name from all addresses, and one address with all names
WINDOW, PER_PAIR, PER_NAME, PER_ADDRESS = 900.0, 5, 50, 30
#: of the lock on PostgreSQL under which failed logins are counted
_LOCK = 0x6174746C
_USERS, _SESSIONS = table(User), table(SessionRow)
_OF_SESSION = (
    select(_USERS, _SESSIONS.c.csrf, _SESSIONS.c.expires)
    .join(_SESSIONS, _SESSIONS.c.user == _USERS.c.name)
    .where(_SESSIONS.c.digest == bindparam("digest"))
)


@dataclass(frozen=True)
class Login:
    """An open session: `secret` goes into a cookie, `csrf` into the pages."""

    account: Account
    secret: str
    csrf: str
    expires: float


def log_in(project: Project, *, name: str, password: str, address: str = "") -> Login:
    """Open a session.

    Args:
        project: the project.
        name: of the account.
        password: as typed.
        address: that the request came from.

    Raises:
        Unauthenticated: name or password is wrong, or the account is closed.
        Throttled: there were too many failed attempts; even the right password is not looked at.
    """
    marks = [f"pair {name[:64]} {address}", f"name {name[:64]}", f"address {address}"]
    with project.write() as session:
        one_at_a_time(session, key=_LOCK)
        now = project.clock()
        session.execute(delete(LoginFailure).where(LoginFailure.at <= now - WINDOW))
        for mark, most in zip(marks, (PER_PAIR, PER_NAME, PER_ADDRESS), strict=True):
            _throttle(session, mark, most=most, now=now)
        # counts as failed until it is known: of many at once only as many as may are looked at
        tries = [LoginFailure(who=mark, at=now) for mark in marks]
        session.add_all(tries)
        row = session.get(User, name)
        stored = row.password if row is not None and row.active else None
    # no name takes less time than a wrong password
    if hashing.fits(stored or hashing.nobody(), password) and stored is not None:
        with project.write() as session:
            mine = LoginFailure.id.in_([one.id for one in tries])
            session.execute(delete(LoginFailure).where(mine | (LoginFailure.who == marks[0])))
            row = session.get(User, name)
            if row is not None and hashing.hasher().check_needs_rehash(stored):
                row.password = hashing.hasher().hash(password)
            if row is not None and row.active:
                return _open_session(session, row, now=project.clock())
    raise Unauthenticated("the name or the password is wrong; try again, or ask an administrator")


def session_of(project: Project, *, secret: str) -> Login:
    """The session of a cookie.

    Raises:
        Unauthenticated: there is none, it has ended, or the account is closed.
    """
    with project.read() as session:
        row = session.execute(_OF_SESSION, {"digest": digest_of(secret)}).one_or_none()
    if row is None or not row.active or row.expires <= project.clock():
        raise Unauthenticated("your session has ended; log in again")
    return Login(account_of(row), secret, row.csrf, row.expires)


def log_out(project: Project, *, secret: str) -> None:
    """End a session; one that has ended may be ended again."""
    with project.write() as session:
        session.execute(delete(SessionRow).where(SessionRow.digest == digest_of(secret)))


def _open_session(session: Session, user: User, *, now: float) -> Login:
    session.execute(delete(SessionRow).where(SessionRow.expires <= now))
    secret, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    row = SessionRow(
        digest=digest_of(secret),
        user=user.name,
        csrf=csrf,
        created=now,
        expires=now + SESSION_SECONDS,
    )
    session.add(row)
    return Login(account_of(user), secret, csrf, row.expires)


def _throttle(session: Session, mark: str, *, most: int, now: float) -> None:
    recent = (LoginFailure.who == mark, LoginFailure.at > now - WINDOW)
    times = session.scalars(select(LoginFailure.at).where(*recent).order_by(LoginFailure.at)).all()
    if len(times) >= most:
        wait = max(times[-most] + WINDOW - now, 1.0)
        raise Throttled(
            f"too many failed logins; wait {_minutes(wait)} and try again", retry_after=wait
        )


def _minutes(seconds: float) -> str:
    """A waiting time in words."""
    minutes = max(1, round(seconds / 60))
    return "a minute" if minutes == 1 else f"{minutes} minutes"
