"""The annotation service for tests: over a socket, with people and texts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from attar.web import pages
from attar.web.running import Server

STATIC = Path(str(files("attar"))) / "annotate" / "static"


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An application behind a socket, in a thread of this process; gives its URL."""
    ready = threading.Event()
    server = Server(app, host="127.0.0.1", port=0, grace=1, ready=lambda url: ready.set())
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    assert ready.wait(20)
    yield server.url
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def files_only() -> FastAPI:
    """The scripts without a service behind them."""
    app = FastAPI()
    names = {f"/static/{file.name}": file.name for file in STATIC.iterdir()}
    app.include_router(pages.router(STATIC, names))
    return app
