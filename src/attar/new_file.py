"""A file that appears when it is complete, or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from attar.errors import ConfigError, DataError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def new_file(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file beside its final place, where it goes when the block ends well.

    Raises:
        ConfigError: something is there already.
        DataError: it cannot be written; nothing is left behind.
    """
    final = Path(path)
    if not final.name or os.path.lexists(final):
        raise ConfigError(f"{str(final)!r} is there already; choose another file or delete it")
    beside = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        with beside.open("xb") as out:
            yield out
        beside.replace(final)
    except OSError as error:
        raise DataError(
            f"cannot write {str(final)!r}: {error.strerror}; nothing was left behind, "
            f"{'make room' if disk_is_full(error) else 'choose another place'} and do it again"
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def disk_is_full(error: BaseException) -> bool:
    """Whether a write failed for want of room, whichever library wrote."""
    return getattr(error, "errno", None) in _FULL or any(
        f"os error {code}" in str(error) for code in _FULL
    )
