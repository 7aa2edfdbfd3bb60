"""A folder of numbered safetensors files with a manifest that says what they were made from.

Each file appears when it is complete, so that a killed build goes on where it stopped.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from attar.artefacts import replacing, write_text
from attar.errors import CompatibilityError, DataError
from attar.foreign import read_json

FORMAT = 1
MANIFEST = "manifest.json"


def open_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Make the folder with this manifest, or check that it is the one there.

    Raises:
        CompatibilityError: what lies there was built from something else.
    """
    path.mkdir(parents=True, exist_ok=True)
    manifest = {"format": FORMAT} | manifest
    if (path / MANIFEST).is_file():
        compare(path, read_manifest(path), expected=manifest)
        return
    write_text(path / MANIFEST, json.dumps(manifest, indent=2))


def read_manifest(path: Path) -> dict[str, Any]:
    """What the files in `path` were made from.

    Raises:
        DataError: there is no such folder, or its manifest is damaged or of another format.
    """
    try:
        manifest = read_json(path / MANIFEST, "the manifest")
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}")
    except (DataError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a teacher cache of format {FORMAT} ({error}); build it again"
        ) from error
    return manifest


def compare(path: Path, stored: Mapping[str, Any], *, expected: Mapping[str, Any]) -> None:
    """Refuse a cache that was built from something else.

    Raises:
        CompatibilityError: it names what differs.
    """
    differ = [name for name, value in expected.items() if stored.get(name) != value]
    if differ:
        raise CompatibilityError(
            f"the teacher cache {path} was built with another {' and another '.join(differ)}; "
            "delete it or give another folder"
        )


def file(path: Path, number: int) -> Path:
    """Where shard `number` lies."""
    return path / f"{number:05d}.safetensors"


def files(path: Path, count: int) -> list[Path]:
    """The `count` shards of a finished cache.

    Raises:
        DataError: some are missing.
    """
    every = [file(path, number) for number in range(count)]
    if missing := sum(not one.is_file() for one in every):
        raise DataError(
            f"the teacher cache {path} lacks {missing} of its {count} shards; build it again with "
            "resume to add them"
        )
    return every


def write(path: Path, number: int, tensors: dict[str, Tensor]) -> None:
    """Write shard `number`, whole or not at all."""
    with replacing(file(path, number)) as unfinished:
        save_file(tensors, unfinished)
