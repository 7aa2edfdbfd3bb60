"""The record of a verb that works on a project or a file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attar.report.record import Run, now


@contextmanager
def recorded(verb: str, **settings: Any) -> Iterator[Run]:
    """Time the block and give its record, whose `details` the block fills in.

    Args:
        verb: as it is typed after `attar annotate`.
        settings: what the verb was given; paths become text.
    """
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()}
    began = time.perf_counter()
    run = Run(command=f"annotate {verb}", settings=plain)
    yield run
    run.seconds = time.perf_counter() - began
    run.date = now()
