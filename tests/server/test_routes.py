"""Chats, infills, models, and what is refused."""

import importlib
import importlib.util
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

import attar.server
import served
import talk
from attar.decode import continuous
from attar.errors import CompatibilityError, ConfigError, MissingExtraError
from attar.server.chat import rendered
from attar.server.config import ServeConfig, keys_of
from attar.server.schemas import ChatBody
from attar.server.serving import build_server
from attar.web.errors import ApiError

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "red moon"}],
    "temperature": 0,
    "max_tokens": 6,
}
INFILL: dict[str, Any] = {"input_prefix": "red moon ", "input_suffix": " stone", "n_predict": 6}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with served.serving(served.generator()) as (client, _):
        yield client


def asked(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, path: str, body: Any, *, status: int = 400) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def test_a_chat_is_the_completion_of_its_template(client: TestClient) -> None:
    answer = asked(client, "/v1/chat/completions", CHAT)
    rendered = served.tokenizer().apply_chat_template(
        CHAT["messages"], tokenize=False, add_generation_prompt=True
    )
    body = {"prompt": rendered, "temperature": 0, "max_tokens": 6}
    plain = asked(client, "/v1/completions", body)
    choice = answer["choices"][0]
    assert answer["object"] == "chat.completion"
    assert choice["message"] == {
        "role": "assistant",
        "content": plain["choices"][0]["text"],
        "refusal": None,
    }
    assert choice["finish_reason"] == plain["choices"][0]["finish_reason"]
    for name in ("prompt_tokens", "completion_tokens"):
        assert answer["usage"][name] == plain["usage"][name]
    parts = [{"role": "user", "content": [{"type": "text", "text": "red moon"}]}]
    assert asked(client, "/v1/chat/completions", CHAT | {"messages": parts})["choices"] == [choice]


