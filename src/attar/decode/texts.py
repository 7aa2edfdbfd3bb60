"""A text that grows token by token: its letters, and where it ends."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from attar.decode.choosing import Chooser, Sampling

Reason = Literal["stop", "length"]

CONTEXT = 6
"""Tokens of the prompt that the first new ones are decoded with: some tokenizers drop the space
before the first word of a text."""
PATIENCE = 8
"""Tokens to wait for the rest of a letter."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A text to continue.

    Attributes:
        prompt: token ids, at least one.
        max_tokens: new ones, at most; 0 only reads the prompt into the cache.
        sampling: how tokens are chosen.
        stop: the text ends before any of these strings.
        logprobs: report the log-probability of each new token and of so many likeliest ones.
        prompt_logprobs: the same of the prompt's tokens.
        deadline: on the clock of `time.monotonic`; the text ends there, whatever it has.
        reuse: go on from what the cache holds of the prompt.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: bool = False
    deadline: float | None = None
    reuse: bool = True


@dataclass(frozen=True)
class TokenLogprob:
    """What the model said of a token: its own probabilities, before temperature and the like.

    Attributes:
        token: its id.
        logprob: of the token.
        top: the likeliest tokens with theirs.
        offset: characters of the text before it, without the prompt.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    offset: int = 0


@dataclass(frozen=True)
class Delta:
    """What was added to a text.

    Attributes:
        text: letters.
        tokens: how many.
        logprobs: of each token, where they were asked for.
        finish_reason: why the text ended; None: it goes on.
        late: it ended at its deadline.
        cached: tokens of the prompt that were not read again.
        prompt_logprobs: of the prompt's tokens but the first, with the first delta.
        score: of the whole text, where it is finished and was ranked among others.
    """

    text: str = ""
    tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: Reason | None = None
    late: bool = False
    cached: int = 0
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    score: float | None = None


class Letters:
    """Tokens of a text as letters, passed on when they are whole."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int]) -> None:
        self._tokenizer: Any = tokenizer
        self._ids = list(prompt[-CONTEXT:])
        self._start, self._read = 0, len(self._ids)

    def add(self, token: int) -> str:
        """What this token adds, together with those before it that were not whole."""
        self._ids.append(token)
        whole = self._whole()
        if whole.endswith("\ufffd") and len(self._ids) - self._read < PATIENCE:
            return ""
        self._start, self._read = self._read, len(self._ids)
        return whole

    def rest(self) -> str:
        """What is left at the end."""
        return self._whole() if self._read < len(self._ids) else ""

    def _whole(self) -> str:
        before = self._decoded(self._ids[self._start : self._read])
        whole = self._decoded(self._ids[self._start :])
        if whole.startswith(before):
            return whole[len(before) :]
        return self._decoded(self._ids[self._read :])

    def _decoded(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)


@dataclass
class _News:
    """What was added since it was last asked for."""

    text: str = ""
    tokens: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)


class Text:
    """A text that is being written.

    Args:
        request: what it continues, and how.
        tokenizer: of the model.
        ends: tokens that end a text.
    """

    def __init__(
        self,
        request: Request,
        tokenizer: PreTrainedTokenizerBase,
        *,
        ends: Collection[int] = (),
    ) -> None:
        self.request, self._ends = request, ends
        self.chooser = Chooser(request.sampling)
        self.tokens: list[int] = []
        self.text = ""
        self.finish_reason: Reason | None = None
        self.late = False
        self.cached = 0
        self.prompt_logprobs: tuple[TokenLogprob, ...] = ()
        self._letters = Letters(tokenizer, request.prompt)
        self._held = ""  # it may be the beginning of a stop string
        self._news = _News()

    @property
    def ids(self) -> list[int]:
        """With its prompt."""
        return [*self.request.prompt, *self.tokens]

    def add(self, token: int, logprob: TokenLogprob | None = None) -> None:
        """Write a token, unless the text has ended."""
        if self.finish_reason is not None:
            return
        self.tokens.append(token)
        self._news.tokens += 1
        if logprob is not None:
            self._news.logprobs.append(logprob)
        if token in self._ends:
            self._finish("stop")
            return
        self._say(self._letters.add(token))
        if self.finish_reason is None and len(self.tokens) >= self.request.max_tokens:
            self._finish("length")

    def end(self, *, late: bool = False) -> None:
        """End it where it is."""
        if self.finish_reason is None:
            self.late = late
            self._finish("length")

    def end_if_late(self) -> bool:
        """End it if its time is up; whether it was."""
        deadline = self.request.deadline
        if self.finish_reason is None and deadline is not None and time.monotonic() >= deadline:
            self.end(late=True)
            return True
        return False

    @property
    def offset(self) -> int:
        """Characters before the next token."""
        return len(self.text) + len(self._held)

    def delta(self) -> Delta:
        """What is new since the last call."""
        news, self._news = self._news, _News()
        prompt, self.prompt_logprobs = self.prompt_logprobs, ()
        return Delta(
            text=news.text,
            tokens=news.tokens,
            logprobs=tuple(news.logprobs),
            finish_reason=self.finish_reason,
            late=self.late,
            cached=self.cached,
            prompt_logprobs=prompt,
        )

    def _finish(self, reason: Reason) -> None:
        """End the text, with letters that were held back."""
        self._say(self._letters.rest())
        if self.finish_reason is None:
            self._write(self._held)
            self._held = ""
            self.finish_reason = reason

    def _say(self, piece: str) -> None:
        """Write letters, but for what may become a stop string, and end before one."""
        held = self._held + piece
        places = [held.find(stop) for stop in self.request.stop]
        if found := [place for place in places if place >= 0]:
            self._write(held[: min(found)])
            self._held, self.finish_reason = "", "stop"
            return
        keep = max((_begun(stop, held) for stop in self.request.stop), default=0)
        self._write(held[: len(held) - keep])
        self._held = held[len(held) - keep :]

    def _write(self, letters: str) -> None:
        self.text += letters
        self._news.text += letters


def _begun(stop: str, text: str) -> int:
    """How many of the last letters of a text begin the stop string."""
    most = min(len(stop) - 1, len(text))
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
