"""The worker as a process of its own, at low priority, which ends with the server that started it.

Training holds the interpreter and both cores; in the server's own process it would make everybody
wait.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from attar.annotate.jobs import work
from attar.annotate.opening import open_project
from attar.annotate.store import Project
from attar.errors import AttarError, ConfigError

#: how much the system puts other processes before this one, 0 to 19
NICENESS = 10
#: seconds between two looks at the parent
_EVERY = 1.0


def start_worker(project: Project) -> subprocess.Popen[bytes]:
    """A worker for a project, as a child of this process."""
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    password = project.engine.url.password
    if password is not None:  # an argument could be read by every user of the machine
        environment["PGPASSWORD"] = str(password)
    command = [sys.executable, "-m", "attar.annotate.beside", str(project.folder), str(os.getpid())]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)


def run_worker(project: Project, *, parent: int | None = None, once: bool = False) -> int:
    """Work at low priority until the parent is gone, or there is nothing left to do.

    Args:
        project: the project.
        parent: process that it works for; None: it goes on by itself.
        once: return when nothing is left to do.

    Returns:
        How many jobs were done.

    Raises:
        ConfigError: another worker is at work on the project.
    """
    _make_way()
    stop = threading.Event()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent, stop), daemon=True).start()
    while True:
        try:
            return work(project, once=once, stop=stop)
        except ConfigError:  # that of a server that was killed may still be at its last job
            if parent is None or stop.wait(_EVERY):
                raise


def _make_way() -> None:
    nice = os.nice(0) if hasattr(os, "nice") else NICENESS
    if nice < NICENESS:
        os.nice(NICENESS - nice)


def _watch(parent: int, stop: threading.Event) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY)
    stop.set()


def main(folder: str, parent: str) -> int:
    """What `start_worker` runs."""
    try:
        with open_project(Path(folder)) as project:
            run_worker(project, parent=int(parent))
    except AttarError as error:
        sys.stderr.write(f"worker: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
