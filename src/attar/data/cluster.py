"""Work on the machines of a cluster of Ray's."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from attar import errors
from attar.errors import AttarError, MissingExtraError


def on_ray(work: Callable[[int], None], *, count: int, workers: int) -> Iterator[None]:
    """Do numbered pieces of work, one task each.

    The cluster is the one that `RAY_ADDRESS` names, or this machine.

    Args:
        work: does the piece of a number; it is sent to the machines, with what it refers to.
        count: pieces.
        workers: that are done at a time.

    Yields:
        As often as a piece is done.

    Raises:
        MissingExtraError: Ray Data is not installed.
        AttarError: as `work` does.
        OSError: as `work` does.
    """
    try:
        data: Any = import_module("ray.data")
    except ModuleNotFoundError:
        raise MissingExtraError(
            "the engine ray needs Ray Data, which is not installed; run pip install '.[ray]' in "
            "the checkout of Attar, or leave the engine out"
        ) from None
    if not count:
        return

    def task(row: dict[str, int]) -> dict[str, Any]:
        try:
            work(row["piece"])
        except (AttarError, OSError) as error:  # Ray would wrap it, and end all other tasks
            return {"kind": type(error).__name__, "said": str(error), "number": _number(error)}
        return {"kind": "", "said": "", "number": 0}

    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    rows = data.from_items([{"piece": i} for i in range(count)], override_num_blocks=count)
    failed: dict[str, Any] | None = None
    for row in rows.map(task, compute=data.TaskPoolStrategy(size=workers)).iter_rows():
        failed = failed or (row if row["kind"] else None)
        if not row["kind"]:
            yield
    if failed is not None:
        kind = getattr(errors, failed["kind"], None)
        raise OSError(failed["number"], failed["said"]) if kind is None else kind(failed["said"])


def _number(error: BaseException) -> int:
    return getattr(error, "errno", None) or 0
