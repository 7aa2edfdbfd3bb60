"""Where a text ends: at a token, a length, or where a criterion of `generate` says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation.stopping_criteria import (
    EosTokenCriteria,
    MaxLengthCriteria,
    MaxTimeCriteria,
    StoppingCriteria,
)


@dataclass(frozen=True)
class Stops:
    """When a row is done.

    Attributes:
        tokens: end a text; they belong to it.
        length: tokens of a text with its prompt and padding, at most.
        device: where criteria are given the text.
        others: criteria that look at the text after every token, such as stop strings.
        times: criteria that look at the clock, once a block.
    """

    tokens: frozenset[int]
    length: int
    device: torch.device
    others: tuple[StoppingCriteria, ...] = ()
    times: tuple[StoppingCriteria, ...] = ()

    @classmethod
    def of(cls, criteria: Sequence[StoppingCriteria], *, device: torch.device) -> "Stops":
        """From the criteria that `generate` prepared."""
        tokens: set[int] = set()
        length = 2**31
        others, times = [], []
        for one in criteria:
            if type(one) is EosTokenCriteria:
                tokens |= {int(token) for token in one.eos_token_id.flatten().tolist()}
            elif type(one) is MaxLengthCriteria:
                length = min(length, one.max_length)
            elif isinstance(one, MaxTimeCriteria):
                times.append(one)
            else:
                others.append(one)
        return cls(frozenset(tokens), length, device, tuple(others), tuple(times))

    def first(self, text: Sequence[int], new: Sequence[int]) -> int | None:
        """How many of the new tokens belong to the text, if it ends among them; None if not.

        Args:
            text: the tokens before, with prompt and padding.
            new: those that come now.
        """
        for i, token in enumerate(new, 1):
            if token in self.tokens or len(text) + i >= self.length:
                return i
            if self.others and self._asks([*text, *new[:i]], self.others):
                return i
        return None

    def late(self, text: Sequence[int]) -> bool:
        """Whether the time is up."""
        return bool(self.times) and self._asks(text, self.times)

    def _asks(self, text: Sequence[int], criteria: Sequence[StoppingCriteria]) -> bool:
        ids: Any = torch.tensor([list(text)], device=self.device)
        return any(bool(torch.as_tensor(one(ids, None)).all()) for one in criteria)  # pyright: ignore[reportArgumentType]
