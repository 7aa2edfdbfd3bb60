"""The verb `annotate serve`, and the worker beside it."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from attar.annotate.app import application
from attar.annotate.beside import start_worker
from attar.annotate.config import AnnotateServeConfig
from attar.annotate.opening import open_project
from attar.annotate.records import recorded
from attar.annotate.store import Project, state_of
from attar.errors import ConfigError
from attar.report.record import Run
from attar.web.app import WebConfig
from attar.web.running import Server

logger = logging.getLogger(__name__)

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
#: addresses of all networks of a machine: it may be asked under any name
_ANY = ("0.0.0.0", "::")
#: seconds between two looks at the worker
_AGAIN = 5.0


def serve(project: str | Path, *, config: AnnotateServeConfig = AnnotateServeConfig()) -> Run:
    """Serve a project to annotators, reviewers and admins, until Ctrl-C or SIGTERM.

    Args:
        project: its folder.
        config: how it is served.

    Returns:
        The record: `details` has the number of annotations when it stopped.

    Raises:
        ConfigError: there is no project, or the address is taken.
        MissingExtraError: the extra `annotate` is not installed.
    """
    with (
        recorded("serve", project=project, **asdict(config)) as run,
        open_project(project) as opened,
    ):
        beside = opened.sqlite if config.worker is None else config.worker
        app = application(
            opened,
            web=WebConfig(
                most_bytes=config.max_body,
                hosts=_hosts(config),
                otherwise="--public-url",
                cookies=True,
            ),
            registry=CollectorRegistry(),
            beside=lambda: _worker(opened) if beside else nullcontext(),
        )
        server = Server(
            app,
            host=config.host,
            port=config.port,
            grace=config.grace,
            ready=lambda url: logger.info(
                "%s is served at %s; Ctrl-C stops it", project, config.public_url or url
            ),
        )
        server.serve_until_stopped()
        with opened.read() as session:
            run.details = {"annotations": state_of(session).sequence}
    return run


@contextmanager
def _worker(project: Project) -> Iterator[None]:
    """A worker in a process of its own; one that was killed is started again."""
    stopped = threading.Event()
    running = [start_worker(project)]

    def keep() -> None:
        while not stopped.wait(_AGAIN):
            if running[-1].poll() not in (None, ConfigError.exit_code):
                running.append(start_worker(project))

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        running[-1].terminate()  # the job at hand begins anew the next time
        running[-1].wait()


def _hosts(config: AnnotateServeConfig) -> set[str]:
    if config.public_url is not None:
        return {*_LOCAL, config.host, urlsplit(config.public_url).hostname or ""}
    return set() if config.host in _ANY else {*_LOCAL, config.host}
