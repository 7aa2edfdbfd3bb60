"""A cache of results for type-ahead: what was suggested still holds if the user types into it."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

LOOK_BACK = 64
"""Characters that may have been typed since."""
LONGEST = 2**18
"""Characters of a prompt, at most: longer ones would fill the memory, and take long to compare."""
MOST = 2**24
"""Characters that are kept, at most, of prompts and suggestions together."""


@dataclass(frozen=True)
class Remembered:
    """The rest of a suggestion.

    Attributes:
        text: what is left of it.
        matched: characters that were typed since.
        finish_reason: of the suggestion.
    """

    text: str
    matched: int
    finish_reason: str


class Results:
    """The latest suggestions.

    Args:
        size: how many are kept; 0: none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[Hashable, str], tuple[str, str]] = OrderedDict()
        self._letters = 0
        self._lock = threading.Lock()

    def put(self, settings: Hashable, prompt: str, *, text: str, finish_reason: str) -> None:
        """Keep a suggestion.

        Args:
            settings: all that it depends on besides the prompt.
            prompt: what was before it.
            text: the suggestion.
            finish_reason: why it ended.
        """
        if len(prompt) > LONGEST:
            return
        with self._lock:
            if (settings, prompt) in self._kept:
                self._forget(settings, prompt)
            self._kept[settings, prompt] = text, finish_reason
            self._letters += len(prompt) + len(text)
            while len(self._kept) > self._size or self._letters > MOST:
                self._forget(*next(iter(self._kept)))

    def _forget(self, settings: Hashable, prompt: str) -> None:
        text, _ = self._kept.pop((settings, prompt))
        self._letters -= len(prompt) + len(text)

    def find(self, settings: Hashable, prompt: str) -> Remembered | None:
        """A suggestion for this prompt, or for what it was before the last characters, if these are
        those that were suggested."""
        if len(prompt) > LONGEST:
            return None
        with self._lock:
            for typed in range(min(LOOK_BACK, len(prompt)) + 1):
                before = prompt[: len(prompt) - typed]
                text, reason = self._kept.get((settings, before), ("", ""))
                if len(text) > typed and text.startswith(prompt[len(before) :]):
                    self._kept.move_to_end((settings, before))
                    return Remembered(text[typed:], typed, reason)
        return None
