"""The application: pages for people, and an interface for them and for scripts."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response

from attar.annotate import admin, api, boards
from attar.annotate import pages as own_pages
from attar.annotate.refusals import Unauthenticated
from attar.annotate.sessions import admit
from attar.annotate.store import Project, state_of
from attar.errors import AttarError
from attar.web import pages
from attar.web.app import WebConfig, build
from attar.web.errors import ApiError

STATIC = Path(__file__).parent / "static"


def application(
    project: Project,
    *,
    web: WebConfig,
    registry: CollectorRegistry,
    beside: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> FastAPI:
    """The service over a project.

    Args:
        project: an open one; the caller closes it.
        web: who may ask, and how much; its `cookies` are on in any case.
        registry: of the metrics.
        beside: what runs as long as the application does, such as a worker.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        with beside():
            yield

    app = build(
        "Attar annotate",
        config=replace(web, cookies=True),
        registry=registry,
        healthy=lambda: _reachable(project),
        lifespan=lifespan,
        metrics_guard=lambda request: admit(request, role="admin"),
    )
    app.state.project = project
    made = own_pages.Pages(project)
    app.include_router(api.router(project))
    for part in (admin.router(project), own_pages.router(made), boards.router(made)):
        app.include_router(part)
    files = {f"/static/{file.name}": file.name for file in sorted(STATIC.iterdir())}
    app.include_router(pages.router(STATIC, files))
    for kind in (AttarError, ApiError, HTTPException):
        app.add_exception_handler(kind, _in_html(made, app.exception_handlers[kind]))
    return app


def _reachable(project: Project) -> bool:
    try:
        with project.read() as session:
            state_of(session)
        return True
    except AttarError:
        return False


def _in_html(made: own_pages.Pages, otherwise: Any) -> Any:
    """Errors of pages are pages; those of the interface stay error objects."""

    def handle(request: Request, error: Exception) -> Response:
        plain: Response = otherwise(request, error)
        wanted = "text/html" in request.headers.get("accept", "")
        if not wanted or request.url.path.startswith(("/api/", "/static/")):
            return plain
        if isinstance(error, Unauthenticated):
            return own_pages.to_login(request)
        status = plain.status_code
        return made.error(request, status=status, message=_sentence(plain))

    return handle


def _sentence(response: Response) -> str:
    """What an error object says."""
    return json.loads(bytes(response.body))["error"]["message"]
