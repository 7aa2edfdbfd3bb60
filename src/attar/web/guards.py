"""Middleware that stands before every route: who may ask, and how much may be sent."""

import asyncio
import hmac
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attar.web.errors import error_body


class Keys:
    """Refuses requests without one of the API keys.

    Args:
        app: what is behind.
        keys: of which a client has one; none: no key is needed.
        open_paths: need no key.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Sequence[str], open_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer 401."""
        guarded = scope["type"] == "http" and self._keys and scope["path"] not in self._open
        if guarded and not self._knows(Headers(scope=scope)):
            message = "expected an API key, as in the header Authorization: Bearer KEY"
            body = error_body(401, message, code="invalid_api_key")
            await respond(send, 401, body=body, headers={"www-authenticate": "Bearer"})
            return
        await self._app(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip().encode() if kind.lower() == "bearer" else b""
        # all of them are compared, in a time that tells nothing of how much of a key is right
        return any([hmac.compare_digest(key, known) for known in self._keys])


class Hosts:
    """Refuses requests for other hosts than those named.

    Without keys this keeps web pages out whose name was made to lead to this machine (DNS
    rebinding): to a browser they are of the same origin as the server.

    Args:
        app: what is behind.
        hosts: names by which it may be asked; none: any.
        otherwise: what a server has to be started with to answer to others, for the message.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], otherwise: str) -> None:
        self._app, self._hosts, self._otherwise = app, frozenset(hosts), otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer 403."""
        if scope["type"] == "http" and self._hosts:
            host = re.sub(r":\d+$", "", Headers(scope=scope).get("host", "").lower())
            if host not in self._hosts:
                message = (
                    f"this server answers to {', '.join(sorted(self._hosts))}; found the host "
                    f"{host!r}: use one of these, or start it with {self._otherwise}"
                )
                body = error_body(403, message, code="host_not_allowed")
                await respond(send, 403, body=body)
                return
        await self._app(scope, receive, send)


class SameOrigin:
    """Refuses what a page of another origin makes a browser send, with the user's cookies.

    Browsers say where a request that changes something comes from: in `Sec-Fetch-Site`, and in
    `Origin`, whose host is compared with the one that was asked. Programs send neither.

    Args:
        app: what is behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer 403."""
        changes = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and not _same(Headers(scope=scope)):
            message = "this request comes from a page of another site; use the server's own pages"
            body = error_body(403, message, code="cross_origin")
            await respond(send, 403, body=body)
            return
        await self._app(scope, receive, send)


def _same(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()


PATIENCE = 20.0
"""Seconds to wait for more of a body."""


class BodyLimit:
    """Reads the body of a request before anything else, up to a limit.

    Args:
        app: what is behind.
        most: bytes.
    """

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through with its body, or answer 413 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        try:
            body = None if said.isdigit() and int(said) > self._most else await self._read(receive)
        except TimeoutError:
            message = f"nothing more of the body came for {PATIENCE:g} seconds; send it again"
            error = error_body(408, message, code="timeout")
            await respond(send, 408, body=error, headers={"connection": "close"})
            return
        if body is None:
            message = f"a body may have {self._most} bytes at most; send less"
            await respond(send, 413, body=error_body(413, message, code="request_too_large"))
            return
        waiting = [body]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> Message | None:
        """The whole body as one message; None if it is too long.

        Raises:
            TimeoutError: the client stopped in the middle of it.
        """
        body = b""
        while True:
            async with asyncio.timeout(PATIENCE):
                message = await receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
            if len(body) > self._most:
                return None
            if not message.get("more_body", False):
                return {"type": "http.request", "body": body, "more_body": False}


async def respond(
    send: Send, status: int, *, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """Send a response in JSON, from where there are no routes yet."""
    data = json.dumps(body).encode()
    fields = {"content-type": "application/json", "content-length": str(len(data))}
    fields |= headers or {}
    raw = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": data})
