"""`/v1/completions`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from typing import Any

from fastapi import APIRouter, Request

from attar.decode.texts import Request as TextRequest
from attar.server.answers import STREAMED, completion_logprobs, ending, events, head, usage
from attar.server.schemas import CompletionBody
from attar.server.service import Service, Suggestion
from attar.server.streams import Choice, Source, gathered, unless_gone
from attar.web.errors import ApiError

USUAL = 16
"""Tokens of a completion, where a client does not say how many."""


def router(service: Service) -> APIRouter:
    """The route, for a model."""
    routes = APIRouter()

    @routes.post(
        "/v1/completions", summary="Continue texts", response_model=None, responses=STREAMED
    )
    async def completions(body: CompletionBody, request: Request) -> Any:
        service.require_model(body.model)
        require_possible(body)
        prompts = [await prompt_ids(service, body, prompt=prompt) for prompt in body.prompts]
        requests = [request_of(service, body, ids=ids) for ids in prompts]
        answer = Answer(service, body, requests=requests)
        if body.stream:
            return events(answer.chunks(), answer.source)
        return await unless_gone(request, answer.whole())

    return routes


def require_possible(body: CompletionBody) -> None:
    """Refuse what does not fit together.

    Raises:
        ApiError: with the first of it.
    """
    count, best = body.n or 1, body.best_of
    if best is not None and best < count:
        raise _wrong("best_of", f"best_of must be at least n; found {best} and {count}")
    if best is not None and best > count and body.stream:
        raise _wrong("best_of", "best_of above n cannot be streamed; leave one of them out")
    if best is not None and best > count and body.drafts is not None:
        raise _wrong("best_of", "best_of above n ranks sampled texts; leave best_of or drafts out")
    if body.suffix is not None and (body.echo or not isinstance(body.prompt, str)):
        raise _wrong("suffix", "suffix takes one prompt, as text and without echo")
    if body.type_ahead and (
        count > 1 or best or body.echo or body.logprobs is not None or type(body.prompt) is not str
    ):
        message = "type_ahead takes one prompt, as text, without n, best_of, echo and logprobs"
        raise _wrong("type_ahead", message)


async def prompt_ids(
    service: Service, body: CompletionBody, *, prompt: str | Sequence[int]
) -> tuple[int, ...]:
    """Token ids of a prompt, around a gap where there is a suffix."""
    if body.suffix is None:
        return await service.ids_of(prompt)
    if service.fim is None:
        message = "this model's tokenizer has no tokens for fill-in-the-middle; leave suffix out"
        raise _wrong("suffix", message)
    ids, _ = await asyncio.to_thread(service.fim.prompt, str(prompt), body.suffix, room=2**31)
    return tuple(ids)


def request_of(service: Service, body: CompletionBody, *, ids: tuple[int, ...]) -> TextRequest:
    """How a prompt is continued."""
    ranked = (body.best_of or 1) > (body.n or 1)
    return service.request(
        ids,
        body,
        max_tokens=body.max_tokens,
        usual=USUAL,
        logprobs=0 if ranked and body.logprobs is None else body.logprobs,
        prompt_logprobs=bool(body.echo) and body.logprobs is not None,
    )


class Answer:
    """The answer to one request."""

    def __init__(
        self, service: Service, body: CompletionBody, *, requests: Sequence[TextRequest]
    ) -> None:
        self._service, self._body, self._requests = service, body, requests
        self._n = body.n or 1
        self._count = max(self._n, body.best_of or 1)
        self._suggestion: Suggestion | None = None
        self.source: Source
        if body.type_ahead:
            text = f"{body.suffix or ''}\0{body.prompt}"  # what is typed comes last
            self._suggestion = service.suggest(requests[0], text, drafts=body.drafts)
            mode, self.source = self._suggestion.mode, self._suggestion.source
        else:
            mode, self.source = service.write(requests, count=self._count, drafts=body.drafts)
        self._head = head(service, "text_completion", prefix="cmpl", mode=mode)
        if self._suggestion is not None and self._suggestion.matched is not None:
            self._head["drafts"]["matched"] = self._suggestion.matched

    async def whole(self) -> dict[str, Any]:
        """All texts, the best of each prompt."""
        choices = await gathered(self.source, self._count * len(self._requests))
        chosen: list[Choice] = []
        for start in range(0, len(choices), self._count):
            own = choices[start : start + self._count]
            if self._count > self._n:
                own = sorted(own, key=lambda choice: choice.likelihood, reverse=True)
            chosen += own[: self._n]
        self._remember(choices[0])
        shown = [self._choice(number, choice) for number, choice in enumerate(chosen)]
        counted = usage(self._requests, choices, count=self._count, passes=self.source.passes)
        return self._head | {"choices": shown, "usage": counted}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Texts as they are written."""
        total = [Choice() for _ in range(self._count * len(self._requests))]
        async for number, delta in self.source:
            first = total[number].finish_reason is None and not total[number].tokens
            piece = Choice()
            piece.add(delta)
            total[number].add(delta)
            yield self._head | {"choices": [self._choice(number, piece, first=first)]}
        self._remember(total[0])
        if self._body.stream_options and self._body.stream_options.include_usage:
            counted = usage(self._requests, total, count=self._count, passes=self.source.passes)
            yield self._head | {"choices": [], "usage": counted}

    def _choice(self, number: int, choice: Choice, *, first: bool = True) -> dict[str, Any]:
        body, logprobs = self._body, None
        echo = self._echoes[number // self._n] if body.echo else ""
        if body.logprobs is not None:
            ids = self._requests[number // self._n].prompt
            logprobs = completion_logprobs(
                self._service,
                choice.logprobs,
                prompt=(ids, choice.prompt_logprobs) if body.echo and first else None,
                before=len(echo),
            )
        text = f"{echo}{choice.text}" if first else choice.text
        return {"index": number, "text": text, "logprobs": logprobs} | ending(choice)

    @cached_property
    def _echoes(self) -> list[str]:
        """The prompts as text."""
        text_of = self._service.text_of
        return [one if isinstance(one, str) else text_of(one) for one in self._body.prompts]

    def _remember(self, choice: Choice) -> None:
        if self._suggestion is not None:
            reason = str(choice.finish_reason)
            self._service.remember(self._suggestion, choice.text, reason=reason, late=choice.late)


def _wrong(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
