"""What the routes share: the model, and how a request becomes work for its engine."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from attar.decode.fim import Fim
from attar.decode.texts import Delta, Request
from attar.server.engine import BusyError, ClosedError, Engine
from attar.server.meters import Meters
from attar.server.modes import Mode
from attar.server.results import Results
from attar.server.schemas import Drafts, SamplingBody
from attar.server.streams import Ready, Source, Stream
from attar.web.errors import ApiError


@dataclass(frozen=True)
class Service:
    """A model that is served.

    Attributes:
        name: of the model, as clients know it.
        created: when it was loaded, in seconds of Unix time.
        tokenizer: the model's.
        vocabulary: how many token ids it has.
        context: tokens of a prompt with what follows it, at most.
        engine: writes.
        modes: ways to write, by name.
        mode: the way for requests that name none.
        time_budget_ms: of a request, at most; None: no bound.
        fim: tokens for fill-in-the-middle; None: the tokenizer has none.
        results: the latest suggestions.
        meters: what is counted.
    """

    name: str
    created: int
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int
    context: int
    engine: Engine
    modes: Mapping[str, Mode]
    mode: str
    time_budget_ms: float | None
    fim: Fim | None
    results: Results
    meters: Meters

    def require_model(self, name: str | None) -> None:
        """Refuse a model that is not served.

        Raises:
            ApiError: it is another.
        """
        if name not in (None, self.name):
            message = f"this server has the model {self.name!r}; found {name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    async def ids_of(self, prompt: str | Sequence[int], *, special: bool = True) -> tuple[int, ...]:
        """Token ids of a prompt.

        Args:
            prompt: a text or ids.
            special: add the tokens that the tokenizer puts around a text.

        Raises:
            ApiError: an id that the model does not have.
        """
        if isinstance(prompt, str):  # in a thread: a long text takes a while
            call: Any = self.tokenizer
            read = await asyncio.to_thread(call, prompt, add_special_tokens=special)
            ids = tuple(read["input_ids"])
        else:
            ids = tuple(prompt)
        if not ids:
            ids = tuple(self._first())
        if max(ids) >= self.vocabulary:
            message = f"token ids must be below {self.vocabulary}; found {max(ids)}"
            raise ApiError(400, message, param="prompt", code="invalid_value")
        return ids

    def _first(self) -> list[int]:
        """What stands for an empty prompt."""
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        for token in known:
            if isinstance(token, int):
                return [token]
        message = "this model's tokenizer has no token to begin a text with; give a prompt"
        raise ApiError(400, message, param="prompt", code="invalid_value")

    def request(
        self,
        ids: tuple[int, ...],
        body: SamplingBody,
        *,
        max_tokens: int | None,
        usual: int | None = None,
        param: str = "prompt",
        **more: Any,
    ) -> Request:
        """A text to continue.

        Args:
            ids: the prompt.
            body: how it is continued.
            max_tokens: None: as many as there is room for.
            usual: where max_tokens is None, at most.
            param: the field that the prompt is from.
            more: of `Request`.

        Raises:
            ApiError: it does not fit into the context, or a token id does not exist.
        """
        room = self.context - len(ids)
        least = 1 if max_tokens is None else max_tokens
        if room < least:
            message = (
                f"prompt and max_tokens must fit into {self.context} tokens; found {len(ids)} and "
                f"{least}; shorten the prompt or lower max_tokens"
            )
            raise ApiError(400, message, param=param, code="context_length_exceeded")
        sampling = body.sampling()
        if wrong := [token for token, _ in sampling.logit_bias if token >= self.vocabulary]:
            message = f"token ids must be below {self.vocabulary}; found {wrong[0]}"
            raise ApiError(400, message, param="logit_bias", code="invalid_value")
        if max_tokens is None:
            max_tokens = room if usual is None else min(usual, room)
        return Request(
            prompt=ids,
            max_tokens=max_tokens,
            sampling=sampling,
            stop=body.stops,
            deadline=self._deadline(body.time_budget_ms),
            **more,
        )

    def _deadline(self, asked: float | None) -> float | None:
        budgets = [one for one in (asked, self.time_budget_ms) if one is not None]
        return time.monotonic() + min(budgets) / 1000 if budgets else None

    def write(
        self, requests: Sequence[Request], *, count: int, drafts: Drafts | None
    ) -> tuple[str, Stream]:
        """Let the engine write.

        Args:
            requests: prompts.
            count: texts of each.
            drafts: the mode that the client asks for.

        Returns:
            The name of the mode, and the texts, prompt after prompt.

        Raises:
            ApiError: it cannot be written, or not now.
        """
        mode = self._mode(requests, drafts)
        if count * len(requests) > self.engine.capacity:
            message = (
                f"this server takes {self.engine.capacity} texts at a time; found "
                f"{count * len(requests)} in one request, so ask for fewer"
            )
            raise ApiError(400, message, param="n", code="invalid_value")
        options = {} if drafts is None else drafts.options
        works = [
            work
            for request in requests
            for work in mode.works(request, count=count, options=options)
        ]
        try:
            stream = Stream(self.engine, works)
        except BusyError as error:
            headers = {"Retry-After": str(error.retry_after)}
            raise ApiError(429, str(error), code="queue_full", headers=headers) from error
        except ClosedError as error:
            raise ApiError(503, str(error), code="stopping") from error
        self.meters.prompt.inc(sum(len(request.prompt) for request in requests) * count)
        return mode.name, stream

    def _mode(self, requests: Sequence[Request], drafts: Drafts | None) -> Mode:
        if drafts is None:
            usual = self.modes[self.mode]
            fits = all(usual.suits(request) for request in requests)
            return usual if fits else self.modes["sampled"]
        if drafts.mode not in self.modes:
            known = ", ".join(self.modes)
            message = f"drafts.mode must be one of {known} here; found {drafts.mode!r}"
            raise ApiError(400, message, param="drafts", code="invalid_value")
        return self.modes[drafts.mode]

    def suggest(self, request: Request, text: str, *, drafts: Drafts | None) -> "Suggestion":
        """One text for type-ahead: the rest of an earlier one, if the user typed what it said."""
        settings = replace(request, prompt=(), deadline=None), str(drafts)
        found = self.results.find(settings, text)
        if found is None:
            mode, source = self.write([request], count=1, drafts=drafts)
            return Suggestion(source, mode, None, (settings, text))
        self.meters.remembered.inc()
        reason = "stop" if found.finish_reason == "stop" else "length"
        ready = Ready(Delta(text=found.text, finish_reason=reason))
        return Suggestion(ready, "type_ahead", found.matched, None)

    def remember(self, suggestion: "Suggestion", text: str, *, reason: str, late: bool) -> None:
        """Keep a suggestion that is whole."""
        if suggestion.key is not None and text and not late:
            self.results.put(*suggestion.key, text=text, finish_reason=reason)

    def token(self, token: int) -> str:
        """A token as text."""
        decoded: Any = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return str(decoded)

    def text_of(self, ids: Sequence[int]) -> str:
        """Token ids as text."""
        decoded: Any = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(decoded)


@dataclass(frozen=True)
class Suggestion:
    """A text for type-ahead.

    Attributes:
        source: where it comes from.
        mode: how it is written.
        matched: characters typed since it was suggested; None: it is new.
        key: to remember it by; None: it is remembered.
    """

    source: Source
    mode: str
    matched: int | None
    key: tuple[Any, str] | None
