"""Several drafts of a text from the server, by Superposed Decoding."""

import time
from pathlib import Path
from typing import Any

import pytest

import served
from attar.decode.ngram_build import build_store
from attar.decode.ngrams import NGramStore
from attar.decode.texts import Request
from attar.errors import CompatibilityError
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder
from attar.server.serving import build_server
from attar.server.superposed import KEPT, Drafting, Superposed

PROMPT = "the red hills and the "
ASKED = {"prompt": PROMPT, "n": 3, "max_tokens": 6, "drafts": {"mode": "superposed"}}


def decoder_of(made: Any, store: Any = None, **options: Any) -> SuperposedDecoder:
    given: dict[str, Any] = {"max_new_tokens": 6} | options
    config = SuperposedConfig(**given)
    return SuperposedDecoder(made.model, made.tokenizer, config=config, store=store)


def test_the_drafts_are_those_of_the_decoder() -> None:
    made = served.generator(endless=True)
    with served.serving(made) as (client, _):
        answer = client.post("/v1/completions", json=ASKED).json()
        one = client.post("/v1/completions", json=ASKED | {"n": 1}).json()
        ended = client.post("/v1/completions", json=ASKED | {"stop": answer["choices"][0]["text"]})
    drafts = decoder_of(made).generate(PROMPT).drafts
    assert [c["text"] for c in answer["choices"]] == [draft.text for draft in drafts]
    assert [c["score"] for c in answer["choices"]] == pytest.approx([d.score for d in drafts])
    assert answer["drafts"] == {"mode": "superposed"}
    assert answer["usage"]["completion_tokens"] == 18
    assert answer["usage"]["forward_passes"] == 6
    assert one["choices"][0]["text"] == decoder_of(made, k=1).generate(PROMPT).drafts[0].text
    assert ended.json()["choices"][0]["finish_reason"] == "stop"


def test_a_store_and_options_have_their_say(tmp_path: Path) -> None:
    made = served.generator()
    build_store(["the red hills and the blue lakes"] * 9, made.tokenizer, output_dir=tmp_path / "s")
    store = NGramStore.load(tmp_path / "s")
    with served.serving(made, store=store) as (client, _):
        body = ASKED | {"drafts": {"mode": "superposed", "alpha": 0.9, "anchor_first": True}}
        answer = client.post("/v1/completions", json=body).json()
        body["drafts"] |= {"rescore": "exact"}
        rescored = client.post("/v1/completions", json=body).json()
    assert rescored["usage"]["forward_passes"] == answer["usage"]["forward_passes"] + 1
    drafts = decoder_of(made, store, alpha=0.9, anchor_first=True).generate(PROMPT).drafts
    assert [c["text"] for c in answer["choices"]] == [draft.text for draft in drafts]
    assert [d.text for d in drafts] != [d.text for d in decoder_of(made).generate(PROMPT).drafts]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drafts": {"mode": "superposed", "alfa": 1}}, "did you mean 'alpha'"),
        ({"drafts": {"mode": "superposed", "alpha": 2}}, "alpha must be from 0 to 1"),
        ({"drafts": {"mode": "superposed", "alpha": "much"}}, "alpha"),
        ({"drafts": {"mode": "superposed", "k": 5}}, "drafts.k is no option"),
        ({"logprobs": 2}, "gives no logprobs"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"max_tokens": 0}, "without a token behind it"),
    ],
)
def test_what_it_cannot_give_is_told(change: dict[str, Any], said: str) -> None:
    with served.serving() as (client, _):
        answer = client.post("/v1/completions", json=ASKED | change)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_a_server_may_write_so_by_default_and_samples_what_it_cannot() -> None:
    plain = {name: ASKED[name] for name in ("prompt", "n", "max_tokens")}
    with served.serving(mode="superposed") as (client, _):
        assert client.post("/v1/completions", json=plain).json()["drafts"]["mode"] == "superposed"
        scored = client.post("/v1/completions", json=plain | {"logprobs": 1}).json()
        assert scored["drafts"]["mode"] == "sampled"
    with served.serving() as (client, _):
        assert client.post("/v1/completions", json=plain).json()["drafts"]["mode"] == "sampled"


def test_a_budget_of_time_returns_the_drafts_as_far_as_they_are() -> None:
    made = served.generator(endless=True)
    ids = tuple(made.tokenizer(PROMPT)["input_ids"])
    request = Request(prompt=ids, max_tokens=6, deadline=time.monotonic())
    (job,) = Superposed(made.model, made.tokenizer).works(request, count=3, options={})
    assert isinstance(job, Drafting)
    assert job.end(late=True)[0][1].late
    assert job.step() == job.step() == []
    news = job.end(late=True)
    assert [number for number, _ in news] == [0, 1, 2]
    drafts = decoder_of(made, max_new_tokens=2).generate(PROMPT).drafts
    assert [delta.text for _, delta in news] == [draft.text for draft in drafts]
    assert all(delta.finish_reason == "length" for _, delta in news)


