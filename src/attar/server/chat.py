"""`/v1/chat/completions`, for models with a chat template."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request

from attar.data.messages import templated
from attar.errors import DataError
from attar.server.answers import STREAMED, chat_logprobs, ending, events, head, usage
from attar.server.schemas import ChatBody, whole
from attar.server.service import Service
from attar.server.streams import Choice, gathered, unless_gone
from attar.web.errors import ApiError


def router(service: Service) -> APIRouter:
    """The route, for a model."""
    routes = APIRouter()

    @routes.post(
        "/v1/chat/completions", summary="Answer in a chat", response_model=None, responses=STREAMED
    )
    async def chat(body: ChatBody, request: Request) -> Any:
        service.require_model(body.model)
        text = await asyncio.to_thread(rendered, service, body)
        ids = await service.ids_of(text, special=False)
        answer = Answer(service, body, ids=ids)
        if body.stream:
            return events(answer.chunks(), answer.source)
        return await unless_gone(request, answer.whole())

    return routes


def rendered(service: Service, body: ChatBody) -> str:
    """The messages as the model reads them.

    Raises:
        ApiError: the model has no template, or the template refuses the messages.
    """
    if not service.tokenizer.chat_template:
        message = "this model has no chat template; use /v1/completions"
        raise ApiError(400, message, param="messages", code="invalid_value")
    messages = [one.plain() for one in body.messages]
    try:
        return whole(templated(messages, service.tokenizer, ask=True))
    except (DataError, ValueError) as error:  # arguments of tools are JSON within JSON
        said = str(error) if isinstance(error, DataError) else f"messages {error}"
        raise ApiError(400, said, param="messages", code="invalid_value") from error


class Answer:
    """The answer to one request."""

    def __init__(self, service: Service, body: ChatBody, *, ids: tuple[int, ...]) -> None:
        self._service, self._body, self._count = service, body, body.n or 1
        most = body.max_completion_tokens or body.max_tokens
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        self._request = service.request(
            ids, body, max_tokens=most, param="messages", logprobs=logprobs
        )
        self._mode, self.source = service.write(
            [self._request], count=self._count, drafts=body.drafts
        )

    async def whole(self) -> dict[str, Any]:
        """All answers."""
        choices = await gathered(self.source, self._count)
        shown = [
            {
                "index": number,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._logprobs(choice),
            }
            | ending(choice)
            for number, choice in enumerate(choices)
        ]
        counted = usage([self._request], choices, count=self._count, passes=self.source.passes)
        return self._head("chat.completion") | {"choices": shown, "usage": counted}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Answers as they are written."""
        begin = self._head("chat.completion.chunk")
        total = [Choice() for _ in range(self._count)]
        for number in range(self._count):
            opened = {"role": "assistant", "content": ""}
            choice = {"index": number, "delta": opened, "logprobs": None, "finish_reason": None}
            yield begin | {"choices": [choice]}
        async for number, delta in self.source:
            piece = Choice()
            piece.add(delta)
            total[number].add(delta)
            shown: dict[str, Any] = {
                "index": number,
                "delta": {"content": piece.text} if piece.text else {},
                "logprobs": self._logprobs(piece),
            }
            yield begin | {"choices": [shown | ending(piece)]}
        if self._body.stream_options and self._body.stream_options.include_usage:
            counted = usage([self._request], total, count=self._count, passes=self.source.passes)
            yield begin | {"choices": [], "usage": counted}

    def _logprobs(self, choice: Choice) -> dict[str, Any] | None:
        return chat_logprobs(self._service, choice.logprobs) if self._body.logprobs else None

    def _head(self, kind: str) -> dict[str, Any]:
        return head(self._service, kind, prefix="chatcmpl", mode=self._mode)
