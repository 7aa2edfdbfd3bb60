"""Simulated annotators over HTTP, who lose connections, go away, and send things twice; each keeps
a journal of what was answered to whom."""

import asyncio
import hashlib
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

#: answers that say: not now, send it again
AGAIN = (429, 503)
STORED = (200, 201)
#: of an answer: how often something goes wrong
DROPPED, TWICE, REPLAYED, FORGED, DRAFTED = 0.06, 0.03, 0.03, 0.01, 0.3
#: of a task: how often the annotator goes away from it for longer than the lease
AWAY = 0.02


@dataclass
class Sent:
    """An answer in a journal. `replies` are all that came back to it, `dropped` the attempts whose
    connection was closed before, `forged` the replies to another answer under the same id."""

    body: dict[str, Any]
    annotator: str
    replies: list[int] = field(default_factory=list)
    receipts: set[str] = field(default_factory=set)
    forged: list[int] = field(default_factory=list)
    dropped: int = 0

    @property
    def stored(self) -> bool:
        """Whether the service said that it has it."""
        return any(status in STORED for status in self.replies)

    @property
    def repeated(self) -> bool:
        return len(self.replies) + self.dropped > 1

    @property
    def idempotent(self) -> bool:
        """Whether sending it again changed nothing: it was created at most once, all that came back
        is the same receipt, and nothing else was taken under its id."""
        once = self.replies.count(201) <= 1 and len(self.receipts) <= 1
        alike = len({status in STORED for status in self.replies}) <= 1
        return once and alike and not any(status in STORED for status in self.forged)


@dataclass
class Journal:
    """What one annotator saw."""

    sent: list[Sent] = field(default_factory=list)
    submits: list[tuple[float, float]] = field(default_factory=list)  # when, and seconds; stored
    waits: list[float] = field(default_factory=list)  # from the first attempt to the receipt
    nexts: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)  # 0: no answer
    away: int = 0


class Annotator:
    """One of them.

    Args:
        name: of the account.
        token: of it.
        url: of the service.
        gold: text -> the true cuts.
        pause: seconds that a text takes, on average.
        lease: seconds that a task is kept for somebody who is away.
    """

    def __init__(
        self,
        name: str,
        token: str,
        *,
        url: str,
        gold: Mapping[str, tuple[int, ...]],
        pause: float,
        lease: float,
        seed: int,
    ) -> None:
        self.name, self.journal = name, Journal()
        self._token, self._url, self._gold = token, url, gold
        self._pause, self._lease = pause, lease
        self._rng = random.Random(f"{seed}/{name}")

    async def work(self, done: asyncio.Event) -> None:
        """Answer what comes until it is over."""
        await asyncio.sleep(self._rng.random() * self._pause)
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx.AsyncClient(
            base_url=self._url, headers=headers, timeout=30, verify=False, trust_env=False
        ) as http:
            while not done.is_set():
                given = await self._next(http, done)
                if given is None:
                    continue
                if given["task"] is None:
                    await asyncio.sleep(1)
                    continue
                await self._answer(http, given)

    async def _next(self, http: httpx.AsyncClient, done: asyncio.Event) -> dict[str, Any] | None:
        while not done.is_set():
            began = time.perf_counter()
            reply = await self._ask(http, "GET", "/api/next")
            if reply is not None and reply.status_code == 200:
                self.journal.nexts.append(time.perf_counter() - began)
                return reply.json()
            await self._breathe()
        return None

    async def _answer(self, http: httpx.AsyncClient, given: Mapping[str, Any]) -> None:
        rng = self._rng
        sent = Sent(self._body(given), self.name)
        await asyncio.sleep(rng.expovariate(1 / self._pause))
        if rng.random() < DRAFTED:
            draft = {"cuts": sent.body["cuts"], "active_ms": 100}
            await self._ask(http, "PUT", f"/api/drafts/{given['task']}", draft)
        if rng.random() < AWAY:
            self.journal.away += 1
            await asyncio.sleep(self._lease * rng.uniform(1.1, 1.6))
            if rng.random() < 0.5:
                return  # and never answers
        self.journal.sent.append(sent)
        began = time.perf_counter()
        if rng.random() < DROPPED:
            sent.dropped += 1
            await self._drop(sent.body)
        copies = 2 if rng.random() < TWICE else 1
        await asyncio.gather(*(self._submit(http, sent) for _ in range(copies)))
        if sent.stored:
            self.journal.waits.append(time.perf_counter() - began)
        if rng.random() < REPLAYED:
            old = rng.choice(self.journal.sent)
            if old.stored:
                await self._submit(http, old)
        if sent.stored and rng.random() < FORGED:
            other = sent.body | {"cuts": sent.body["cuts"][1:] or [1]}
            if other["cuts"] != sent.body["cuts"]:
                await self._submit(http, sent, body=other)

    def _body(self, given: Mapping[str, Any]) -> dict[str, Any]:
        text = given["text"]
        cuts = [cut for cut in self._gold[text] if self._rng.random() > 0.02]
        return {
            "id": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            "task": given["task"],
            "text_sha": hashlib.sha256(text.encode()).hexdigest(),
            "cuts": cuts,
            "guideline": given["guideline"]["version"],
            "active_ms": self._rng.randrange(500, 20_000),
        }

    async def _submit(
        self, http: httpx.AsyncClient, sent: Sent, *, body: dict[str, Any] | None = None
    ) -> None:
        """Send an answer until something comes back."""
        while True:
            began = time.perf_counter()
            reply = await self._ask(http, "POST", "/api/annotations", body or sent.body)
            took = time.perf_counter() - began
            if reply is None:
                sent.dropped += 1
            elif reply.status_code not in AGAIN:
                break
            await self._breathe()
        (sent.replies if body is None else sent.forged).append(reply.status_code)
        if reply.status_code in STORED and body is None:
            self.journal.submits.append((began, took))
            sent.receipts.add(json.dumps(reply.json(), sort_keys=True))

    async def _ask(
        self, http: httpx.AsyncClient, method: str, path: str, body: Any = None
    ) -> httpx.Response | None:
        try:
            reply = await http.request(method, path, json=body)
        except httpx.HTTPError:
            self.journal.statuses[0] += 1
            return None
        self.journal.statuses[reply.status_code] += 1
        return reply

    async def _drop(self, body: dict[str, Any]) -> None:
        """Send an answer, or the half of one, and close the connection without waiting."""
        where, content = httpx.URL(self._url), json.dumps(body).encode()
        head = (
            f"POST /api/annotations HTTP/1.1\r\nHost: {where.host}:{where.port}\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        if self._rng.random() < 0.3:
            content = content[: len(content) // 2]
        with suppress(OSError):
            _, writer = await asyncio.open_connection(where.host, where.port)
            try:
                writer.write(head.encode() + content)
                await writer.drain()
                await asyncio.sleep(self._rng.random() * 0.05)
            finally:
                writer.transport.abort()

    async def _breathe(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.5, 1.5))
