"""The server and the worker of a project as processes, which are killed and started again."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


class Service:
    """Both over one project.

    Args:
        folder: of the project.
        beside: the server keeps its worker; otherwise that is a process of its own.
    """

    def __init__(self, folder: Path, *, beside: bool) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.log = folder.with_name(f"{folder.name}.log")
        self._folder, self._beside = folder, beside
        self._server: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start both, and wait until the server answers."""
        self._serve()
        self._work()

    def kill_server(self) -> float:
        """End the server by SIGKILL and start it again; seconds until it answers."""
        assert self._server is not None
        began = time.perf_counter()
        self._server.kill()
        self._server.wait()
        self._serve()
        return time.perf_counter() - began

    def kill_worker(self) -> bool:
        """End the worker by SIGKILL; whether there was one. The server starts the next, or this."""
        found = self._workers()
        for one in found:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        if self._worker is not None:
            self._worker.wait()
        self._work()
        return bool(found)

    def stop(self) -> None:
        """End both as an operator does; a worker that a killed server left, too."""
        for one in (self._server, self._worker):
            if one is not None and one.poll() is None:
                one.terminate()
        for one in (self._server, self._worker):
            if one is not None:
                one.wait(60)
        for left in self._workers():
            with suppress(psutil.NoSuchProcess):
                left.kill()

    def _serve(self) -> None:
        command = ["serve", str(self._folder), "--port", str(self._port)]
        self._server = self._start([*command, "--worker" if self._beside else "--no-worker"])
        for _ in range(600):
            if self._server.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=5).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise SystemExit(f"the server did not start: {self.log.read_text()[-2000:]}")

    def _work(self) -> None:
        if not self._beside:
            self._worker = self._start(["worker", str(self._folder)])

    def _start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "attar", "annotate", *arguments]
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _workers(self) -> list[psutil.Process]:
        """Processes that work on this project, also those whose server is gone."""
        found = []
        for one in psutil.process_iter(["cmdline"]):
            words = one.info["cmdline"] or []
            if str(self._folder) in words and {"attar.annotate.beside", "worker"} & {*words}:
                found.append(one)
        return found


@contextmanager
def running(folder: Path, *, beside: bool) -> Iterator[Service]:
    """The service over a project, until it is no longer needed."""
    service = Service(folder, beside=beside)
    try:
        service.start()
        yield service
    finally:
        service.stop()
