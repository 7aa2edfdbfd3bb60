"""`/infill`, as llama.vim and other clients of llama.cpp's server speak it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from attar.decode.fim import Chunk
from attar.decode.texts import Request as TextRequest
from attar.server.answers import STREAMED, events
from attar.server.schemas import InfillBody
from attar.server.service import Service
from attar.server.streams import Choice, unless_gone
from attar.web.errors import ApiError

USUAL = 128
"""Tokens of a suggestion, where a client does not say how many."""


def router(service: Service) -> APIRouter:
    """The route, for a model."""
    routes = APIRouter()

    @routes.post(
        "/infill", summary="Fill in at the cursor", response_model=None, responses=STREAMED
    )
    async def infill(body: InfillBody, request: Request) -> Any:
        prompt = await asyncio.to_thread(prompt_of, service, body)  # a long text takes a while
        answer = Answer(service, body, prompt=prompt)
        if body.stream:
            return events(answer.chunks(), answer.source, done=False)
        return await unless_gone(request, answer.whole())

    return routes


def prompt_of(service: Service, body: InfillBody) -> tuple[list[int], bool]:
    """Token ids of the prompt, and whether something was left out of it.

    Raises:
        ApiError: the model cannot fill in.
    """
    if service.fim is None:
        message = "this model's tokenizer has no tokens for fill-in-the-middle; serve another"
        raise ApiError(400, message, code="not_supported")
    return service.fim.prompt(
        body.input_prefix,
        body.input_suffix,
        extra=[Chunk(one.text, one.filename) for one in body.input_extra],
        room=service.context - max(new_tokens(service, body), 1),
        begun=body.prompt,
    )


def new_tokens(service: Service, body: InfillBody) -> int:
    """How many tokens are written at most: half of the context is for the prompt."""
    asked, half = body.n_predict, service.context // 2
    return min(half, USUAL if asked is None else half if asked < 0 else asked)


class Answer:
    """The answer to one request."""

    def __init__(
        self, service: Service, body: InfillBody, *, prompt: tuple[Sequence[int], bool]
    ) -> None:
        self._service, self._fields = service, body.response_fields
        ids, self._truncated = prompt
        new = new_tokens(service, body)
        self._request = self._of(body, tuple(ids), new=new)
        text = "\0".join((body.input_suffix, body.input_prefix + body.prompt))
        if body.cache_prompt and new:
            self._suggestion = service.suggest(self._request, text, drafts=body.drafts)
            self.source = self._suggestion.source
        else:
            self._suggestion = None
            _, self.source = service.write([self._request], count=1, drafts=body.drafts)
        self._began = self._first = time.perf_counter()

    def _of(self, body: InfillBody, ids: tuple[int, ...], *, new: int) -> TextRequest:
        """The likeliest text unless a temperature is given: a suggestion should not change from
        one key to the next."""
        if body.temperature is None:
            body = body.model_copy(update={"temperature": 0.0})
        given = [ms for ms in (body.t_max_prompt_ms, body.t_max_predict_ms) if ms is not None]
        if body.time_budget_ms is None and given and sum(given) and new:  # else it warms the cache
            body = body.model_copy(update={"time_budget_ms": sum(given)})
        request = self._service.request(ids, body, max_tokens=new, reuse=body.cache_prompt)
        return request if new else replace(request, deadline=None)

    async def whole(self) -> dict[str, Any]:
        """The suggestion."""
        choice = Choice()
        async for _, delta in self.source:
            self._see(choice)
            choice.add(delta)
        return self._final(choice, content=choice.text)

    async def chunks(self) -> AsyncIterator[Mapping[str, Any]]:
        """The suggestion as it is written."""
        choice = Choice()
        async for _, delta in self.source:
            self._see(choice)
            choice.add(delta)
            if delta.finish_reason is None:
                yield {"content": delta.text, "stop": False}
            else:
                yield self._final(choice, content=delta.text)

    def _see(self, choice: Choice) -> None:
        if not choice.tokens:
            self._first = time.perf_counter()

    def _final(self, choice: Choice, *, content: str) -> dict[str, Any]:
        if self._suggestion is not None:
            reason = str(choice.finish_reason)
            self._service.remember(self._suggestion, choice.text, reason=reason, late=choice.late)
        matched = None if self._suggestion is None else self._suggestion.matched
        prompt, now = len(self._request.prompt), time.perf_counter()
        fresh = 0 if matched is not None else prompt - choice.cached
        answer: dict[str, Any] = {
            "content": content,
            "stop": True,
            "stop_type": "limit" if choice.finish_reason == "length" else "eos",
            "model": self._service.name,
            "tokens_predicted": choice.tokens,
            "tokens_evaluated": prompt,
            "tokens_cached": prompt + choice.tokens,
            "truncated": self._truncated,
            "time_budget_exceeded": choice.late,
            "matched": matched,
            "generation_settings": {"n_ctx": self._service.context},
            "timings": {
                **_timing("prompt", fresh, self._first - self._began),
                **_timing("predicted", choice.tokens, now - self._first),
            },
        }
        return answer if self._fields is None else _picked(answer, self._fields)


def _timing(name: str, count: int, seconds: float) -> dict[str, float]:
    milliseconds = max(1000 * seconds, 1e-3)
    return {
        f"{name}_n": count,
        f"{name}_ms": milliseconds,
        f"{name}_per_token_ms": milliseconds / max(count, 1),
        f"{name}_per_second": 1000 * count / milliseconds,
    }


def _picked(answer: Mapping[str, Any], fields: list[str]) -> dict[str, Any]:
    """The fields that were asked for, each under its path, as in `timings/prompt_ms`."""
    flat = dict(answer)
    for name, inner in answer.items():
        if isinstance(inner, dict):
            flat |= {f"{name}/{key}": value for key, value in inner.items()}
    return {field: flat[field] for field in fields if field in flat}
