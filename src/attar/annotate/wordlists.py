"""The word lists of a project, which its folder keeps, so that they go wherever it goes.

A list never changes: another one gets another name, so that a training that is under way still has
its own, and the log names it.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attar.artefacts import write_text
from attar.errors import DataError
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.dictionary import PYTHAINLP, load_dictionary
from attar.methods.active_segmentation.study import Study

#: in the folder of a project or of an export
WORD_LISTS = "dictionaries"
_DIGITS = 16
_AGAIN = "give the words again with attar annotate event add --change dictionary=FILE"
_KEPT = re.compile(rf"{WORD_LISTS}/[0-9a-f]{{{_DIGITS}}}\.txt")


def keep_word_list(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a segmenter whose word list is one that the folder keeps; a file from elsewhere is
    copied.

    Args:
        folder: of the project.
        options: of its segmenter, by name.

    Raises:
        ConfigError: an option cannot be used.
        DataError: the file cannot be read, or holds no word.
        MissingExtraError: pyahocorasick is not installed.
    """
    given = SegmenterConfig(**options).dictionary
    if given is None or given == PYTHAINLP or _kept(folder, given):
        return dict(options)
    words = load_dictionary(given)
    assert words is not None
    name = f"{WORD_LISTS}/{words.digest[:_DIGITS]}.txt"
    (folder / WORD_LISTS).mkdir(exist_ok=True)
    write_text(folder / name, "\n".join(words.words) + "\n")  # one that was damaged is mended
    return {**options, "dictionary": name}


def with_word_list(study: Study, folder: Path) -> Study:
    """A study that finds its word list in a folder, as training needs it.

    Raises:
        DataError: the list is missing, or has changed.
    """
    name = study.config.segmenter.dictionary
    if name is None or not _KEPT.fullmatch(name):
        return study
    _check(folder, name)
    segmenter = replace(study.config.segmenter, dictionary=str(folder / name))
    return replace(study, config=replace(study.config, segmenter=segmenter))


def check_word_list(folder: Path, name: str | None) -> None:
    """Whether the folder has the list that settings name, as it was kept.

    Raises:
        DataError: it is missing, or has changed.
    """
    if name is None or name == PYTHAINLP:
        return
    if not _KEPT.fullmatch(name):
        raise DataError(
            f"the word list {name!r} is outside the project, so neither a copy nor a backup has "
            f"it; {_AGAIN}"
        )
    _check(folder, name)


def _check(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise DataError(f"the word list {name!r} is missing; restore it from a backup, or {_AGAIN}")
    words = load_dictionary(str(folder / name))
    if words is None or words.digest[:_DIGITS] != Path(name).stem:
        raise DataError(
            f"the word list {name!r} is not what it was; restore it from a backup, or {_AGAIN}"
        )


def _kept(folder: Path, name: str) -> bool:
    return _KEPT.fullmatch(name) is not None and (folder / name).is_file()
