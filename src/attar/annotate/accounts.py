"""Who may do what: accounts, logins, sessions and tokens.

Passwords are kept as argon2 hashes; of sessions and tokens only a hash of the secret is kept, so a
stolen database lets nobody in. Failed logins are counted by name and address.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Row, bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from attar.annotate.database import one_at_a_time
from attar.annotate.events import ACCOUNT, add_event
from attar.annotate.refusals import Conflict, Throttled, Unauthenticated, Unknown
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Lease, LoginFailure, SessionRow, Token, User, table
from attar.errors import ConfigError, require
from attar.methods.active_segmentation.events import Event

ROLES = ("annotator", "reviewer", "admin")
LANGUAGES = ("en", "th")
#: seconds that a login lasts
SESSION_SECONDS = 14 * 24 * 3600.0
#: seconds in which failed logins are counted; how many one name may have from one address, one
#: name from all addresses, and one address with all names
WINDOW, PER_PAIR, PER_NAME, PER_ADDRESS = 900.0, 5, 50, 30
#: characters of a password
SHORTEST, LONGEST = 8, 1024
#: of the lock on PostgreSQL under which failed logins are counted
_LOCK = 0x6174746C
TOKEN_PREFIX = "attar_"
#: digits of a token's hash that name it
_SHOWN = 12
_USERS, _SESSIONS, _TOKENS = (table(kind) for kind in (User, SessionRow, Token))
_OF_SESSION = (
    select(_USERS, _SESSIONS.c.csrf, _SESSIONS.c.expires)
    .join(_SESSIONS, _SESSIONS.c.user == _USERS.c.name)
    .where(_SESSIONS.c.digest == bindparam("digest"))
)
_OF_TOKEN = (
    select(_USERS, _TOKENS.c.expires, _TOKENS.c.revoked)
    .join(_TOKENS, _TOKENS.c.user == _USERS.c.name)
    .where(_TOKENS.c.digest == bindparam("digest"))
)
_NAME = re.compile(r"[\w.@+-]{1,64}")


@dataclass(frozen=True)
class Account:
    """A user; `acknowledged` is the guideline that they have read."""

    name: str
    role: str
    active: bool = True
    acknowledged: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class Login:
    """An open session: `secret` goes into a cookie, `csrf` into the pages."""

    account: Account
    secret: str
    csrf: str
    expires: float


@dataclass(frozen=True)
class TokenInfo:
    """A token without its secret; `id` is the start of its hash."""

    id: str
    user: str
    label: str
    created: float
    expires: float | None
    revoked: bool


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
    hashed = None if password is None else _hash_password(password)
    with project.write() as session:
        if session.get(User, name) is not None:
            raise Conflict(f"there is an account {name!r} already; choose another name")
        now = project.clock()
        row = add_account(
            session, name=name, now=now, role=role, password=hashed, language=language
        )
        _log(session, name, after=role, author=author, note="opened", now=now)
        if role == "annotator":
            add_event(session, Event(kind="annotator.join", scope=name, author=author), now=now)
        return _account(row)


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
        return [_account(row) for row in session.scalars(select(User).order_by(User.name))]


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
    hashed = None if password is None else _hash_password(password)
    with project.write() as session:
        # two administrators who close each other's accounts at once wait for each other
        held = select(User).where((User.role == "admin") | (User.name == name)).order_by(User.name)
        session.scalars(held.with_for_update(key_share=True)).all()
        row = session.get(User, name)
        if row is None:
            raise Unknown(f"there is no account {name!r}")
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
            _log(session, name, before=was, after=row.role, author=author, note=note, now=now)
        if hashed or not row.active:
            session.execute(delete(SessionRow).where(SessionRow.user == name))
        if was_active and not row.active:
            session.execute(delete(Lease).where(Lease.annotator == name))
            event = Event(kind="annotator.leave", scope=name, author=author)
            add_event(session, event, now=project.clock())
        return _account(row)


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
    if _fits(stored or _nobody(), password) and stored is not None:
        with project.write() as session:
            mine = LoginFailure.id.in_([one.id for one in tries])
            session.execute(delete(LoginFailure).where(mine | (LoginFailure.who == marks[0])))
            row = session.get(User, name)
            if row is not None and _hasher().check_needs_rehash(stored):
                row.password = _hasher().hash(password)
            if row is not None and row.active:
                return _open_session(session, row, project.clock())
    raise Unauthenticated("the name or the password is wrong; try again, or ask an administrator")


def session_of(project: Project, *, secret: str) -> Login:
    """The session of a cookie.

    Raises:
        Unauthenticated: there is none, it has ended, or the account is closed.
    """
    with project.read() as session:
        row = session.execute(_OF_SESSION, {"digest": _digest(secret)}).one_or_none()
    if row is None or not row.active or row.expires <= project.clock():
        raise Unauthenticated("your session has ended; log in again")
    return Login(_account(row), secret, row.csrf, row.expires)


def log_out(project: Project, *, secret: str) -> None:
    """End a session; one that has ended may be ended again."""
    with project.write() as session:
        session.execute(delete(SessionRow).where(SessionRow.digest == _digest(secret)))


def create_token(
    project: Project, *, user: str, label: str = "", days: float | None = None, author: str = ""
) -> str:
    """A new token for scripts of a user: the secret, which is shown this once.

    Args:
        project: the project.
        user: whose rights it has.
        label: what it is for.
        days: until it ends; None: it does not.
        author: who makes it.

    Raises:
        Unknown: there is no such account.
    """
    require(days is None or days > 0, "days", days, "more than 0, or None")
    require(len(label) <= 200 and "\0" not in label, "label", label, "at most 200 characters")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with project.write() as session:
        if session.get(User, user) is None:
            raise Unknown(f"there is no account {user!r}")
        now = project.clock()
        session.add(
            Token(
                digest=_digest(secret),
                user=user,
                label=label,
                created=now,
                expires=None if days is None else now + days * 86400,
                revoked=False,
            )
        )
        note = f"token {_digest(secret)[:_SHOWN]} made {label}".strip()
        _log(session, user, author=author, note=note, now=now)
    return secret


def account_of_token(project: Project, *, secret: str) -> Account:
    """Whose token this is.

    Raises:
        Unauthenticated: nobody's, or it has ended, was revoked, or the account is closed.
    """
    with project.read() as session:
        row = session.execute(_OF_TOKEN, {"digest": _digest(secret)}).one_or_none()
    ended = row is not None and row.expires is not None and row.expires <= project.clock()
    if row is None or ended or row.revoked or not row.active:
        raise Unauthenticated("this token is not valid; ask an administrator for another")
    return _account(row)


def tokens(project: Project, *, user: str | None = None) -> list[TokenInfo]:
    """The tokens of a user, or of all, without their secrets."""
    with project.read() as session:
        wanted = select(Token).order_by(Token.created, Token.digest)
        if user is not None:
            wanted = wanted.where(Token.user == user)
        return [
            TokenInfo(t.digest[:_SHOWN], t.user, t.label, t.created, t.expires, t.revoked)
            for t in session.scalars(wanted)
        ]


def revoke_token(project: Project, *, id: str, author: str = "") -> None:
    """End a token.

    Args:
        project: the project.
        id: of its `TokenInfo`.
        author: who ends it.

    Raises:
        Unknown: there is none.
    """
    with project.write() as session:
        wanted = update(Token).where(func.substr(Token.digest, 1, _SHOWN) == id)
        user = session.scalar(wanted.values(revoked=True).returning(Token.user))
        if user is None:
            raise Unknown(f"there is no token {id!r}")
        _log(session, user, author=author, note=f"token {id} ended", now=project.clock())


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


def _log(
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


def _open_session(session: Session, user: User, now: float) -> Login:
    session.execute(delete(SessionRow).where(SessionRow.expires <= now))
    secret, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    row = SessionRow(
        digest=_digest(secret),
        user=user.name,
        csrf=csrf,
        created=now,
        expires=now + SESSION_SECONDS,
    )
    session.add(row)
    return Login(_account(user), secret, csrf, row.expires)


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


def _keep_an_admin(session: Session) -> None:
    admins = select(func.count()).select_from(User).where(User.role == "admin", User.active)
    if not session.scalar(admins):
        raise Conflict("this is the last open account of an administrator; open another one first")


def _hash_password(password: str) -> str:
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(
            f"expected a password of {SHORTEST} to {LONGEST} characters; found {len(password)}"
        )
    return _hasher().hash(password)


def _fits(stored: str, password: str) -> bool:
    try:
        return len(password) <= LONGEST and _hasher().verify(stored, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobody() -> str:
    """The hash of a password that nobody has."""
    return _hasher().hash(secrets.token_urlsafe(32))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _account(row: User | Row[Any]) -> Account:
    return Account(row.name, row.role, row.active, row.acknowledged, row.language or None)
