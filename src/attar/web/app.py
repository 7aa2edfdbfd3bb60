"""The application that a server adds its routes to."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from attar.web import errors, metrics
from attar.web.guards import BodyLimit, Hosts, Keys, SameOrigin
from attar.web.metrics import RequestMetrics


@dataclass(frozen=True, kw_only=True)
class WebConfig:
    """Who may ask a server, and how much.

    Attributes:
        keys: API keys; none: no key is needed.
        open_paths: need no key.
        most_bytes: of a request.
        origins: web pages that may ask (CORS); none by default.
        hosts: names by which the server may be asked; none: any.
        otherwise: what it has to be started with to answer to others, for the message.
        cookies: its pages log in with cookies, so requests of other sites' pages are refused.
    """

    keys: Sequence[str] = ()
    open_paths: Collection[str] = ("/healthz",)
    most_bytes: int = 4 * 2**20
    origins: Sequence[str] = ()
    hosts: Collection[str] = ()
    otherwise: str = "another --host"
    cookies: bool = False


def build(
    title: str,
    *,
    config: WebConfig,
    registry: CollectorRegistry,
    healthy: Callable[[], bool],
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]] | None = None,
    metrics_guard: Callable[[Request], object] = lambda request: None,
) -> FastAPI:
    """An application with `/healthz` and `/metrics`, on which every error is an error object.

    Args:
        title: of its OpenAPI document.
        config: who may ask.
        registry: of its metrics.
        healthy: whether it works.
        lifespan: what begins and ends with it.
        metrics_guard: refuses, by an exception, who may not see the metrics.
    """
    from attar import __version__

    middleware = [
        Middleware(RequestMetrics, registry=registry),
        Middleware(Hosts, hosts=config.hosts, otherwise=config.otherwise),
        Middleware(Keys, keys=config.keys, open_paths=config.open_paths),
        Middleware(BodyLimit, most=config.most_bytes),
    ]
    if config.cookies:
        middleware.insert(2, Middleware(SameOrigin))
    if config.origins:  # before keys, as browsers ask without them first
        allowed = {"allow_origins": config.origins, "allow_methods": ["GET", "POST"]}
        middleware.insert(1, Middleware(CORSMiddleware, **allowed, allow_headers=["*"]))
    app = FastAPI(
        title=title,
        version=__version__,
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        middleware=middleware,
        responses={
            "4XX": {"model": errors.ErrorBody, "description": "The request is wrong."},
            "5XX": {"model": errors.ErrorBody, "description": "The server cannot answer."},
        },
    )
    errors.install(app)

    @app.get("/healthz", summary="Whether the server works")
    def healthz() -> JSONResponse:  # in a thread: it may have to ask a database
        fine = healthy()
        return JSONResponse({"status": "ok" if fine else "stopping"}, 200 if fine else 503)

    @app.get("/metrics", summary="Metrics in Prometheus' form", response_class=PlainTextResponse)
    def metrics_page(request: Request) -> Any:
        metrics_guard(request)
        return metrics.page(registry)

    return app
