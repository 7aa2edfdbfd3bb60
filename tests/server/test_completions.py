"""`/v1/completions`: what is asked for is what is written, whoever else asks at the same time."""

import math
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

import served
from attar.decode.continuous import Batch
from attar.decode.generate import GenerateConfig
from attar.server.serving import Served

URL = "/v1/completions"
GREEDY: dict[str, Any] = {"prompt": "red moon", "temperature": 0, "max_tokens": 6}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[TestClient, Served]]:
    with served.serving() as both:
        yield both


@pytest.fixture
def client(both: tuple[TestClient, Served]) -> TestClient:
    return both[0]


def asked(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post(URL, json=GREEDY | body)
    assert response.status_code == 200, response.text
    return response.json()


def text(client: TestClient, **body: Any) -> str:
    return asked(client, **body)["choices"][0]["text"]


def test_a_completion_is_what_generate_writes(client: TestClient) -> None:
    made = served.generator(endless=True)
    config = GenerateConfig(max_new_tokens=6)
    expected = next(made.write(["red moon"], config=config)).removeprefix("red moon")
    answer = asked(client)
    assert answer["choices"] == [
        {"index": 0, "text": expected, "logprobs": None, "finish_reason": "length"}
    ]
    assert answer["object"] == "text_completion"
    assert answer["model"] == "tiny"
    assert answer["drafts"] == {"mode": "sampled"}
    prompt = len(made.tokenizer("red moon")["input_ids"])  # pyright: ignore[reportArgumentType]
    assert answer["usage"]["prompt_tokens"] == prompt
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["usage"]["total_tokens"] == prompt + 6
    assert answer["usage"]["forward_passes"] == 6


def test_a_stream_is_the_same_in_pieces(client: TestClient) -> None:
    body = {"stream": True, "stream_options": {"include_usage": True}, "logprobs": 1, "n": 2}
    whole = asked(client, n=2, logprobs=1, seed=1, temperature=1)
    got = served.pieces(client.post(URL, json=GREEDY | body | {"seed": 1, "temperature": 1}))
    assert got[-1]["choices"] == []
    usage = got.pop()["usage"]
    assert usage["completion_tokens"] == 12
    assert usage["forward_passes"] == whole["usage"]["forward_passes"] < 12
    for number, expected in enumerate(whole["choices"]):
        own = [p["choices"][0] for p in got if p["choices"][0]["index"] == number]
        assert len(own) > 1
        assert "".join(piece["text"] for piece in own) == expected["text"]
        assert [piece["finish_reason"] for piece in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] == "length"
        for name, values in expected["logprobs"].items():
            joined = [value for piece in own for value in piece["logprobs"][name]]
            if name == "token_logprobs":
                assert joined == pytest.approx(values, abs=1e-4)
            elif name != "top_logprobs":
                assert joined == values


def test_many_clients_get_what_they_would_get_alone(client: TestClient) -> None:
    rng = random.Random(0)
    words = ["red", "green", "sun", "moon", "sea", "stone"]
    bodies = [
        {
            "prompt": " ".join(rng.choices(words, k=rng.randint(1, 12))),
            "max_tokens": rng.randint(1, 9),
            "temperature": rng.choice([0, 0.8, 1]),
            "top_p": rng.choice([0.8, 1]),
            "seed": i,
            "stop": rng.choice([None, ["e"]]),
        }
        for i in range(12)
    ]
    alone = [text(client, **body) for body in bodies]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda body: text(client, **body), bodies))
    assert together == alone
    assert len(set(alone)) > 6


def test_seeds_reproduce_and_choices_differ(client: TestClient) -> None:
    drawn: dict[str, Any] = {"temperature": 1, "seed": 7, "n": 3, "max_tokens": 8}
    first, again = (asked(client, **drawn)["choices"] for _ in range(2))
    assert [one["text"] for one in first] == [one["text"] for one in again]
    assert len({one["text"] for one in first}) == 3
    assert text(client, **drawn | {"n": 1, "seed": 8}) == first[1]["text"]
    free = {text(client, temperature=1, max_tokens=8) for _ in range(4)}
    assert len(free) > 1


def test_the_best_of_several_has_the_highest_likelihood(client: TestClient) -> None:
    drawn: dict[str, Any] = {"temperature": 1, "seed": 7, "logprobs": 0}
    every = asked(client, **drawn, n=5)["choices"]
    ranked = sorted(every, key=lambda one: -sum(one["logprobs"]["token_logprobs"]))
    best = asked(client, **drawn, n=2, best_of=5)
    assert [one["text"] for one in best["choices"]] == [one["text"] for one in ranked[:2]]
    assert best["usage"]["completion_tokens"] == 30
    without = asked(client, **drawn | {"logprobs": None}, n=1, best_of=5)["choices"][0]
    assert (without["text"], without["logprobs"]) == (ranked[0]["text"], None)


