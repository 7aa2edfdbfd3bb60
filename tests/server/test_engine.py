"""Other ways of writing are plugged in as modes; what fails there fails alone."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import served
from attar.decode.texts import Delta, Request
from attar.server.engine import Work
from attar.server.jobs import Job, News
from attar.server.modes import Mode
from attar.server.results import Results

BODY = {"prompt": "red moon", "max_tokens": 4, "temperature": 0}


class Drafts:
    """All texts of a request in one job, one word of each a step."""

    def __init__(self, request: Request, count: int, words: Sequence[str]) -> None:
        self.count, self.deadline, self.passes = count, request.deadline, 0
        self._words = list(words)

    def step(self) -> News:
        word, *self._words = self._words
        self.passes += 1
        if word == "broken":
            raise RuntimeError("this job is broken")
        if word == "slow":
            time.sleep(0.05)
        last = not self._words
        return [
            (
                number,
                Delta(
                    text=f"{word}{number} ",
                    tokens=1,
                    finish_reason="stop" if last else None,
                    score=-float(number) if last else None,
                ),
            )
            for number in range(self.count)
        ]

    def end(self, *, late: bool) -> News:
        return [(number, Delta(finish_reason="length", late=late)) for number in range(self.count)]

    def cancel(self) -> None:
        pass


class Together:
    """A mode, as a method would bring it."""

    name = "together"

    def works(self, request: Request, *, count: int, options: Mapping[str, Any]) -> Sequence[Work]:
        return [Drafts(request, count, options["words"])]

    def suits(self, request: Request) -> bool:
        return False


def test_a_mode_writes_all_texts_of_a_request_beside_the_batch() -> None:
    mode: Mode = Together()
    job: Job = Drafts(Request(prompt=(1,), max_tokens=1), 1, ["a"])
    assert isinstance(job, Job)
    with served.serving(modes=[mode]) as (client, made):
        assert client.get("/v1/models").json()["data"][0]["modes"] == [
            "sampled",
            "together",
            "superposed",
        ]

        def asked(*words: str, **more: Any) -> Any:
            drafts = {"mode": "together", "words": words}
            return client.post("/v1/completions", json=BODY | {"drafts": drafts} | more)

        answer = asked("sea", "sun", n=3).json()
        assert answer["drafts"] == {"mode": "together"}
        assert [one["text"] for one in answer["choices"]] == [f"sea{i} sun{i} " for i in range(3)]
        assert [one["score"] for one in answer["choices"]] == [0.0, -1.0, -2.0]
        assert answer["usage"]["completion_tokens"] == 6
        assert answer["usage"]["forward_passes"] == 2
        streamed = served.pieces(asked("sea", "sun", stream=True))
        assert [piece["choices"][0]["text"] for piece in streamed] == ["sea0 ", "sun0 "]
        late = asked("slow", "slow", "slow", time_budget_ms=60).json()["choices"][0]
        assert late["text"].startswith("slow0")
        assert late["time_budget_exceeded"] is True
        assert asked("sea", "broken").status_code == 500
        assert asked("sea").json()["choices"][0]["text"] == "sea0 "
        plain = client.post("/v1/completions", json=BODY).json()
        assert plain["drafts"] == {"mode": "sampled"}
        assert made.service.engine.healthy


@pytest.mark.parametrize(("words", "status"), [(["sea"], 200), (["broken"], 500)])
def test_texts_that_end_before_their_stream_begins_are_not_lost(
    monkeypatch: pytest.MonkeyPatch, words: list[str], status: int
) -> None:
    with served.serving(modes=[Together()]) as (client, made):
        engine = made.service.engine
        submit = engine.submit

        def slowly(works: Sequence[Work], listener: Any) -> Any:
            ticket = submit(works, listener)
            while ticket.left:
                time.sleep(0.001)
            return ticket

        monkeypatch.setattr(engine, "submit", slowly)
        drafts = {"mode": "together", "words": words}
        answer = client.post("/v1/completions", json=BODY | {"drafts": drafts, "n": 2})
        assert answer.status_code == status
        if status == 200:
            assert [one["text"] for one in answer.json()["choices"]] == ["sea0 ", "sea1 "]


def test_a_listener_that_is_gone_disturbs_nobody() -> None:
    with served.serving() as (_, made):
        told: list[int] = []
        heard: list[Any] = []

        def gone(number: int, news: Any) -> None:
            told.append(number)
            raise RuntimeError("Event loop is closed")

        request = Request(prompt=(5, 6), max_tokens=90)
        stays = made.service.engine.submit([request], lambda _, news: heard.append(news))
        ticket = made.service.engine.submit([request, request], gone)
        while stays.left:
            time.sleep(0.01)
        assert (ticket.left, told) == (0, [0])
        assert all(isinstance(news, Delta) for news in heard)
        assert sum(news.tokens for news in heard) == 90


def test_results_are_found_by_what_was_typed_since() -> None:
    results = Results(2)
    results.put("a", "red ", text="moon rises", finish_reason="stop")
    assert results.find("a", "red ") is not None
    found = results.find("a", "red moon")
    assert found is not None
    assert (found.text, found.matched, found.finish_reason) == (" rises", 4, "stop")
    assert results.find("b", "red moon") is None
    assert results.find("a", "red mood") is None
    assert results.find("a", "red moon rises") is None  # nothing is left of it
    results.put("a", "x", text="1", finish_reason="stop")
    results.put("a", "y", text="2", finish_reason="stop")
    assert results.find("a", "red ") is None  # the oldest is gone
    results.put("a", "x" * 2**19, text="3", finish_reason="stop")
    assert results.find("a", "x") is not None  # a prompt of megabytes does not take its place
    many = Results(1000)
    for i in range(100):  # long ones count by their letters
        for text in ("4", "5"):
            many.put(i, "x" * 2**18, text=text, finish_reason="stop")
    found = [many.find(i, "x" * 2**18) is not None for i in range(100)]
    assert found == [i >= 100 - 63 for i in range(100)]
    none = Results(0)
    none.put("a", "x", text="1", finish_reason="stop")
    assert none.find("a", "x") is None


@pytest.mark.parametrize("prompt", ["", "x" * 10_000])
def test_a_prompt_of_any_length_can_be_looked_up(prompt: str) -> None:
    assert Results(4).find("a", prompt) is None
