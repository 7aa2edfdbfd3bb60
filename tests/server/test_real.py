"""Over a socket: the `openai` client, clients that leave, a fuzzer, and how a server ends."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

import attar
import served
from attar.decode.continuous import Batch
from attar.server.config import ServeConfig
from attar.server.serving import Served
from attar.web.running import Server


@pytest.fixture(scope="module")
def made() -> Served:
    config = ServeConfig(context=served.CONTEXT, rows=3)
    return attar.server.serving.build_server(
        served.generator(), name="tiny", config=config, keys=["secret"]
    )


@pytest.fixture(scope="module")
def url(made: Served) -> Iterator[str]:
    with served.listening(made) as server:
        yield server.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0) as client:
        yield client


def test_the_openai_client_completes_chats_and_streams(client: openai.OpenAI) -> None:
    drawn: dict[str, Any] = {"model": "tiny", "max_tokens": 8, "temperature": 1, "seed": 5}
    three = client.completions.create(prompt="red moon", n=3, logprobs=2, **drawn)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len({choice.text for choice in three.choices}) == 3
    assert three.usage is not None
    assert three.usage.completion_tokens <= 24
    logprobs = three.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert len(logprobs.tokens) == len(logprobs.token_logprobs or [])
    pieces = client.completions.create(prompt="red moon", stream=True, **drawn)
    assert "".join(piece.choices[0].text for piece in pieces) == three.choices[0].text
    messages: Any = [{"role": "system", "content": "sea"}, {"role": "user", "content": "sun"}]
    chat = client.chat.completions.create(messages=messages, n=2, **drawn)
    assert [choice.message.role for choice in chat.choices] == ["assistant"] * 2
    options: Any = {"stream_options": {"include_usage": True}, "stream": True}
    chunks = list(client.chat.completions.create(messages=messages, **options, **drawn))
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == chat.choices[0].message.content
    assert chunks[-1].usage is not None
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_the_openai_client_knows_our_errors(url: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature should be"):
        client.completions.create(model="tiny", prompt="red", temperature=-1)
    with pytest.raises(openai.NotFoundError, match="this server has the model 'tiny'"):
        client.completions.create(model="other", prompt="red")
    wrong = openai.OpenAI(base_url=f"{url}/v1", api_key="guess", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_is_noticed(
    stream: bool, url: str, made: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Batch.step

    def slow(batch: Batch) -> Any:
        time.sleep(0.02)
        return step(batch)

    monkeypatch.setattr(Batch, "step", slow)
    before = made.service.meters.totals()["cancelled_requests"]
    body: dict[str, Any] = {"prompt": "red", "max_tokens": 190, "stream": stream}
    body["logit_bias"] = {str(token): -100 for token in made.service.fim.ends} | {"3": 50}  # pyright: ignore[reportOptionalMemberAccess]
    headers = {"authorization": "Bearer secret"}
    options: dict[str, Any] = {"url": f"{url}/v1/completions", "json": body, "headers": headers}
    if stream:
        with httpx.stream("POST", **options) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(**options, timeout=0.2)
    until = time.monotonic() + 5
    while made.service.meters.totals()["cancelled_requests"] == before:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_crowd_gets_what_it_asked_for(
    url: str, made: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every client forces a token of its own, so that an answer that was mixed up shows another's;
    others leave in the middle, at once and in the worst way."""
    step = Batch.step

    def slow(batch: Batch) -> Any:
        time.sleep(0.002)
        return step(batch)

    monkeypatch.setattr(Batch, "step", slow)
    headers = {"authorization": "Bearer secret"}

    def asked(client: httpx.Client, number: int) -> None:
        token = 40 + number
        body: dict[str, Any] = {"prompt": "red " * (1 + number % 5), "max_tokens": 5 + number % 7}
        body["logit_bias"] = {str(token): 100}
        if number % 3 == 0:  # leaves
            sent = body | {"stream": True, "max_tokens": 150}
            with client.stream("POST", "/v1/completions", json=sent) as response:
                next(response.iter_raw())
            return
        answer = client.post("/v1/completions", json=body).json()
        expected = made.service.tokenizer.decode([token] * body["max_tokens"])
        assert answer["choices"][0]["text"] == expected
        assert client.get("/metrics").is_success

    with (
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        assert len(list(pool.map(partial(asked, client), range(36)))) == 36
        until = time.monotonic() + 5
        while "attar_texts_live 0.0" not in (told := client.get("/metrics").text):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert "attar_rows_used 0.0" in told


def test_only_a_second_interrupt_ends_what_runs() -> None:
    server = Server(None, host="127.0.0.1", port=0, grace=0)  # pyright: ignore[reportArgumentType]
    told = []
    for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        server.handle_exit(sign, None)
        told.append((server.should_exit, server.force_exit))
    server._socket.close()  # pyright: ignore[reportPrivateUsage]
    assert told == [(True, False), (True, False), (True, True), (True, True)]


SENT = ("method", "url", "json", "content", "headers", "params")
OPERATIONS = ("/v1/completions", "/v1/chat/completions", "/infill")


@pytest.mark.parametrize("path", OPERATIONS)
def test_no_request_breaks_the_server(path: str) -> None:
    """What the OpenAPI document allows, and what it does not."""
    with served.serving(served.generator(), time_budget=20, queue=2) as (client, made):
        document = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        operation, seen = document[path]["POST"], set()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=10, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
            )
            def fuzz(case: Any) -> None:
                sent = case.as_transport_kwargs(base_url="http://localhost")
                sent["content"] = sent.pop("data", None)
                response = client.request(**{name: sent[name] for name in SENT if name in sent})
                assert response.status_code in (200, 400, 404, 413)
                seen.add(response.status_code)
                if response.status_code != 200:
                    assert response.json()["error"]["message"]

            fuzz()
        assert seen >= {200, 400}
        assert made.service.engine.healthy
        assert "attar_texts_live 0.0" in client.get("/metrics").text