def test_lists_of_prompts_and_of_tokens(client: TestClient) -> None:
    made = served.generator(endless=True)
    prompts = ["red moon", "green sea stone"]
    call: Any = made.tokenizer
    ids = call(prompts)["input_ids"]
    by_text = asked(client, prompt=prompts, n=2)["choices"]
    by_ids = asked(client, prompt=ids, n=2)["choices"]
    assert by_text == by_ids
    assert [one["index"] for one in by_text] == [0, 1, 2, 3]
    assert by_text[2]["text"] == text(client, prompt=prompts[1]) == by_text[3]["text"]
    assert text(client, prompt=ids[1]) == by_text[2]["text"]


def test_logprobs_are_those_of_the_model(client: TestClient) -> None:
    made = served.generator(endless=True)
    call: Any = made.tokenizer
    model: Any = made.model
    prompt = call("red moon")["input_ids"]
    halves = [i for i in range(model.config.vocab_size) if "\ufffd" in call.decode([i])]
    drawn: dict[str, Any] = {"logprobs": 3, "temperature": 0.5, "seed": 3}
    drawn["logit_bias"] = {str(token): -100 for token in halves}  # parts of letters all look alike
    answer = asked(client, **drawn, echo=True)["choices"][0]
    told = answer["logprobs"]
    fresh = asked(client, **drawn)["choices"][0]
    assert answer["text"] == "red moon" + fresh["text"]
    assert told["tokens"][len(prompt) :] == fresh["logprobs"]["tokens"]
    assert told["tokens"][: len(prompt)] == [call.decode([one]) for one in prompt]
    vocab = {call.decode([one]): one for one in range(model.config.vocab_size)}
    new = [vocab[token] for token in fresh["logprobs"]["tokens"]]
    with torch.no_grad():
        scores = model(torch.tensor([[*prompt, *new]])).logits[0].log_softmax(-1)
    every = [*prompt, *new]
    expected = [float(scores[i, token]) for i, token in enumerate(every[1:])]
    assert told["token_logprobs"][0] is None
    assert told["token_logprobs"][1:] == pytest.approx(expected, abs=1e-4)
    assert told["top_logprobs"][0] is None
    last = told["top_logprobs"][-1]
    best = scores[-2].topk(3)
    for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        if token not in halves:
            assert last[call.decode([token])] == pytest.approx(value, abs=1e-4)
    for token, start in zip(told["tokens"], told["text_offset"], strict=True):
        assert answer["text"][start:].startswith(token)


