"""Other processes for tests, forked from one that has loaded the libraries once, and nothing of
attar: the first takes seconds, every further one next to nothing.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import TypeVar

from torch.multiprocessing import start_processes

T = TypeVar("T")
LIBRARIES = [
    "accelerate",
    "datasets",
    "numba",
    "optuna",
    "transformers.modeling_utils",
    "transformers.models.llama.modeling_llama",
]


@cache
def context() -> ForkServerContext:
    """Where the processes come from."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(LIBRARIES)
    return found


def start(function: Callable[..., object], *args: object) -> BaseProcess:
    """A process that runs a function of a module."""
    process = context().Process(target=function, args=args)
    process.start()
    return process


def elsewhere(function: Callable[..., T], *args: object) -> T:
    """What a function of a module returns in another process."""
    with ProcessPoolExecutor(1, mp_context=context()) as pool:
        return pool.submit(function, *args).result()


def in_two(function: Callable[..., object], *args: object) -> None:
    """Call a function of a module in two processes that train together, as under `torchrun`."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    context()
    start_processes(_joined, (port, function, args), nprocs=2, start_method="forkserver")


def _joined(
    rank: int, port: int, function: Callable[..., object], args: tuple[object, ...]
) -> None:
    launch = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}
    launch |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in launch.items()}
    function(*args)
