"""Drafts while somebody types: what was read of the text stays read."""

from typing import Self

from attar.errors import require
from attar.methods.superposed.completions import Completions
from attar.methods.superposed.prompts import Prompt
from attar.methods.superposed.writer import DraftWriter


class DraftStream:
    """A text that grows, and its drafts. The cache keeps the tokens of the text that were read as
    they are; mixtures, and what was deleted, leave it.

    Args:
        writer: of the drafts.
        prompt: the text so far.
        suffix: text behind the cursor.
    """

    def __init__(self, writer: DraftWriter, prompt: str, *, suffix: str | None = None) -> None:
        self.writer, self.suffix = writer, suffix
        self.text = prompt
        self._prompt = writer.prompt(prompt, suffix=suffix)
        self._reader = writer.reader(1)
        self._last: Completions | None = None

    def drafts(self) -> Completions:
        """The drafts of the text, which stay the same until it changes."""
        if self._last is None:
            (self._last,) = self.writer.complete(self._reader, [self._prompt])
        return self._last

    def commit(self, index: int, *, n_tokens: int | None = None, chars: int | None = None) -> Self:
        """Accept a draft, or the beginning of it.

        Args:
            index: of `drafts()`.
            n_tokens: how many of its tokens; None: all, without a stop.
            chars: how many of its characters, in place of tokens.

        Raises:
            ConfigError: there is no such draft, or it is not as long.
        """
        drafts = self.drafts().drafts
        known = f"from 0 to {len(drafts) - 1}"
        require(0 <= index < len(drafts), "index", index, known)
        draft = drafts[index]
        if chars is not None:
            fine = n_tokens is None and 0 < chars <= len(draft.text)
            require(fine, "chars", chars, f"from 1 to {len(draft.text)}, without n_tokens")
            return self.type(draft.text[:chars])
        tokens = self.writer.without_end(draft.token_ids, self._prompt)
        count = len(tokens) if n_tokens is None else n_tokens
        require(0 <= count <= len(tokens), "n_tokens", count, f"from 0 to {len(tokens)}")
        taken = tokens[:count]
        text = self.writer.words.text_of(self._prompt, taken)
        if n_tokens is None and text != draft.text:  # a stop is in it
            return self.type(draft.text)
        if self.suffix is not None or not taken:
            return self.type(text)
        ids, context = (*self._prompt.ids, *taken), (*self._prompt.context, *taken)
        return self._set(self.text + text, Prompt(ids, context))

    def type(self, text: str) -> Self:
        """Go on with text of one's own."""
        whole = self.text + text
        return self._set(whole, self.writer.prompt(whole, suffix=self.suffix))

    def _set(self, text: str, prompt: Prompt) -> Self:
        self.text, self._prompt, self._last = text, prompt, None
        return self
