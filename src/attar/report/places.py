"""How a record names files: as seen from its own folder, and never where they lie on a machine."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def seen_from(folder: Path, value: Any) -> Any:
    """A value, such as the settings of a run, with shorter names for the absolute paths in it.

    What lies beside the folder or below is named from it (`../parent`), and of what lies elsewhere
    the last part of the name is left.

    Args:
        folder: of the record.
        value: anything that a record holds.
    """
    if isinstance(value, Mapping):
        return {key: seen_from(folder, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(seen_from(folder, item) for item in value)
    text = os.fspath(value) if isinstance(value, str | Path) else ""
    if not (os.path.isabs(text) and os.path.lexists(text)):  # noqa: PTH117 - any text
        return value
    path, around = Path(os.path.normpath(text)), folder.absolute().parent
    if path != around and path.is_relative_to(around):
        return os.path.relpath(path, folder.absolute())
    return path.name or value


def found_from(folder: str | Path, name: str) -> str:
    """The path behind a name in a record: what lies there as seen from the record's folder; else
    the name as it is, which may be one on the Hub, or as seen from here.
    """
    path = os.path.normpath(Path(folder) / name)
    return path if os.path.exists(path) else name  # noqa: PTH110 - of any length