@pytest.mark.parametrize(("grace", "finishes"), [(20, True), (0.1, False)])
def test_a_server_that_stops_finishes_or_hands_back_what_runs(
    grace: float, finishes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Batch.step

    def slow(batch: Batch) -> Any:
        time.sleep(0.01)
        return step(batch)

    monkeypatch.setattr(Batch, "step", slow)
    config = ServeConfig(context=served.CONTEXT, rows=2)
    made = attar.server.serving.build_server(
        served.generator(endless=True), name="tiny", config=config
    )
    body = {"prompt": "red", "max_tokens": 60, "temperature": 0}
    with ThreadPoolExecutor(2) as pool, served.listening(made, grace=grace) as server:
        whole, stream = (
            pool.submit(
                httpx.post,
                f"{server.url}/v1/completions",
                json=body | {"stream": in_pieces},
                timeout=20,
            )
            for in_pieces in (False, True)
        )
        while made.service.meters.totals()["completion_tokens"] < 5:
            time.sleep(0.01)
        server.handle_exit(signal.SIGTERM, None)
        server.handle_exit(signal.SIGTERM, None)  # an impatient supervisor changes nothing
        pieces = served.pieces(stream.result())
        assert [piece["choices"][0]["finish_reason"] for piece in pieces[-2:]] == [None, "length"]
        assert (len(pieces) == 60) == finishes
        answer = whole.result().json()
        assert answer["choices"][0]["finish_reason"] == "length"
        assert (answer["usage"]["completion_tokens"] == 60) == finishes
        assert answer["usage"]["completion_tokens"] > 0
        with pytest.raises(httpx.HTTPError):
            httpx.post(f"{server.url}/v1/completions", json=body)


def test_the_verb_serves_until_it_is_interrupted() -> None:
    made = served.generator(endless=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, got = f"http://127.0.0.1:{port}", []

    def visit() -> None:
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                try:
                    httpx.get(f"{url}/healthz").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.02)
            body = {"prompt": "red moon", "max_tokens": 5, "drafts": {"mode": "speculative"}}
            got.append(httpx.post(f"{url}/v1/completions", json=body).json())
            with pytest.raises(attar.AttarError, match=f"cannot listen at 127.0.0.1:{port}"):
                Server(None, host="127.0.0.1", port=port, grace=0)  # pyright: ignore[reportArgumentType]
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=visit)
    thread.start()
    config = ServeConfig(port=port, name="mine", api_key=())
    run = attar.serve(made.model, draft="lookup", config=config, tokenizer=made.tokenizer)
    thread.join()
    assert got[0]["model"] == "mine"
    assert got[0]["drafts"] == {"mode": "speculative"}
    assert run.details["texts"] == 1
    assert run.details["completion_tokens"] == 5
    assert run.settings["port"] == port
    assert "secret" not in str(run.settings)
