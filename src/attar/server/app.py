"""The application: what is served under which path."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry

from attar.server import chat, completions, infill
from attar.server.service import Service
from attar.web import pages
from attar.web.app import WebConfig, build
from attar.web.errors import ApiError

_PARTS = ("icon.svg", "page.css", "page.js", "panel.js", "server.js")
PLAYGROUND = {"/": "page.html"} | {f"/playground/{name}": name for name in _PARTS}
"""Path -> file of the page on which people try the model. It holds no secret and needs no key."""


def application(service: Service, *, web: WebConfig, registry: CollectorRegistry) -> FastAPI:
    """The routes over a model; when the application ends, so does its engine.

    Args:
        service: the model.
        web: who may ask, and how much.
        registry: of the metrics.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        service.engine.stop(grace=0)

    app = build(
        "Attar",
        config=web,
        registry=registry,
        healthy=lambda: service.engine.healthy,
        lifespan=lifespan,
    )

    @app.get("/v1/models", summary="The model that is served")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [described(service)]}

    @app.get("/v1/models/{name:path}", summary="The same by its name", response_model=None)
    async def model(name: str) -> JSONResponse:
        if name != service.name:
            message = f"this server has the model {service.name!r}; found {name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return JSONResponse(described(service))

    for part in (completions, chat, infill):
        app.include_router(part.router(service))
    app.include_router(pages.router(Path(__file__).parent / "static", PLAYGROUND))
    return app


def described(service: Service) -> dict[str, Any]:
    """The model, and what it can do here."""
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "attar",
        "context": service.context,
        "modes": list(service.modes),
        "mode": service.mode,
        "chat": bool(service.tokenizer.chat_template),
        "infill": service.fim is not None,
    }
