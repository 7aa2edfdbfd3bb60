"""What a sentence-transformers folder holds besides its encoder: pooling and settings."""

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from attar.foreign import read_json

MODULES_FILE = "modules.json"
_SETTINGS = ("config_sentence_transformers.json", "sentence_*_config.json")


def keep_companions(parent: str | Path, folder: Path) -> list[str]:
    """Copy the files by which sentence-transformers makes one vector of a text from a parent to
    what was made of it, whose hidden states have the same width.

    Args:
        parent: folder or Hub name; empty for a model that was never stored.
        folder: that of the result.

    Returns:
        Names of what was copied; none if the parent is no sentence-transformers model.
    """
    if not str(parent):
        return []
    source = Path(parent)
    if not source.is_dir():
        source = _from_hub(str(parent))
    if not (source / MODULES_FILE).is_file():
        return []
    files = [MODULES_FILE, *(f.name for pattern in _SETTINGS for f in source.glob(pattern))]
    for name in files:
        shutil.copyfile(source / name, folder / name)
    parts = [name for name in _folders(source / MODULES_FILE) if (source / name).is_dir()]
    for name in parts:
        shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
    return [*files, *parts]


def _folders(file: Path) -> Iterator[str]:
    """The folders of modules that a `modules.json` names; the encoder's own is the one above."""
    modules = read_json(file, "the list of modules")
    for module in modules if isinstance(modules, list) else ():
        path = PurePosixPath(str(module.get("path", "")) if isinstance(module, dict) else "")
        if path.parts and not path.is_absolute() and ".." not in path.parts:
            yield str(path)


def _from_hub(name: str) -> Path:
    """A snapshot of these files alone; of what is not there, an empty one."""
    try:
        first = Path(snapshot_download(name, allow_patterns=[MODULES_FILE]))
        if not (first / MODULES_FILE).is_file():
            return first
        folders = [f"{part}/*" for part in _folders(first / MODULES_FILE)]
        return Path(snapshot_download(name, allow_patterns=[MODULES_FILE, *_SETTINGS, *folders]))
    except (OSError, HfHubHTTPError, HFValidationError):  # offline, or not there
        return Path(name)
