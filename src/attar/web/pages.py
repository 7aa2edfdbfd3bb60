"""Pages for people: files of the package, under a policy that lets them load nothing else."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Said here, as what Python knows of them differs from machine to machine."""


def policy(*, forms: bool = False) -> dict[str, str]:
    """Headers under which a page loads nothing from elsewhere and is shown in no other page.

    Args:
        forms: it may send forms to its own server.
    """
    action = "'self'" if forms else "'none'"
    return {
        "Cache-Control": "no-cache",  # a new version is seen at once
        "Content-Security-Policy": (
            "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; "
            f"style-src 'self'; base-uri 'none'; form-action {action}; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def router(folder: Path, files: Mapping[str, str]) -> APIRouter:
    """Routes for files.

    Args:
        folder: where they are.
        files: path of the URL -> name of the file.
    """
    routes = APIRouter()
    for path, name in files.items():
        routes.add_api_route(
            path,
            _sends(folder / name),
            methods=["GET", "HEAD"],
            include_in_schema=False,
            response_model=None,
        )
    return routes


def _sends(file: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def page() -> FileResponse:
        return FileResponse(file, media_type=_TYPES[file.suffix], headers=policy())

    return page
