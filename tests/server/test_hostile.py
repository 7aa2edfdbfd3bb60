"""What no client may do to the others, nor to the server."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import ValidationError

import served
from attar.decode import continuous
from attar.decode.fim import Fim
from attar.decode.static import Passes
from attar.decode.texts import Request
from attar.server.engine import Work
from attar.server.jobs import News
from attar.server.schemas import ChatBody, CompletionBody, InfillBody

BODY: dict[str, Any] = {"prompt": "red moon", "max_tokens": 6, "temperature": 0}
URL = "/v1/completions"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CompletionBody, {"prompt": [[]] * 999}),
        (CompletionBody, {"prompt": [5, *["red"] * 999]}),
        (CompletionBody, {"prompt": "red", "stop": [5] * 999}),
        (
            CompletionBody,
            {"prompt": "red", "logit_bias": dict.fromkeys(map(str, range(2000)), "x")},
        ),
        (ChatBody, {"messages": [5] * 999}),
        (ChatBody, {"messages": [{"role": "user", "content": [5] * 999}]}),
        (InfillBody, {"input_extra": [5] * 999}),
        (InfillBody, {"samplers": [5] * 999, "response_fields": [5] * 999}),
    ],
)
def test_a_list_of_wrong_items_is_left_at_the_first(kind: Any, body: dict[str, Any]) -> None:
    """A request has room for a million, and to report them all takes a minute."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert caught.value.error_count() <= 2


def test_the_coldest_temperature_is_none() -> None:
    with served.serving() as (client, _):
        greedy = client.post(URL, json=BODY).json()["choices"]
        cold = client.post(URL, json=BODY | {"temperature": 1e-300}).json()["choices"]
    assert cold == greedy


@pytest.mark.parametrize("part", ["forward", "_logprob"])
def test_a_pass_that_fails_leaves_nothing_behind(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is lost, and none keeps numbers that are not."""
    forward = Passes.forward

    def spoilt(self: Passes, *args: Any, **more: Any) -> Any:
        logits = forward(self, *args, **more)
        layers: Any = self.cache.layers
        for layer in layers:
            for stored in (layer.keys, layer.values):
                assert stored is not None
                stored.fill_(float("nan"))
        return logits * float("nan")

    def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("out of memory")

    bodies = [BODY, BODY | {"prompt": "green sea stone sun tree", "echo": True, "logprobs": 1}]
    with ThreadPoolExecutor(2) as pool, served.serving() as (client, _):

        def asked() -> list[Any]:
            posts = pool.map(lambda body: client.post(URL, json=body), bodies, timeout=60)
            return list(posts)

        before = [answer.json()["choices"][0]["text"] for answer in asked()]
        with monkeypatch.context() as patch:
            if part == "forward":
                patch.setattr(Passes, "forward", spoilt)
            else:
                patch.setattr(continuous, "_logprob", broken)
            for _ in range(5):  # more often than there are rows
                assert 500 in {answer.status_code for answer in asked()}
        assert [answer.json()["choices"][0]["text"] for answer in asked()] == before
        assert "attar_rows_used 0.0" in client.get("/metrics").text
        assert "attar_texts_live 0.0" in client.get("/metrics").text


class Broken:
    """A job that neither goes on nor ends."""

    def __init__(self, deadline: float | None) -> None:
        self.count, self.deadline, self.passes = 2, deadline, 0

    def step(self) -> News:
        time.sleep(0.01)
        return []

    def end(self, *, late: bool) -> News:
        raise RuntimeError("this job cannot end")

    def cancel(self) -> None:
        raise RuntimeError("this job cannot be cancelled")


class Breaking:
    name = "breaking"

    def works(self, request: Request, *, count: int, options: Mapping[str, Any]) -> Sequence[Work]:
        return [Broken(request.deadline)]

    def suits(self, request: Request) -> bool:
        return False


def test_a_job_that_cannot_end_harms_nobody() -> None:
    broken = BODY | {"n": 2, "drafts": {"mode": "breaking"}}
    with ThreadPoolExecutor(1) as pool, served.serving(modes=[Breaking()]) as (client, made):
        long = BODY | {"max_tokens": 150}
        expected = client.post(URL, json=long).json()["choices"]
        beside = pool.submit(client.post, URL, json=long)
        late = client.post(URL, json=broken | {"time_budget_ms": 50})
        assert late.status_code == 500
        assert beside.result().json()["choices"] == expected
        served.gone_after(made.app, broken, seconds=0.1, check=lambda: None)
        assert client.post(URL, json=BODY).status_code == 200
        assert "attar_texts_live 0.0" in client.get("/metrics").text
        assert made.service.engine.healthy


@pytest.mark.parametrize("path", ["/infill", URL])
def test_a_text_that_takes_long_to_read_holds_up_nobody(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = Fim.prompt

    def slow(*args: Any, **more: Any) -> Any:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return prompt(*args, **more)

    monkeypatch.setattr(Fim, "prompt", slow)
    with served.serving(served.generator()) as (client, _):
        body = {"input_prefix": "red", "prompt": "red", "suffix": "sun", "n_predict": 1}
        assert client.post(path, json=body).status_code == 200


def test_a_prompt_may_fill_the_context_where_nothing_is_written() -> None:
    full = BODY | {"prompt": [5] * served.CONTEXT, "echo": True, "logprobs": 0}
    with served.serving() as (client, _):
        told = client.post(URL, json=full | {"max_tokens": 0}).json()["choices"][0]["logprobs"]
        assert len(told["tokens"]) == served.CONTEXT
        refused = client.post(URL, json=full | {"max_tokens": 1}).json()["error"]
        assert "found 200 and 1" in refused["message"]
        messages = [{"role": "user", "content": "red " * 300}]
        chat = client.post("/v1/chat/completions", json={"messages": messages}).json()["error"]
        assert (chat["param"], chat["code"]) == ("messages", "context_length_exceeded")


def test_what_cannot_be_promised_is_refused() -> None:
    chat = {"messages": [{"role": "user", "content": "red"}], "max_tokens": 1}
    tools = [{"type": "function", "function": {"name": "f"}}]
    with served.serving(served.generator()) as (client, _):

        def asked(**more: Any) -> Any:
            return client.post("/v1/chat/completions", json=chat | more)

        assert asked(tools=tools, tool_choice="auto").status_code == 200
        assert asked(response_format={"type": "text"}, tool_choice="none").status_code == 200
        assert asked(response_format={"type": "json_object"}).json()["error"]["message"] == (
            "response_format.type should be 'text'; found 'json_object'"
        )
        for choice in ("required", {"type": "function", "function": {"name": "f"}}):
            assert asked(tools=tools, tool_choice=choice).json()["error"]["param"] == "tool_choice"
        picture = [{"type": "image_url", "image_url": {"url": "data:"}}]
        error = asked(messages=[{"role": "user", "content": picture}]).json()["error"]
        assert error["message"] == "messages.0.content.0.type should be 'text'; found 'image_url'"
        nested = json.dumps(chat)[:-1] + ', "x": ' + "[" * 5000 + "]" * 5000 + "}"
        kind = {"content-type": "application/json"}
        deep = client.post("/v1/chat/completions", content=nested, headers=kind)
        assert deep.json()["error"]["message"] == "the body cannot be read as JSON"
