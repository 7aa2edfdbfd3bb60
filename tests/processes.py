"""A test's function in two processes that train together, as under `torchrun`."""

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_PROGRAM = """
import gc, os, signal, sys
from importlib import import_module
from pathlib import Path

module, name, port, *arguments = sys.argv[1:]
work = getattr(import_module(module), name)
gc.freeze()
child = os.fork()
rank = "0" if child else "1"
os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
try:
    work(*map(Path, arguments))
except BaseException:
    if child:  # which would wait for this process
        os.kill(child, signal.SIGKILL)
    raise
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def in_two_processes(work: Callable[..., None], *arguments: Path) -> None:
    """Call a function of a test's module in both of two processes, which form one group.

    They are forks of one that has imported the module: the imports take longer than what is tested.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = Path(inspect.getfile(work))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, file.stem, work.__name__, str(port), *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(file.parent), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