def test_the_template_sees_which_tools_were_called() -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}{% for c in m.tool_calls or () %} {{ c.id }}:"
        "{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
        "{{ m.tool_call_id }} {{ m.name }}>{{ m.content }}{% endfor %}"
    )
    service: Any = SimpleNamespace(tokenizer=served.tokenizer(template=template))
    calls = [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": given}}
        for given in ('{"x": 1}', "{broken", {"y": 2})
    ]
    messages = [
        {"role": "user", "content": "red", "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    ]
    body = ChatBody.model_validate({"messages": messages})
    assert rendered(service, body) == (
        '<user Ann>red<assistant c:f{"x": 1} c:f"{broken" c:f{"y": 2} ><toolc >42'
    )
    calls[0]["function"]["arguments"] = '{"x": "\\ud800"}'  # half a character
    body = ChatBody.model_validate({"messages": messages})
    with pytest.raises(ApiError, match="messages should be valid Unicode"):
        rendered(service, body)


def test_a_chat_streams(client: TestClient) -> None:
    whole = asked(client, "/v1/chat/completions", CHAT | {"logprobs": True, "top_logprobs": 2})
    more = {"stream": True, "logprobs": True, "top_logprobs": 2}
    more["stream_options"] = {"include_usage": True}
    got = served.pieces(client.post("/v1/chat/completions", json=CHAT | more))
    assert got.pop()["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    deltas = [piece["choices"][0] for piece in got]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    said = "".join(one["delta"].get("content", "") for one in deltas)
    choice = whole["choices"][0]
    assert said == choice["message"]["content"]
    assert deltas[-1]["finish_reason"] == choice["finish_reason"]
    told = [one for piece in deltas if piece["logprobs"] for one in piece["logprobs"]["content"]]
    assert [one["token"] for one in told] == [o["token"] for o in choice["logprobs"]["content"]]
    assert all(len(one["top_logprobs"]) == 2 for one in told)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/infill"])
def test_letters_of_several_tokens_are_streamed_whole(
    path: str, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "\u0e44\u0e17\u0e22\u0e44\u0e21\u0e48 \u6708\u4eae sea \U0001f469\u200d\U0001f680 e\u0301"
    )
    call: Any = served.tokenizer()
    ids = call(words, add_special_tokens=False)["input_ids"]
    left = list(ids)
    monkeypatch.setattr(continuous, "choose", lambda *_: [left.pop(0)])
    start = {"/v1/completions": {"prompt": "red"}, "/v1/chat/completions": CHAT, "/infill": {}}
    count = {"max_tokens": len(ids), "n_predict": len(ids), "cache_prompt": False}
    lines = client.post(path, json=start[path] | count | {"stream": True}).text.split("\n\n")
    pieces = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    choices = [piece["choices"][0] if "choices" in piece else piece for piece in pieces]
    said = [
        one.get("text") or one.get("content") or one.get("delta", {}).get("content") or ""
        for one in choices
    ]
    assert "".join(said) == words
    assert not any("\ufffd" in piece for piece in said)
    assert len(said) >= len(ids) > 2 * len(words)


def test_a_suffix_and_an_infill_are_one_prompt(client: TestClient) -> None:
    body = {"prompt": "red moon ", "suffix": " stone", "temperature": 0, "max_tokens": 6}
    middle = asked(client, "/v1/completions", body)
    filled = asked(client, "/infill", INFILL)
    assert filled["content"] == middle["choices"][0]["text"]
    call: Any = served.tokenizer()
    text = "<fim_prefix>red moon <fim_suffix> stone<fim_middle>"
    ids = call(text)["input_ids"]
    by_hand = {"prompt": ids, "temperature": 0, "max_tokens": 6}
    assert asked(client, "/v1/completions", by_hand)["choices"] == middle["choices"]
    assert filled["tokens_evaluated"] == len(ids)
    assert filled["truncated"] is False
    assert filled["timings"]["predicted_n"] == filled["tokens_predicted"] > 0


def test_an_infill_speaks_as_llama_vim_does(client: TestClient) -> None:
    asked_for = ["content", "timings/prompt_n", "timings/predicted_ms", "truncated", "unknown"]
    more: dict[str, Any] = {
        "input_extra": [{"filename": "a.py", "text": "sea sea"}, {"text": "sun", "filename": "b"}],
        "prompt": "gre",
        "n_indent": 4,
        "top_k": 40,
        "top_p": 0.9,
        "samplers": ["top_k", "top_p", "infill"],
        "stream": False,
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 3000,
        "response_fields": asked_for,
    }
    answer = asked(client, "/infill", INFILL | more)
    assert set(answer) == set(asked_for) - {"unknown"}
    assert answer["timings/prompt_n"] > 0
    warm = INFILL | {"n_predict": 0, "t_max_prompt_ms": 1, "t_max_predict_ms": 1, "prompt": "sun"}
    assert asked(client, "/infill", warm | {"response_fields": [""]}) == {}
    after = asked(client, "/infill", INFILL | {"prompt": "sun", "cache_prompt": True})
    assert after["timings"]["prompt_n"] == 1  # the rest was read by the request before
    content = after["content"]
    typed = asked(client, "/infill", INFILL | {"prompt": "sun" + content[:2]})
    assert (typed["content"], typed["matched"]) == (content[2:], 2)
    streamed = client.post("/infill", json=INFILL | {"stream": True, "cache_prompt": False}).text
    lines = [json.loads(line[6:]) for line in streamed.split("\n\n") if line]
    assert "".join(line["content"] for line in lines) == asked(client, "/infill", INFILL)["content"]
    assert [line["stop"] for line in lines] == [False] * (len(lines) - 1) + [True]


def test_a_long_infill_keeps_what_is_near_the_cursor(client: TestClient) -> None:
    words = "red green blue sun moon sea tree stone " * 40
    body = {"input_prefix": words, "input_suffix": words, "n_predict": 4}
    answer = asked(client, "/infill", body | {"input_extra": [{"text": words}]})
    assert answer["truncated"] is True
    assert answer["tokens_evaluated"] <= served.CONTEXT - 4


def test_models_and_health(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert [one["id"] for one in listed["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json() == listed["data"][0]
    assert client.get("/v1/models/other").status_code == 404
    assert client.get("/healthz").json() == {"status": "ok"}
    asked(client, "/v1/completions", {"prompt": "red", "max_tokens": 2})
    metrics = client.get("/metrics").text
    assert 'attar_http_requests_total{route="/v1/completions",status="200"}' in metrics
    assert "attar_completion_tokens_total" in metrics


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("/v1/completions", {"prompt": 5}, "prompt"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": [[]]}, "prompt"),
        ("/v1/completions", {"prompt": [100_000]}, "prompt"),
        ("/v1/completions", {"prompt": [-1]}, "prompt"),
        ("/v1/completions", {"prompt": None}, "prompt"),
        ("/v1/completions", {"max_tokens": -1}, "max_tokens"),
        ("/v1/completions", {"max_tokens": 10**9}, "prompt"),
        ("/v1/completions", {"max_tokens": "5"}, "max_tokens"),
        ("/v1/completions", {"max_tokens": 5.5}, "max_tokens"),
        ("/v1/completions", {"n": 0}, "n"),
        ("/v1/completions", {"n": 100}, "n"),
        ("/v1/completions", {"n": 100_000}, "n"),
        ("/v1/completions", {"n": 3, "best_of": 2}, "best_of"),
        ("/v1/completions", {"best_of": 2, "stream": True}, "best_of"),
        ("/v1/completions", {"temperature": -0.1}, "temperature"),
        ("/v1/completions", {"temperature": True}, "temperature"),
        ("/v1/completions", {"top_p": 0}, "top_p"),
        ("/v1/completions", {"logprobs": 21}, "logprobs"),
        ("/v1/completions", {"logit_bias": {"5": 101}}, "logit_bias"),
        ("/v1/completions", {"logit_bias": {"x": 1}}, "logit_bias"),
        ("/v1/completions", {"logit_bias": {"99999": 1}}, "logit_bias"),
        ("/v1/completions", {"stop": [""]}, "stop"),
        ("/v1/completions", {"stop": ["a"] * 17}, "stop"),
        ("/v1/completions", {"stream": "yes"}, "stream"),
        ("/v1/completions", {"time_budget_ms": 0}, "time_budget_ms"),
        ("/v1/completions", {"drafts": {"mode": "beam"}}, "drafts"),
        ("/v1/completions", {"drafts": {"mode": "sampled", "anchor_first": True}}, None),
        ("/v1/completions", {"suffix": "x", "echo": True}, "suffix"),
        ("/v1/completions", {"type_ahead": True, "n": 2}, "type_ahead"),
        ("/v1/completions", {"prompt": "red " * 300}, "prompt"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": [{"content": "x"}]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages"),
        ("/infill", {"n_predict": "x"}, "n_predict"),
        ("/infill", {"input_extra": [{"filename": "a"}]}, "input_extra"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(
    path: str, change: dict[str, Any], param: str | None, client: TestClient
) -> None:
    start = {"/v1/completions": {"prompt": "red"}, "/v1/chat/completions": CHAT, "/infill": INFILL}
    error = refused(client, path, start[path] | change)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    asked(client, "/v1/completions", {"prompt": "red", "max_tokens": 1})


def test_unknown_fields_are_ignored_and_unknown_models_are_not(client: TestClient) -> None:
    body = {"prompt": "red", "max_tokens": 1, "user": "me", "ignore_eos": 5, "model": "tiny"}
    asked(client, "/v1/completions", body)
    for path, start in (("/v1/completions", body), ("/v1/chat/completions", CHAT)):
        error = refused(client, path, start | {"model": "gpt-4"}, status=404)
        assert error["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"prompt": NaN}', "application/json"),
        (b'{"prompt": "\\ud800"}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"prompt": "red"}', "text/plain"),  # what a web page can send without being asked
    ],
)
def test_what_is_not_json_is_refused(data: bytes, kind: str, client: TestClient) -> None:
    response = client.post("/v1/completions", content=data, headers={"content-type": kind})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_paths_and_methods_that_do_not_exist(client: TestClient) -> None:
    for response, status in (
        (client.get("/v1/nothing"), 404),
        (client.get("/v1/completions"), 405),
    ):
        assert response.status_code == status
        assert "/v1/" in response.json()["error"]["message"]


def test_models_that_cannot_do_it_say_so() -> None:
    made = served.generator(template=None, fim=False)
    with served.serving(made) as (client, _):
        assert "chat template" in refused(client, "/v1/chat/completions", CHAT)["message"]
        assert "fill-in-the-middle" in refused(client, "/infill", INFILL)["message"]
        body = {"prompt": "red", "suffix": "x"}
        assert refused(client, "/v1/completions", body)["param"] == "suffix"
        assert client.get("/v1/models").json()["data"][0]["infill"] is False
    strict = talk.CHATML + "{{ raise_exception('roles must alternate') }}"
    for template, reason in ((strict, "must alternate"), ("{{ 1 / 0 }}", "division by zero")):
        with served.serving(served.generator(template=template)) as (client, _):
            assert reason in refused(client, "/v1/chat/completions", CHAT)["message"]


def test_options_that_do_not_fit_are_refused_before_anything_runs() -> None:
    made = served.generator()
    with pytest.raises(ConfigError, match="needs a draft"):
        build_server(made, name="x", config=ServeConfig(mode="speculative"))
    with pytest.raises(ConfigError, match="at most the model's 256 positions; found 300"):
        build_server(made, name="x", config=ServeConfig(context=300))
    for wrong in ({"rows": 0}, {"queue": -1}, {"port": 70_000}, {"api_key": (" ",)}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ServeConfig(**wrong)  # pyright: ignore[reportArgumentType]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name)
    )
    with pytest.raises(MissingExtraError, match=r"needs the package uvicorn; run pip install"):
        importlib.reload(attar.server)


def test_other_machines_need_a_key() -> None:
    assert keys_of(ServeConfig(), None) == ()
    assert keys_of(ServeConfig(), "a, b") == ("a", "b")
    assert keys_of(ServeConfig(api_key=("c",)), "a") == ("c",)
    for host in ("0.0.0.0", "::", "example.org"):
        with pytest.raises(ConfigError, match="--api-key"):
            keys_of(ServeConfig(host=host), "")
        assert keys_of(ServeConfig(host=host), "a") == ("a",)


def test_models_that_are_no_decoders_are_refused() -> None:
    made = served.generator()
    made.model.config.is_encoder_decoder = True
    with pytest.raises(CompatibilityError):
        build_server(made, name="x")
