"""Who asks: a session cookie and a CSRF token for people, a bearer token for scripts."""

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from attar.annotate import accounts, logins, tokens
from attar.annotate.refusals import Forbidden, Unauthenticated
from attar.annotate.store import Project
from attar.web.errors import ApiError

COOKIE = "attar_session"
CSRF_HEADER = "X-CSRF-Token"


@dataclass(frozen=True)
class Visitor:
    """Somebody who has logged in, or a script with a token; that needs no `csrf`."""

    name: str
    role: str
    language: str | None
    csrf: str | None

    def may(self, role: str) -> bool:
        """Whether a role's pages and routes are open to them: each may do what those before it
        may."""
        return accounts.ROLES.index(self.role) >= accounts.ROLES.index(role)


def visitor_of(request: Request) -> Visitor:
    """Who asks.

    Raises:
        Unauthenticated: nobody has logged in, or the session or token is not valid any more.
    """
    project: Project = request.app.state.project
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        account = tokens.account_of_token(project, secret=token.strip())
        return Visitor(account.name, account.role, account.language, None)
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise Unauthenticated("nobody has logged in here; log in, or send an API token")
    login = logins.session_of(project, secret=secret)
    return Visitor(login.account.name, login.account.role, login.account.language, login.csrf)


def admit(request: Request, *, role: str, csrf: str | None = None) -> Visitor:
    """Who asks, if the role allows it and the request comes from the service's own pages.

    Args:
        request: what is asked.
        role: that is needed.
        csrf: the token of a form; None: that of the header.

    Raises:
        Unauthenticated: nobody has logged in.
        Forbidden: the role does not allow it.
        ApiError: the CSRF token is missing or wrong.
    """
    visitor = visitor_of(request)
    changes = request.method not in ("GET", "HEAD", "OPTIONS")
    if changes and visitor.csrf is not None:
        sent = request.headers.get(CSRF_HEADER, "") if csrf is None else csrf
        if not hmac.compare_digest(sent.encode(), visitor.csrf.encode()):
            message = "the page is from an earlier login; reload it and try again"
            raise ApiError(403, message, code="csrf")
    if not visitor.may(role):
        raise Forbidden(f"this needs the role {role}; yours is {visitor.role}")
    return visitor


def _annotator(request: Request) -> Visitor:
    return admit(request, role="annotator")


def _reviewer(request: Request) -> Visitor:
    return admit(request, role="reviewer")


def _admin(request: Request) -> Visitor:
    return admit(request, role="admin")


AnyVisitor = Annotated[Visitor, Depends(_annotator)]
Reviewer = Annotated[Visitor, Depends(_reviewer)]
Admin = Annotated[Visitor, Depends(_admin)]


def fresh(response: Response) -> None:
    """No browser or proxy keeps what one person was told."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"


def remember(request: Request, response: Response, *, secret: str, seconds: float) -> None:
    """Give the browser its cookie: no script reads it, and other sites' forms do not carry it."""
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int(seconds),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path="/",
    )