def test_an_echo_without_new_tokens_scores_a_text(client: TestClient) -> None:
    choice = asked(client, echo=True, logprobs=0, max_tokens=0)["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("red moon", "length")
    told = choice["logprobs"]["token_logprobs"]
    assert told[0] is None
    assert all(value < 0 for value in told[1:])
    assert len(told) > 1


def test_a_stop_string_ends_a_text_before_it(client: TestClient) -> None:
    whole = text(client, max_tokens=30)
    for stop in (whole[5:8], whole[9]):
        choice = asked(client, max_tokens=30, stop=["never", stop])["choices"][0]
        assert choice["text"] == whole[: whole.index(stop)]
        assert choice["finish_reason"] == "stop"
        pieces = client.post(URL, json=GREEDY | {"max_tokens": 30, "stop": stop, "stream": True})
        streamed = [piece["choices"][0] for piece in served.pieces(pieces)]
        assert "".join(piece["text"] for piece in streamed) == choice["text"]
        assert streamed[-1]["finish_reason"] == "stop"


def test_options_of_sampling_reach_the_model(client: TestClient) -> None:
    greedy = text(client)
    assert text(client, temperature=1, top_k=1) == greedy
    assert text(client, temperature=1, top_p=1e-6) == greedy
    assert text(client, temperature=1, min_p=1) == greedy
    forced = asked(client, logit_bias={"5": 100}, max_tokens=4, logprobs=0)["choices"][0]
    assert len(set(forced["logprobs"]["tokens"])) == 1
    lively = asked(client, logit_bias={"5": 100}, max_tokens=4, logprobs=0, frequency_penalty=2)[
        "choices"
    ][0]
    assert lively["logprobs"]["tokens"] == forced["logprobs"]["tokens"]  # 100 is more than 2 a time
    plain = text(client, max_tokens=30)
    assert text(client, max_tokens=30, presence_penalty=2) != plain
    assert text(client, max_tokens=30, frequency_penalty=2) != plain


def test_a_prompt_that_was_read_is_not_read_again(client: TestClient) -> None:
    prompt = "green sea stone sun tree " * 6
    first = asked(client, prompt=prompt)
    again = asked(client, prompt=prompt)
    assert again["choices"] == first["choices"]
    cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == again["usage"]["prompt_tokens"] - 1


@pytest.mark.parametrize(("stream", "seconds"), [(False, 0.1), (True, 0.1), (True, 0)])
def test_who_goes_away_frees_the_row_at_once(
    stream: bool, seconds: float, both: tuple[TestClient, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, made = both
    meters, step = made.service.meters, Batch.step

    def slow(batch: Batch) -> Any:
        time.sleep(0.01)
        return step(batch)

    monkeypatch.setattr(Batch, "step", slow)
    before = meters.totals()
    body = GREEDY | {"max_tokens": 150, "n": 2, "stream": stream}

    def check() -> None:
        asked(client, max_tokens=1)  # by then the engine has read the message
        after = meters.totals()
        assert after["cancelled_requests"] == before["cancelled_requests"] + 1
        assert after["completion_tokens"] - before["completion_tokens"] < 100
        assert "attar_rows_used 0.0" in client.get("/metrics").text
        assert "attar_texts_live 0.0" in client.get("/metrics").text

    served.gone_after(made.app, body, seconds=seconds, check=check)


def test_a_budget_of_time_gives_what_there_is(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Batch.step

    def slow(batch: Batch) -> Any:
        time.sleep(0.02)
        return step(batch)

    monkeypatch.setattr(Batch, "step", slow)
    began = time.perf_counter()
    answer = asked(client, max_tokens=150, time_budget_ms=200)
    assert time.perf_counter() - began < 2
    choice = answer["choices"][0]
    assert choice["time_budget_exceeded"] is True
    assert choice["finish_reason"] == "length"
    assert 0 < answer["usage"]["completion_tokens"] < 150
    monkeypatch.setattr(Batch, "step", step)
    assert text(client, max_tokens=150).startswith(choice["text"].rstrip("\ufffd"))
    with served.serving(time_budget=100) as (other, _):
        choice = asked(other, max_tokens=150, time_budget_ms=60_000)["choices"][0]
        assert choice["time_budget_exceeded"] is True


def test_a_full_queue_asks_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    step, gate = Batch.step, threading.Event()

    def held(batch: Batch) -> Any:
        gate.wait(10)
        return step(batch)

    monkeypatch.setattr(Batch, "step", held)
    with served.serving(rows=1, queue=1) as (client, _), ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(asked, client) for _ in range(2)]
        while "attar_texts_live 2.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        refused = client.post(URL, json=GREEDY)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        many = client.post(URL, json=GREEDY | {"n": 3})
        assert many.status_code == 400  # there will never be room
        gate.set()
        assert len({one.result()["choices"][0]["text"] for one in waiting}) == 1


def test_a_failure_of_the_model_is_told_and_the_next_request_is_served(
    both: tuple[TestClient, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = both
    expected = text(client)
    step = Batch.step

    def broken(batch: Batch) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Batch, "step", broken)
    refused = client.post(URL, json=GREEDY)
    assert refused.status_code == 500
    assert "memory" not in refused.text
    monkeypatch.setattr(Batch, "step", step)
    assert text(client) == expected


def test_a_draft_changes_no_greedy_text_and_is_declared() -> None:
    made = served.generator(draft=True, endless=True)
    with served.serving(made) as (client, _):
        fast = asked(client, max_tokens=40)
        assert fast["drafts"] == {"mode": "speculative"}
        plain = asked(client, max_tokens=40, drafts={"mode": "sampled"})
        assert plain["drafts"] == {"mode": "sampled"}
        assert fast["choices"] == plain["choices"]
        assert fast["usage"]["completion_tokens"] == 40
        assert 0 < fast["usage"]["forward_passes"] <= plain["usage"]["forward_passes"] == 40
        stopped = asked(client, max_tokens=40, stop=plain["choices"][0]["text"][5:7])
        assert stopped["choices"][0]["finish_reason"] == "stop"
        assert asked(client, logprobs=1)["drafts"] == {"mode": "sampled"}
        assert asked(client, seed=1)["drafts"] == {"mode": "sampled"}
        several = asked(client, n=2, temperature=1)
        assert several["drafts"] == {"mode": "speculative"}
        assert [one["index"] for one in several["choices"]] == [0, 1]
        late = asked(client, max_tokens=150, time_budget_ms=1)["choices"][0]
        assert late["time_budget_exceeded"] is True
        refused = client.post(URL, json=GREEDY | {"logprobs": 1, "drafts": {"mode": "speculative"}})
        assert refused.status_code == 400
        assert "logprobs" in refused.json()["error"]["message"]


def test_what_was_suggested_holds_while_it_is_typed(client: TestClient) -> None:
    body = {"type_ahead": True, "max_tokens": 20}
    first = asked(client, **body)
    whole = first["choices"][0]["text"]
    assert "matched" not in first["drafts"]
    typed = asked(client, **body | {"prompt": "red moon" + whole[:4]})
    assert typed["choices"][0]["text"] == whole[4:]
    assert typed["drafts"] == {"mode": "type_ahead", "matched": 4}
    assert typed["usage"]["completion_tokens"] == typed["usage"]["forward_passes"] == 0
    other = asked(client, **body | {"prompt": "red moon" + whole[:4] + "zq"})
    assert other["drafts"] == {"mode": "sampled"}
    longer = asked(client, **body | {"max_tokens": 21})
    assert longer["drafts"] == {"mode": "sampled"}  # other settings, another suggestion
    assert asked(client, **body | {"type_ahead": None})["drafts"] == {"mode": "sampled"}


def test_numbers_of_the_api_are_finite(client: TestClient) -> None:
    told = asked(client, logprobs=20)["choices"][0]["logprobs"]
    assert all(math.isfinite(value) for value in told["token_logprobs"])
