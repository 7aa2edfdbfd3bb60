"""Tokens, with which scripts act for somebody."""

import secrets
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, update

from attar.annotate.accounts import Account, account_of, log_account
from attar.annotate.hashing import digest_of
from attar.annotate.refusals import Unauthenticated, Unknown
from attar.annotate.store import Project
from attar.annotate.tables import Token, User, table
from attar.errors import require

TOKEN_PREFIX = "attar_"
#: digits of a token's hash that name it
_SHOWN = 12
_USERS, _TOKENS = table(User), table(Token)
_OF_TOKEN = (
    select(_USERS, _TOKENS.c.expires, _TOKENS.c.revoked)
    .join(_TOKENS, _TOKENS.c.user == _USERS.c.name)
    .where(_TOKENS.c.digest == bindparam("digest"))
)


@dataclass(frozen=True)
class TokenInfo:
    """A token without its secret; `id` is the start of its hash."""

    id: str
    user: str
    label: str
    created: float
    expires: float | None
    revoked: bool


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
                digest=digest_of(secret),
                user=user,
                label=label,
                created=now,
                expires=None if days is None else now + days * 86400,
                revoked=False,
            )
        )
        note = f"token {digest_of(secret)[:_SHOWN]} made {label}".strip()
        log_account(session, user, author=author, note=note, now=now)
    return secret


def account_of_token(project: Project, *, secret: str) -> Account:
    """Whose token this is.

    Raises:
        Unauthenticated: nobody's, or it has ended, was revoked, or the account is closed.
    """
    with project.read() as session:
        row = session.execute(_OF_TOKEN, {"digest": digest_of(secret)}).one_or_none()
    ended = row is not None and row.expires is not None and row.expires <= project.clock()
    if row is None or ended or row.revoked or not row.active:
        raise Unauthenticated("this token is not valid; ask an administrator for another")
    return account_of(row)


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
        log_account(session, user, author=author, note=f"token {id} ended", now=project.clock())
