"""The words that a segmenter knows without having seen them in training."""

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.artefacts import expanded
from attar.errors import DataError, MissingExtraError

PYTHAINLP = "pythainlp"


def thai_package(name: str, what: str) -> Any:
    """A module of the extra `thai`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what} needs the package {error.name}; run pip install '.[thai]' in the checkout of "
            "Attar"
        ) from None


class Dictionary:
    """A set of words, which finds all of their occurrences in a text in one pass.

    Args:
        words: space around them, empty ones and repetitions are left out.
        name: `pythainlp`, or the path that they came from.

    Attributes:
        words: sorted.
        digest: SHA-256 of them.

    Raises:
        DataError: there is no word.
        MissingExtraError: pyahocorasick is not installed.
    """

    def __init__(self, words: Iterable[str], *, name: str) -> None:
        self.name = name
        self.words = tuple(sorted({word.strip() for word in words} - {""}))
        if not self.words:
            raise DataError(
                f"expected words in the dictionary {name!r}, one a line, found none; give another "
                "file, or none"
            )
        listed = "\n".join(self.words).encode("utf-8", "surrogatepass")
        self.digest = hashlib.sha256(listed).hexdigest()
        self._automaton = thai_package("ahocorasick", "a dictionary").Automaton()
        for word in self.words:
            self._automaton.add_word(word, len(word))
        self._automaton.make_automaton()

    def matches(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where a word ends (the offset of its last character), and its length, `(M,)` each."""
        found = np.fromiter(
            (number for match in self._automaton.iter(text) for number in match), np.int64
        )
        return found[::2], found[1::2]


def load_dictionary(name: str | None) -> Dictionary | None:
    """A dictionary by its name.

    Args:
        name: `pythainlp`, a text file with a word in each line, or None.

    Raises:
        DataError: the file cannot be read, or holds no word.
        MissingExtraError: pythainlp or pyahocorasick is not installed.
    """
    if name is None:
        return None
    return _of_pythainlp() if name == PYTHAINLP else Dictionary(_lines(name), name=name)


@cache
def _of_pythainlp() -> Dictionary:
    corpus = thai_package("pythainlp.corpus", "the dictionary 'pythainlp'")
    return Dictionary(corpus.thai_words(), name=PYTHAINLP)


def _lines(name: str) -> list[str]:
    try:
        return expanded(name).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected a dictionary in UTF-8, one word a line, in {name!r}, found other bytes "
            f"({error.reason}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot read the dictionary {name!r} ({error.strerror}); give 'pythainlp', a text "
            "file with a word in each line, or none"
        ) from None
