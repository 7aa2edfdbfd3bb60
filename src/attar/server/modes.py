"""Ways to write the texts of a request, which a client or the server chooses from.

A further way is a class with `name` and `works`, in a file of its own, that `serve` adds to the
server's modes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from transformers import PreTrainedTokenizerBase

from attar.decode.speculative import SpeculativeDecoder
from attar.decode.stopping import Stops
from attar.decode.texts import Request, Text
from attar.errors import ConfigError
from attar.server.engine import Work
from attar.server.jobs import News


class Mode(Protocol):
    """A way to write texts."""

    @property
    def name(self) -> str:
        """What a request asks for it by, and a response declares it by."""
        ...

    def works(self, request: Request, *, count: int, options: Mapping[str, Any]) -> Sequence[Work]:
        """What the engine has to do: works that write `count` texts in all. A job that finds fewer
        ends the others without text.

        Args:
            request: the text, and how it is continued.
            count: of texts.
            options: of the mode, from the request's `drafts`.

        Raises:
            ConfigError: it cannot be written this way.
        """
        ...

    def suits(self, request: Request) -> bool:
        """Whether a request that names no mode may be written this way, with the result that the
        OpenAI API promises."""
        ...


class Sampled:
    """Token by token, in the batch."""

    name = "sampled"

    def works(self, request: Request, *, count: int, options: Mapping[str, Any]) -> Sequence[Work]:
        """One text each; the second has the next seed."""
        require_no_options(self.name, options)
        return several(request, count)

    def suits(self, request: Request) -> bool:
        """Always."""
        return True


class Speculative:
    """A draft proposes several tokens, and the model verifies them in one pass: the same
    distribution, sooner for a client that is alone. Texts are written one after the other."""

    name = "speculative"

    def __init__(
        self,
        decoder: SpeculativeDecoder,
        tokenizer: PreTrainedTokenizerBase,
        *,
        ends: Sequence[int],
    ) -> None:
        self._decoder, self._tokenizer, self._ends = decoder, tokenizer, ends

    def works(self, request: Request, *, count: int, options: Mapping[str, Any]) -> Sequence[Work]:
        """One job for each text."""
        require_no_options(self.name, options)
        if (reason := obstacle(request)) is not None:
            raise ConfigError(f"drafts.mode speculative gives no {reason}; leave one of them out")
        return [
            Speculation(self._decoder, one, tokenizer=self._tokenizer, ends=self._ends)
            for one in several(request, count)
        ]

    def suits(self, request: Request) -> bool:
        """Not where it cannot, nor with a seed: draft lengths are chosen by measured time, so that
        a seed does not reproduce a text."""
        return obstacle(request) is None and request.sampling.seed is None


class Speculation:
    """One text by speculative decoding, a block a step."""

    count = 1

    def __init__(
        self,
        decoder: SpeculativeDecoder,
        request: Request,
        *,
        tokenizer: PreTrainedTokenizerBase,
        ends: Sequence[int],
    ) -> None:
        self.deadline = request.deadline
        self._decoder, self._ends = decoder, ends
        self._text = Text(request, tokenizer, ends=ends)
        self._run: Any = None
        self._blocks: Any = None

    @property
    def passes(self) -> int:
        """Those that verify; a draft's own are not counted."""
        return 0 if self._run is None else self._run.stats.blocks

    @torch.no_grad()
    def step(self) -> News:
        """Draft and verify one block."""
        request = self._text.request
        if self._blocks is None:  # in the engine's thread, when it is its turn
            device = self._decoder.target.device
            ids = torch.tensor([request.prompt], device=device)
            length = len(request.prompt) + request.max_tokens
            self._run = self._decoder.begin(
                ids,
                warp=request.sampling.warp(),
                stops=Stops(frozenset(self._ends), length, device),
                seed=request.sampling.seed,
            )
            self._blocks = self._run.blocks()
        for token in next(self._blocks):
            self._text.add(token)
        return [(0, self._text.delta())]

    def end(self, *, late: bool) -> News:
        """End it where it is."""
        self._text.end(late=late)
        return [(0, self._text.delta())]

    def cancel(self) -> None:
        """It holds nothing that others could use."""


def obstacle(request: Request) -> str | None:
    """What a request asks for that only the batch gives; None: nothing."""
    way = request.sampling
    if request.logprobs is not None or request.prompt_logprobs:
        return "logprobs"
    if way.presence_penalty or way.frequency_penalty or way.logit_bias:
        return "presence_penalty, frequency_penalty or logit_bias"
    return None if request.max_tokens else "prompt without a token behind it"


def several(request: Request, count: int) -> list[Request]:
    """A request for each text, which differ in their seeds."""
    way = request.sampling
    seeds = [None if way.seed is None else way.seed + i for i in range(count)]
    return [replace(request, sampling=replace(way, seed=seed)) for seed in seeds]


def require_no_options(mode: str, options: Mapping[str, Any]) -> None:
    """Refuse options of a mode that has none.

    Raises:
        ConfigError: with the first of them.
    """
    if options:
        raise ConfigError(f"drafts.mode {mode} has no options; leave out {min(options)}")
