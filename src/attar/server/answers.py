"""Parts of answers that several routes give."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from attar.decode.texts import Request, TokenLogprob
from attar.server.service import Service
from attar.server.streams import Choice, Source
from attar.web.errors import ApiError

#: for the OpenAPI document: routes that stream where they are asked to
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


def head(service: Service, kind: str, *, prefix: str, mode: str) -> dict[str, Any]:
    """What every answer begins with; it declares how its texts were written."""
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": service.name,
        "drafts": {"mode": mode},
    }


def usage(
    requests: Sequence[Request], choices: Sequence[Choice], *, count: int, passes: int
) -> dict[str, Any]:
    """What an answer took: tokens of prompts, each counted once, tokens of all texts that were
    written for them, and forward passes."""
    prompt = sum(len(request.prompt) for request in requests)
    written = sum(choice.tokens for choice in choices)
    cached = sum(choice.cached for choice in choices[::count])
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": cached},
        "forward_passes": passes,
    }


def ending(choice: Choice) -> dict[str, Any]:
    """How a text ended, and whether its time was up."""
    fields: dict[str, Any] = {"finish_reason": choice.finish_reason}
    if choice.late:
        fields["time_budget_exceeded"] = True
    if choice.score is not None:
        fields["score"] = choice.score
    return fields


def completion_logprobs(
    service: Service,
    told: Sequence[TokenLogprob],
    *,
    prompt: tuple[Sequence[int], Sequence[TokenLogprob]] | None = None,
    before: int = 0,
) -> dict[str, Any]:
    """As `/v1/completions` gives them.

    Args:
        service: knows the tokens.
        told: of the new tokens.
        prompt: its ids, and what was told of them, for `echo`.
        before: characters before the new text.
    """
    tokens: list[str] = []
    values: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    offsets: list[int] = []

    def put(one: TokenLogprob, offset: int) -> None:
        tokens.append(service.token(one.token))
        values.append(one.logprob)
        pairs = {service.token(token): value for token, value in one.top}
        tops.append(pairs | {tokens[-1]: one.logprob} if one.top else {})
        offsets.append(offset)

    if prompt is not None:
        ids, of_prompt = prompt
        tokens, values, tops, offsets = [service.token(ids[0])], [None], [None], [0]
        for one in of_prompt:
            put(one, min(before, offsets[-1] + len(tokens[-1])))
    for one in told:
        put(one, before + one.offset)
    return {
        "tokens": tokens,
        "token_logprobs": values,
        "top_logprobs": tops,
        "text_offset": offsets,
    }


def chat_logprobs(service: Service, told: Sequence[TokenLogprob]) -> dict[str, Any]:
    """As `/v1/chat/completions` gives them."""

    def entry(token: int, value: float) -> dict[str, Any]:
        text = service.token(token)
        whole = "\ufffd" not in text  # else part of a letter, whose bytes are not known here
        return {
            "token": text,
            "logprob": value,
            "bytes": list(text.encode()) if whole else None,
        }

    content = [
        entry(one.token, one.logprob) | {"top_logprobs": [entry(*pair) for pair in one.top]}
        for one in told
    ]
    return {"content": content, "refusal": None}


class _Events(StreamingResponse):
    """A stream that is cancelled when its client leaves, even before it began."""

    def __init__(self, lines: AsyncIterator[str], source: Source) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(lines, media_type="text/event-stream", headers=headers)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._source.cancel()


def events(
    pieces: AsyncIterator[Mapping[str, Any]], source: Source, *, done: bool = True
) -> StreamingResponse:
    """Server-sent events; an error that comes late is one of them.

    Args:
        pieces: what is sent.
        source: where they come from.
        done: mark the end.
    """

    async def lines() -> AsyncIterator[str]:
        try:
            async for piece in pieces:
                yield f"data: {json.dumps(piece, ensure_ascii=False)}\n\n"
        except ApiError as error:
            yield f"data: {json.dumps(error.body)}\n\n"
        if done:
            yield "data: [DONE]\n\n"

    return _Events(lines(), source)
