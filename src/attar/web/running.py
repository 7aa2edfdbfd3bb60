"""How a server starts, and how it stops: what runs may finish."""

import errno
import math
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from attar.errors import ConfigError

_LAST = 5
"""Seconds for the last bytes, after what ran was asked to end."""


class Server(uvicorn.Server):
    """Serves an application until it is asked to stop.

    A first Ctrl-C or SIGTERM closes the door and lets what runs finish; a second Ctrl-C ends it.

    Args:
        app: the application.
        host: the address to listen at.
        port: 0 takes any that is free.
        grace: seconds that running requests may take to finish.
        ready: is called with the URL once it listens.
        stopping: is called when it is asked to stop.

    Raises:
        ConfigError: the address is taken or not this machine's.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str,
        port: int,
        grace: float,
        ready: Callable[[str], object] = lambda url: None,
        stopping: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                timeout_graceful_shutdown=math.ceil(grace) + _LAST,
                server_header=False,
            )
        )
        self._ready, self._stopping = ready, stopping
        self._socket = _listening(host, port)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"

    def serve_until_stopped(self) -> None:
        """Run in this thread; returns when it was asked to stop and has stopped."""
        self.run(sockets=[self._socket])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new requests, and wait for those that run."""
        self._stopping()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, which is no error: nothing is raised after it."""
        self.force_exit |= self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    address: Any = (host, port)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        advice = (
            "give an address of this machine, as with --host 127.0.0.1, or 0.0.0.0 for all"
            if elsewhere
            else "give another port, as with --port 8001, or 0 for any that is free"
        )
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; {advice}"
        ) from error
    return listener
