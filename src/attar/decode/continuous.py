"""Continuous batching: texts join and leave a batch between two forward passes.

Orca (Yu et al., OSDI 2022) schedules iteration by iteration, as is done here; prompts are read in
chunks, so that a long one does not hold up the texts that are being written.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.decode.choosing import choose
from attar.decode.distributions import require_numbers
from attar.decode.slots import Slots, shared
from attar.decode.texts import Request, Text, TokenLogprob

CHUNK = 256
"""Tokens of prompts that are read in one pass."""
WORTH = 16
"""A text waits for another that is reading the same beginning, if that saves so many tokens."""


class Batch:
    """Texts that are written together, each as if it were alone.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        rows: of texts at a time.
        ends: tokens that end a text.
        chunk: tokens of prompts that are read in one pass.

    Raises:
        CompatibilityError: the model cannot be read with a static cache.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        rows: int,
        ends: Collection[int] = (),
        chunk: int = CHUNK,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._ends, self._chunk, self._rows = ends, chunk, rows
        self.reset()

    def reset(self) -> None:
        """Forget all texts and what the rows hold, which a pass that failed may have spoilt."""
        self._slots = Slots(self._model, self._rows)
        self._waiting: list[Text] = []
        self._reading: dict[Text, int] = {}  # row of each
        self._writing: dict[Text, int] = {}
        #: the texts of each pass of the last step
        self.passes: list[list[Text]] = []

    @property
    def busy(self) -> bool:
        """Whether any text is not finished."""
        return bool(self._waiting or self._reading or self._writing)

    @property
    def rows_used(self) -> int:
        """Texts that have a row."""
        return len(self._reading) + len(self._writing)

    @property
    def waiting(self) -> int:
        """Texts that have none yet."""
        return len(self._waiting)

    def add(self, request: Request) -> Text:
        """A text that begins as soon as a row is free."""
        text = Text(request, self._tokenizer, ends=self._ends)
        self._waiting.append(text)
        return text

    def cancel(self, text: Text) -> None:
        """Cancel a text, and free its row."""
        text.end()
        if text in self._waiting:
            self._waiting.remove(text)
        self._leave([text])

    def clear(self) -> list[Text]:
        """Cancel all texts; they end where they are."""
        left = [*self._waiting, *self._reading, *self._writing]
        for text in left:
            self.cancel(text)
        return left

    @torch.no_grad()
    def step(self) -> list[Text]:
        """Write a token of every text that has read its prompt, and read on in the prompts of
        others; the texts to which something was added."""
        self.passes = []
        late = [t for t in (*self._waiting, *self._reading, *self._writing) if t.end_if_late()]
        for text in late:
            self.cancel(text)
        self._admit()
        changed = [*late, *self._write(), *self._read()]
        self._leave([text for text in changed if text.finish_reason is not None])
        return changed

    def _admit(self) -> None:
        for text in list(self._waiting):
            if not self._slots.free:
                return
            prompt = text.request.prompt
            reuse = text.request.reuse and not text.request.prompt_logprobs
            if reuse and self._soon(prompt) >= self._slots.reusable(prompt) + WORTH:
                continue
            self._waiting.remove(text)
            row = self._slots.take(prompt, reuse=reuse)
            text.cached = len(self._slots.held[row])
            self._reading[text] = row

    def _soon(self, prompt: tuple[int, ...]) -> int:
        """How many tokens of a prompt others are reading just now."""
        return max(
            (shared(other.request.prompt, prompt[:-1]) for other in self._reading), default=0
        )

    def _write(self) -> list[Text]:
        texts = list(self._writing)
        if texts:
            self.passes.append(texts)
            logits = self._slots.score({self._writing[t]: t.tokens[-1:] for t in texts})
            self._choose(texts, logits[:, -1])
        return texts

    def _read(self) -> list[Text]:
        """Read one chunk of prompts; the texts that have got their first token."""
        parts: dict[Text, tuple[int, ...]] = {}
        for text, row in self._reading.items():
            first = len(self._slots.held[row])
            part = text.request.prompt[first : first + self._chunk]
            width = max(map(len, (*parts.values(), part)))
            if parts and width * (len(parts) + 1) > self._chunk:
                break
            parts[text] = part
        if not parts:
            return []
        self.passes.append(list(parts))
        told = any(text.request.prompt_logprobs for text in parts)
        last = max(map(len, parts.values())) if told else 1
        logits = self._slots.score(
            {self._reading[text]: part for text, part in parts.items()}, last=last
        )
        done, rows = [], []
        for i, (text, part) in enumerate(parts.items()):
            row = self._reading.pop(text)
            if text.request.prompt_logprobs:
                self._tell_prompt(text, logits[i, -len(part) :], end=len(self._slots.held[row]))
            if len(self._slots.held[row]) < len(text.request.prompt):
                self._reading[text] = row  # behind the others
            else:
                self._writing[text] = row
                done.append(text)
                rows.append(i)
        if done:
            self._choose(done, logits[rows, -1])
        return done

    def _tell_prompt(self, text: Text, logits: Tensor, *, end: int) -> None:
        """Log-probabilities of the prompt's tokens behind those that were read up to `end`."""
        first = end - len(logits) + 1
        following = text.request.prompt[first : end + 1]
        rows = logits[: len(following)].float().log_softmax(-1)
        top = text.request.logprobs or 0
        told = [_logprob(row, one, top) for row, one in zip(rows, following, strict=True)]
        text.prompt_logprobs += tuple(told)

    def _choose(self, texts: list[Text], logits: Tensor) -> None:
        """Add a token to each text."""
        require_numbers(logits, self._model)
        for text in texts:
            if not text.request.max_tokens:
                text.end()
        rows = [i for i, text in enumerate(texts) if text.request.max_tokens]
        if not rows:
            return
        tokens = choose(logits[rows], [texts[i].chooser for i in rows])
        for i, token in zip(rows, tokens, strict=True):
            top, told = texts[i].request.logprobs, None
            if top is not None:
                scores = logits[i].float().log_softmax(-1)
                told = _logprob(scores, token, top, offset=texts[i].offset)
            texts[i].add(token, told)

    def _leave(self, texts: list[Text]) -> None:
        for text in texts:
            for group in (self._reading, self._writing):
                if text in group:
                    self._slots.leave(group.pop(text))


def _logprob(scores: Tensor, token: int, top: int, *, offset: int = 0) -> TokenLogprob:
    """Of a token, from log-probabilities `(V,)`."""
    best = scores.topk(min(top, len(scores)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return TokenLogprob(token, float(scores[token]), tuple(pairs), offset)
