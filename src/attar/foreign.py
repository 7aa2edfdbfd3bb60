"""JSON that others wrote, which may be anything."""

import json
from pathlib import Path
from typing import Any

from attar.errors import DataError

#: bytes of a JSON file or line: Python's objects may take twenty times as much memory
JSON_BYTES = 2**25


def read_json(file: Path, what: str) -> Any:
    """The content of a JSON file in any encoding of Unicode.

    Args:
        file: is read whole, up to 32 MB.
        what: what it should hold, for the message.

    Raises:
        DataError: it cannot be read, is too long or nested too deeply, or is no JSON.
    """
    if file.is_fifo():
        raise DataError(f"{what} {file} cannot be read: it is a pipe; give a file")
    try:
        with file.open("rb") as raw:
            text = raw.read(JSON_BYTES + 1)
    except OSError as error:
        raise DataError(f"{what} {file} cannot be read ({error.strerror})") from error
    return parse_json(text, what, origin=str(file))


def parse_json(text: str | bytes, what: str, *, origin: str = "") -> Any:
    """What a JSON text stands for.

    Args:
        text: str, or bytes in any encoding of Unicode.
        what: what it should hold, for the message.
        origin: the file that it came from, for the message; empty: none.

    Raises:
        DataError: it is too long or nested too deeply, or no JSON.
    """
    try:
        if len(text) > JSON_BYTES:
            raise ValueError(f"more than {JSON_BYTES:,} bytes")
        return json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:  # of Unicode and of huge numbers are the first
        name = f"{what} {origin}".rstrip()
        raise DataError(
            f"{name} cannot be read as JSON ({error}): it is damaged or breaks off; make it again"
        ) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the key {twice[:60]!r} comes twice")
    return values
