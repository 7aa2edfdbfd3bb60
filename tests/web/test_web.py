"""What every server stands on: keys, limits, errors and metrics."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from attar.errors import DataError
from attar.web import guards
from attar.web.app import WebConfig, build
from attar.web.errors import ApiError


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = ""


def client_of(**options: Any) -> TestClient:
    app = build(
        "test",
        config=WebConfig(**options),
        registry=CollectorRegistry(),
        healthy=lambda: True,
    )

    @app.post("/echo")
    async def echo(body: Body) -> Any:
        if body.text == "attar":
            raise DataError("expected A, found B")
        if body.text == "api":
            raise ApiError(418, "no coffee", param="text", headers={"X-Why": "tea"})
        if body.text == "bug":
            raise ZeroDivisionError("a secret path")
        return {"text": body.text}

    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with client_of(most_bytes=100) as client:
        yield client


def test_every_error_is_an_error_object(client: TestClient) -> None:
    for text, status, message in (
        ("attar", 400, "expected A, found B"),
        ("api", 418, "no coffee"),
        ("bug", 500, "the server failed; its log says why"),
    ):
        response = client.post("/echo", json={"text": text})
        assert response.status_code == status
        assert response.json()["error"]["message"] == message
    assert client.post("/echo", json={"text": "api"}).headers["x-why"] == "tea"
    assert client.post("/echo", json={"text": 5}).json()["error"] == {
        "message": "text should be a valid string; found 5",
        "type": "invalid_request_error",
        "param": "text",
        "code": "invalid_value",
    }
    said = client.post("/echo", json={"txt": "a"}).json()["error"]["message"]
    assert said.startswith("there is no field txt; leave it out")


def test_large_bodies_are_refused(client: TestClient) -> None:
    assert client.post("/echo", json={"text": "x" * 60}).status_code == 200
    big = b'{"text": "' + b"x" * 200 + b'"}'
    announced = client.post("/echo", content=big, headers={"content-type": "application/json"})

    def chunks() -> Iterator[bytes]:
        yield big[:50]
        yield big[50:]

    hidden = client.post("/echo", content=chunks(), headers={"content-type": "application/json"})
    for response in (announced, hidden):
        assert response.status_code == 413
        assert "100 bytes" in response.json()["error"]["message"]


def test_a_body_that_does_not_come_is_not_waited_for(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "PATIENCE", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        if sent:
            await asyncio.sleep(60)
        sent.append("half")
        return {"type": "http.request", "body": b'{"te', "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/echo", "headers": []}
    limit: Any = guards.BodyLimit(client.app, most=100)
    asyncio.run(limit(scope, receive, send))
    assert sent[1]["status"] == 408
    assert (b"connection", b"close") in sent[1]["headers"]
    assert "nothing more of the body" in json.loads(sent[2]["body"])["error"]["message"]


def test_keys() -> None:
    with client_of(keys=["one", "zwei"]) as client:
        for given in ("", "Bearer", "Bearer on", "Bearer onee", "Basic one", "Bearer \xe9"):
            headers = {"authorization": given.encode("latin-1")}
            response = client.post("/echo", json={}, headers=headers)  # pyright: ignore[reportArgumentType]
            assert response.status_code == 401, given
            assert response.json()["error"]["code"] == "invalid_api_key"
        for given in ("Bearer one", "bearer zwei"):
            assert client.post("/echo", json={}, headers={"authorization": given}).is_success
        assert client.get("/metrics").status_code == 401
        assert client.get("/openapi.json").status_code == 401
        assert client.get("/healthz").status_code == 200


def test_web_pages_may_not_ask_unless_they_are_named() -> None:
    headers = {"origin": "https://page.example", "access-control-request-method": "POST"}
    allowed = "access-control-allow-origin"
    with client_of(keys=["one"]) as client:
        assert allowed not in client.options("/echo", headers=headers).headers
    with client_of(keys=["one"], origins=["https://page.example"]) as client:
        response = client.options("/echo", headers=headers)
        assert response.headers[allowed] == "https://page.example"
        other = headers | {"origin": "https://other.example"}
        assert allowed not in client.options("/echo", headers=other).headers


def test_without_keys_other_hosts_are_refused() -> None:
    """A web page can make its own name lead to this machine."""
    with client_of(hosts=["localhost", "[::1]"], otherwise="a key") as client:
        for host in ("localhost", "localhost:8000", "LocalHost", "[::1]:8000"):
            assert client.post("/echo", json={}, headers={"host": host}).is_success
        for host in ("page.example", "page.example:8000", "localhost.page.example"):
            response = client.post("/echo", json={}, headers={"host": host})
            assert response.status_code == 403
            assert response.json()["error"]["code"] == "host_not_allowed"
            assert response.json()["error"]["message"].endswith("or start it with a key")


def test_requests_are_counted_by_route(client: TestClient) -> None:
    client.post("/echo", json={"text": "a"})
    client.post("/echo", json={"text": "bug"})
    client.get("/somebody/elses/path")
    text = client.get("/metrics").text
    for route, status in (("/echo", 200), ("/echo", 500), ("none", 404)):
        assert f'attar_http_requests_total{{route="{route}",status="{status}"}} 1.0' in text
    assert "somebody" not in text


def test_requests_of_other_sites_pages_are_refused_where_cookies_log_in() -> None:
    with client_of(cookies=True) as client:
        for headers in (
            {},  # a program
            {"origin": "http://testserver"},
            {"sec-fetch-site": "same-origin", "origin": "http://testserver"},
            {"sec-fetch-site": "none"},
        ):
            assert client.post("/echo", json={}, headers=headers).is_success, headers
        for headers in (
            {"origin": "http://page.example"},
            {"origin": "http://testserver.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site", "origin": "http://testserver"},
        ):
            response = client.post("/echo", json={}, headers=headers)
            assert response.status_code == 403, headers
            assert response.json()["error"]["code"] == "cross_origin"
            assert client.get("/healthz", headers=headers).is_success  # reading changes nothing
    with client_of() as client:
        assert client.post("/echo", json={}, headers={"origin": "http://x"}).is_success


def test_errors_bring_their_own_status_and_time_to_wait() -> None:
    class Busy(DataError):
        status, code, retry_after = 429, "busy", 1.2

    app = build("t", config=WebConfig(), registry=CollectorRegistry(), healthy=lambda: True)

    @app.get("/busy")
    def busy() -> None:
        raise Busy("wait a little")

    with TestClient(app) as client:
        response = client.get("/busy")
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert response.json()["error"]["code"] == "busy"


def test_metrics_may_be_guarded() -> None:
    def guard(request: Any) -> None:
        if request.headers.get("authorization") != "me":
            raise ApiError(403, "not you")

    app = build(
        "t",
        config=WebConfig(),
        registry=CollectorRegistry(),
        healthy=lambda: True,
        metrics_guard=guard,
    )
    with TestClient(app) as client:
        assert client.get("/metrics").status_code == 403
        assert client.get("/metrics", headers={"authorization": "me"}).status_code == 200
