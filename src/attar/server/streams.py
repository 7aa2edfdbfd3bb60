"""From the engine's thread to the event loop: what is added to the texts of a request."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from fastapi import Request

from attar.decode.texts import Delta, TokenLogprob
from attar.server.engine import Engine, Work
from attar.web.errors import ApiError

T = TypeVar("T")


@dataclass
class Choice:
    """One text as far as it is written: the sum of its deltas."""

    text: str = ""
    tokens: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    late: bool = False
    cached: int = 0
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    score: float | None = None

    def add(self, delta: Delta) -> None:
        """Add what is new."""
        self.text += delta.text
        self.tokens += delta.tokens
        self.logprobs += delta.logprobs
        self.prompt_logprobs += delta.prompt_logprobs
        self.finish_reason, self.late = delta.finish_reason, delta.late
        self.cached, self.score = delta.cached, delta.score

    @property
    def likelihood(self) -> float:
        """Mean log-probability of its tokens, by which the best of several is chosen."""
        total = sum(one.logprob for one in self.logprobs)
        return total / max(1, len(self.logprobs))


class Source(Protocol):
    """Texts as they come."""

    @property
    def passes(self) -> int:
        """Forward passes of the model so far."""
        ...

    def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        """The number of a text, and what was added to it, until all are finished."""
        ...

    def cancel(self) -> None:
        """Cancel what is not finished."""
        ...


class Stream:
    """Texts that the engine writes; they are cancelled when nobody waits for them any more.

    Raises:
        BusyError: the engine has no room now.
        ClosedError: it stops.
    """

    def __init__(self, engine: Engine, works: Sequence[Work]) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[tuple[int, Delta | Exception]] = asyncio.Queue()
        self.ticket = engine.submit(works, self._listen)
        self._left = self.ticket.texts  # some may be finished already

    @property
    def passes(self) -> int:
        """Forward passes of the model so far."""
        return self.ticket.passes

    def _listen(self, number: int, news: Delta | Exception) -> None:
        self._loop.call_soon_threadsafe(self._news.put_nowait, (number, news))

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        """All that is added, until every text is finished."""
        try:
            while self._left:
                number, news = await self._news.get()
                if isinstance(news, Exception):
                    raise ApiError(500, "the model failed on this request; the log says why")
                self._left -= news.finish_reason is not None
                yield number, news
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Cancel what is not finished."""
        if self._left:
            self._engine.cancel(self.ticket)


class Ready:
    """A text that is there already."""

    passes = 0

    def __init__(self, delta: Delta) -> None:
        self._delta = delta

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        """It, at once."""
        yield 0, self._delta

    def cancel(self) -> None:
        """There is nothing to cancel."""


async def gathered(source: Source, count: int) -> list[Choice]:
    """All texts, when they are finished."""
    choices = [Choice() for _ in range(count)]
    news: Any = source.__aiter__()
    async with aclosing(news):
        async for number, delta in news:
            choices[number].add(delta)
    return choices


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives; it is cancelled when the client goes away.

    Raises:
        ApiError: it went.
    """
    tasks: list[asyncio.Task[Any]] = [
        asyncio.create_task(work),
        asyncio.create_task(_gone(request)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise ApiError(499, "the client closed the connection")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
