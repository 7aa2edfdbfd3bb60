"""The word lists of a project, which its folder keeps, so that they go wherever it goes.

A list never changes: another one gets another name, so that a training that is under way, and the
log, still have theirs.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attar.artefacts import write_text
from attar.errors import DataError
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.dictionary import PYTHAINLP, Dictionary, load_dictionary
from attar.methods.active_segmentation.study import Study

#: in the folder of a project or of an export
WORD_LISTS = "dictionaries"
_DIGITS = 16


def keep_word_list(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a segmenter whose word list is one that the folder keeps; a file from elsewhere is
    copied.

    Args:
        folder: of the project.
        options: of its segmenter, by name.

    Raises:
        DataError: the file cannot be read, or holds no word.
        MissingExtraError: pyahocorasick is not installed.
    """
    given = SegmenterConfig(**options).dictionary
    if given in (None, PYTHAINLP) or _is_kept(folder, given):
        return dict(options)
    words = load_dictionary(given)
    assert words is not None
    name = f"{WORD_LISTS}/{_name(words)}.txt"
    if not (folder / name).is_file():
        (folder / WORD_LISTS).mkdir(exist_ok=True)
        write_text(folder / name, "\n".join(words.words) + "\n")
    return {**options, "dictionary": name}


def with_word_list(study: Study, folder: Path) -> Study:
    """A study that finds its word list in a folder, as training needs it."""
    name = study.config.segmenter.dictionary
    if name in (None, PYTHAINLP):
        return study
    segmenter = replace(study.config.segmenter, dictionary=str(folder / name))
    return replace(study, config=replace(study.config, segmenter=segmenter))


def check_word_list(folder: Path, name: str | None) -> None:
    """Whether the folder has the list that settings name, as it was kept.

    Raises:
        DataError: it is missing, or has changed.
    """
    if name in (None, PYTHAINLP):
        return
    words = load_dictionary(str(folder / name))
    if name.startswith(f"{WORD_LISTS}/") and words and Path(name).stem != _name(words):
        raise DataError(f"the word list {name!r} is not what it was; restore it from a backup")


def _is_kept(folder: Path, name: str) -> bool:
    return name.startswith(f"{WORD_LISTS}/") and (folder / name).is_file()


def _name(words: Dictionary) -> str:
    return words.digest[:_DIGITS]
