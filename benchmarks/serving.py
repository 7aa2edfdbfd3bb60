"""`attar serve` in a process of its own."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def serving(model: Path, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """Its URL and its process, until it is no longer needed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "attar", "serve", str(model), "--port", str(port), *options]
    process, url = subprocess.Popen(command), f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/healthz").close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit("the server did not start")
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def metric(url: str, name: str) -> float:
    """A number that the server counts."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))
