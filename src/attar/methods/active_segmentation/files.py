"""A segmenter as a folder: config.json, model.safetensors, dictionary.txt where it has words of its
own, and README.md. Nothing in it is run."""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from attar.artefacts import disk_is_full, expanded, make_folder, replacing, write_text
from attar.errors import AttarError, CompatibilityError, ConfigError, DataError, ResourceError
from attar.foreign import read_json
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.dictionary import (
    PYTHAINLP,
    Dictionary,
    load_dictionary,
)

MODEL_TYPE = "attar-segmenter"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
DICTIONARY_FILE = "dictionary.txt"
CARD_FILE = "README.md"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """What a folder holds."""

    folder: Path
    config: SegmenterConfig
    dictionary: Dictionary | None
    tensors: Mapping[str, NDArray[Any]]


def write(
    folder: str | Path,
    *,
    config: SegmenterConfig,
    dictionary: Dictionary | None,
    tensors: Mapping[str, NDArray[Any]],
) -> None:
    """Write a folder; config.json comes last, so that one without it is not complete.

    Raises:
        ConfigError: it cannot be made or written to.
        ResourceError: the disk is full.
    """
    target = expanded(folder)
    make_folder(target)
    own = dictionary is not None and dictionary.name != PYTHAINLP
    facts: dict[str, Any] = {"model_type": MODEL_TYPE, "attar_version": version("attar")}
    facts |= asdict(config)
    facts["dictionary"] = DICTIONARY_FILE if own else config.dictionary
    facts["dictionary_sha256"] = dictionary.digest if dictionary else None
    try:
        with replacing(target / WEIGHTS_FILE) as unfinished:
            save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, unfinished)
        if own and dictionary is not None:
            write_text(target / DICTIONARY_FILE, "\n".join(dictionary.words) + "\n")
        write_text(target / CARD_FILE, _card(config))
        write_text(target / CONFIG_FILE, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    except (OSError, SafetensorError) as error:
        if disk_is_full(error):
            raise ResourceError(
                f"cannot save the segmenter to {str(folder)!r}, as the disk is full; make room and "
                "save it again"
            ) from error
        raise ConfigError(
            f"cannot write to {str(folder)!r} ({getattr(error, 'strerror', None) or error}); "
            "choose another folder"
        ) from error


def read(folder: str | Path) -> Stored:
    """What a folder, or a repository of the Hub, holds.

    Raises:
        DataError: there is none, or its files are damaged.
        CompatibilityError: it holds another model.
        MissingExtraError: the packages of its dictionary are not installed.
    """
    place = _located(folder)
    facts = _facts(place)
    config = _config(place, facts)
    dictionary = _dictionary(place, config=config, digest=facts.get("dictionary_sha256"))
    if config.dictionary == DICTIONARY_FILE:
        config = replace(config, dictionary=str(place / DICTIONARY_FILE))
    weights = place / WEIGHTS_FILE
    try:
        tensors = load_file(weights)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise damaged(place, f"{WEIGHTS_FILE} cannot be read: {error}") from None
    return Stored(place, config, dictionary, tensors)


def damaged(folder: Path, why: str) -> DataError:
    """What to raise for files that contradict themselves."""
    return DataError(
        f"the segmenter in {str(folder)!r} is damaged ({why}); save or download it again"
    )


def _located(folder: str | Path) -> Path:
    """The folder here, or a download of it."""
    place = expanded(folder)
    if place.is_dir():
        return place
    from attar.checkpoint.sources import read_from  # imports torch and transformers

    def download() -> Path:
        from huggingface_hub import snapshot_download

        names = [CONFIG_FILE, WEIGHTS_FILE, DICTIONARY_FILE]
        return Path(snapshot_download(str(folder), allow_patterns=names))

    return read_from("segmenter", folder, download)


def _facts(place: Path) -> dict[str, Any]:
    if not (place / CONFIG_FILE).is_file():
        raise DataError(
            f"the folder {str(place)!r} has no {CONFIG_FILE}, so it is not a segmenter; give a "
            "folder that a segmenter was saved to"
        )
    facts = read_json(place / CONFIG_FILE, "the configuration")
    kind = facts.get("model_type", "no model_type") if isinstance(facts, dict) else "no mapping"
    if kind != MODEL_TYPE:
        raise CompatibilityError(
            f"expected a segmenter of Attar in {str(place)!r}, found {kind!r} in {CONFIG_FILE}; "
            "give a folder that a segmenter was saved to"
        )
    return facts


def _config(place: Path, facts: Mapping[str, Any]) -> SegmenterConfig:
    names = {field.name for field in fields(SegmenterConfig)}
    try:
        config = SegmenterConfig(**{n: v for n, v in facts.items() if n in names})
    except AttarError as error:
        raise damaged(place, f"{CONFIG_FILE}: {error}") from None
    if config.dictionary not in (None, PYTHAINLP, DICTIONARY_FILE):
        raise damaged(place, f"{CONFIG_FILE} names the dictionary {config.dictionary!r}")
    return config


def _dictionary(place: Path, *, config: SegmenterConfig, digest: Any) -> Dictionary | None:
    """The words that it was trained with, or those that took their place."""
    if config.dictionary != DICTIONARY_FILE:
        found = load_dictionary(config.dictionary)
        if found is not None and found.digest != digest:
            logger.warning(
                "the segmenter in %r was trained with another version of pythainlp's word list; "
                "its cuts may differ a little: install the version that it was trained with, or "
                "train it again",
                str(place),
            )
        return found
    found = load_dictionary(str(place / DICTIONARY_FILE))
    if found is not None and found.digest != digest:
        raise damaged(place, f"{DICTIONARY_FILE} is not the one that it was trained with")
    return found


def push(save: Callable[[Path], None], name: str, *, private: bool, token: str | None) -> str:
    """Upload a folder to the Hub; returns the address."""
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as made:
        save(Path(made))
        hub = HfApi(token=token)
        hub.create_repo(name, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=name, folder_path=made))


def _card(config: SegmenterConfig) -> str:
    words = {None: "no dictionary", PYTHAINLP: "the word list of pythainlp"}
    return f"""---
language: th
library_name: attar
tags:
- word-segmentation
---

# Thai word segmentation

A segmenter made by Attar: {config.kind}, with {words.get(config.dictionary, "words of its own")}.

```python
from attar import Segmenter

segmenter = Segmenter.from_pretrained("PATH_OR_NAME")
segmenter.tokenize("ข้อความภาษาไทย")
```
"""