def test_infill_goes_by_the_text_before_the_cursor(tmp_path: Path) -> None:
    made = served.generator()
    build_store([PROMPT + "blue lakes"] * 9, made.tokenizer, output_dir=tmp_path / "s")
    store = NGramStore.load(tmp_path / "s")
    asked = {"input_prefix": PROMPT, "input_suffix": " sea", "n_predict": 6}
    with served.serving(made, store=store) as (client, _):
        drafts = {"mode": "superposed", "heal": False}
        answer = client.post("/infill", json=asked | {"drafts": drafts}).json()
    decoder = decoder_of(made, store, k=1, heal=False)
    found = decoder.generate(PROMPT, suffix=" sea")
    assert found.store_used
    assert answer["content"] == found.drafts[0].text


def drafted(mode: Superposed, made: Any, text: str, **options: Any) -> list[Any]:
    """What a request gets."""
    ids = tuple(made.tokenizer(text)["input_ids"])
    asked = Request(prompt=ids, max_tokens=6)
    (job,) = mode.works(asked, count=3, options=options)
    assert isinstance(job, Drafting)
    while not (news := job.step()):
        pass
    return [delta for _, delta in news]


def test_a_prompt_that_grows_is_read_only_where_it_is_new() -> None:
    made = served.generator(endless=True)
    made.model.double()
    mode = Superposed(made.model, made.tokenizer)
    near = [PROMPT, PROMPT + "blue", PROMPT + "blue lakes and the", PROMPT + "green"]
    far = ["blue", "dark trees and the far lakes", "seven birds over a cold river", "a white field"]
    for text in [*near, *far, *near]:
        for options in ({}, {"rescore": "exact"}, {"weight_temperature": 3.0, "heal": False}):
            found = drafted(mode, made, text, **options)
            fresh = drafted(Superposed(made.model, made.tokenizer), made, text, **options)
            assert [delta.text for delta in found] == [delta.text for delta in fresh]
            scores = [delta.score for delta in fresh]
            assert [delta.score for delta in found] == pytest.approx(scores, abs=1e-9)
            assert not fresh[0].cached
        length = len(made.tokenizer(text)["input_ids"])
        assert length - 3 <= found[0].cached < length  # all but the last token, and what was healed
        assert len(mode._readers._idle) <= KEPT  # whatever was asked
    assert drafted(mode, made, near[2])[0].cached > len(made.tokenizer(PROMPT)["input_ids"]) - 2


def test_a_cache_is_kept_when_a_client_goes_and_not_after_a_failure() -> None:
    made = served.generator(endless=True)
    mode = Superposed(made.model, made.tokenizer)
    ids = tuple(made.tokenizer(PROMPT)["input_ids"])

    def begun() -> Drafting:
        (job,) = mode.works(Request(prompt=ids, max_tokens=6), count=3, options={})
        assert isinstance(job, Drafting)
        job.step()
        return job

    begun().cancel()
    assert drafted(mode, made, PROMPT)[0].cached
    broken = begun()
    broken._steps = iter(lambda: 1 / 0, None)
    with pytest.raises(ZeroDivisionError):
        broken.step()
    broken.end(late=False)
    assert not mode._readers._idle
    assert not drafted(mode, made, PROMPT)[0].cached


def test_who_goes_away_and_comes_back_finds_the_cache() -> None:
    long = ASKED | {"max_tokens": 150}
    with served.serving() as (client, made):
        mode: Any = made.service.modes["superposed"]

        def stopped() -> None:
            until = time.monotonic() + 10
            while not mode._readers._idle:
                assert time.monotonic() < until
                time.sleep(0.01)

        served.gone_after(made.app, long, seconds=0.2, check=stopped)
        again = client.post("/v1/completions", json=ASKED).json()
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_a_store_of_another_tokenizer_is_refused_at_the_start(tmp_path: Path) -> None:
    made, other = served.generator(), served.generator()
    other.tokenizer.add_tokens(["hills"])
    build_store(["red hills"] * 9, other.tokenizer, output_dir=tmp_path / "s")
    with pytest.raises(CompatibilityError, match="another"):
        build_server(made, name="tiny", store=NGramStore.load(tmp_path / "s"))
