"""A text of a continuous batch is the text that it would be alone, whatever joins and leaves."""

import random
import time
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as lib

import decoders
import talk
import tiny
from attar.decode import continuous, static
from attar.decode.choosing import Chooser, Sampling, choose
from attar.decode.continuous import Batch
from attar.decode.distributions import Nucleus
from attar.decode.sampling import sample
from attar.decode.slots import Slots, rounded, shared
from attar.decode.static import Passes
from attar.decode.texts import Letters, Request, Text
from attar.errors import CompatibilityError

WAYS = [
    Sampling(temperature=0),
    Sampling(seed=3),
    Sampling(seed=4, temperature=0.7, top_p=0.9),
    Sampling(seed=5, top_k=7, min_p=0.02),
    Sampling(temperature=0, presence_penalty=0.5, frequency_penalty=0.3, logit_bias=((5, 3.0),)),
]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.model(vocab_size=talk.VOCAB, max_position_embeddings=256)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return talk.tokenizer()


def requests(count: int, *, seed: int = 0, longest: int = 40) -> list[Request]:
    rng = random.Random(seed)
    made = []
    for i in range(count):
        prompt = tuple(rng.randrange(3, 290) for _ in range(rng.randint(1, longest)))
        made.append(
            Request(
                prompt=prompt,
                max_tokens=rng.randint(1, 12),
                sampling=WAYS[i % len(WAYS)],
                logprobs=2,
            )
        )
    return made


def run(batch: Batch, texts: list[Text]) -> list[Text]:
    while batch.busy:
        batch.step()
    return texts


def alone(model: Any, tokenizer: Any, request: Request) -> Text:
    batch = Batch(model, tokenizer, rows=1)
    return run(batch, [batch.add(request)])[0]


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "gemma3_text"])
def test_rows_are_what_they_are_alone(
    family: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "FIRST", 16)  # the cache grows while texts are written
    changes: dict[str, Any] = {"sliding_window": 8} if family in decoders.WINDOWED else {}
    changes["n_positions" if family == "gpt2" else "max_position_embeddings"] = 256
    model = tiny.model(family, vocab_size=talk.VOCAB, **changes)
    wanted = requests(14)
    batch, texts = Batch(model, tokenizer, rows=4, chunk=16), []
    for request in wanted:  # they join at different times, and more than there are rows
        texts.append(batch.add(request))
        batch.step()
    for request, text in zip(wanted, run(batch, texts), strict=True):
        expected = alone(model, tokenizer, request)
        assert text.tokens == expected.tokens
        assert text.text == expected.text
        assert len(text.tokens) == request.max_tokens
        ours, theirs = text.delta().logprobs, expected.delta().logprobs
        for one, other in zip(ours, theirs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
            assert [token for token, _ in one.top] == [token for token, _ in other.top]


def test_texts_are_those_of_generate_and_sample(model: Any, tokenizer: Any) -> None:
    prompt = tuple(tiny.ids(1, 9)[0].tolist())
    ids = torch.tensor([prompt])
    expected = model.generate(ids, do_sample=False, max_new_tokens=10, eos_token_id=None)
    greedy = Request(prompt=prompt, max_tokens=10, sampling=Sampling(temperature=0))
    assert alone(model, tokenizer, greedy).tokens == expected[0, 9:].tolist()
    for heat in (1.0, 0.6):
        drawn = Request(prompt=prompt, max_tokens=10, sampling=Sampling(temperature=heat, seed=11))
        theirs = sample(model, [prompt], max_new_tokens=10, seeds=[11], temperature=heat)
        assert alone(model, tokenizer, drawn).tokens == theirs[0]


def test_logits_are_processed_as_by_generate() -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    way = Sampling(temperature=0.7, top_k=20, top_p=0.8, min_p=0.05, seed=0)
    expected = logits
    for one in (
        lib.TemperatureLogitsWarper(0.7),
        lib.TopKLogitsWarper(20),
        lib.TopPLogitsWarper(0.8),
        lib.MinPLogitsWarper(0.05),
    ):
        expected = one(torch.zeros(1, 1), expected)  # pyright: ignore[reportArgumentType]
    ours = way.warp()(logits[:, None], lambda *_: [], first=[0], numbers=[0])[:, 0]
    assert torch.equal(ours, expected)
    chooser = Chooser(way)
    drawn = {choose(logits, [chooser])[0] for _ in range(400)}
    assert drawn == set(expected[0].isfinite().nonzero()[:, 0].tolist())


@pytest.mark.parametrize("most", [4, 50, 1024])
def test_a_nucleus_is_that_of_transformers(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nucleus, "MOST", most)  # of few tokens, not all nuclei are among them
    scores = 3 * torch.randn(20, 60, generator=torch.Generator().manual_seed(0))
    scores[0, 5:] = -torch.inf  # cut by another processor
    scores[1, 7] = 50.0
    for share in (1e-6, 0.3, 0.8, 0.99):
        expected = lib.TopPLogitsWarper(share)(torch.zeros(20, 1), scores)  # pyright: ignore[reportArgumentType]
        assert torch.equal(Nucleus(share)(torch.zeros(20, 1), scores), expected)


def test_penalties_and_biases_are_those_of_the_openai_api() -> None:
    chooser = Chooser(
        Sampling(presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((1, -100.0), (4, 2.0)))
    )
    for token in (2, 2, 3):
        chooser.count(token)
    scores = torch.zeros(6)
    chooser.penalise(scores)
    assert scores.tolist() == [0, -100, -1.0, -0.75, 2, 0]


def test_a_prefix_that_a_row_holds_is_not_read_again(model: Any, tokenizer: Any) -> None:
    base = tuple(tiny.ids(1, 40)[0].tolist())
    batch = Batch(model, tokenizer, rows=3)
    first = run(batch, [batch.add(Request(prompt=base, max_tokens=5, sampling=WAYS[0]))])[0]
    assert first.cached == 0
    later = base + tuple(first.tokens) + (7, 8)
    goes_on = Request(prompt=later, max_tokens=5, sampling=WAYS[0])
    branch = Request(prompt=(*base[:30], 9, 9, 9), max_tokens=5, sampling=WAYS[1])
    texts = run(batch, [batch.add(goes_on), batch.add(branch)])
    assert [text.cached for text in texts] == [44, 30]  # the last token was never read
    again = run(batch, [batch.add(goes_on)])[0]
    assert again.cached == len(later) - 1  # logits behind the last one are needed
    for text in (*texts, again):
        assert text.tokens == alone(model, tokenizer, text.request).tokens
    fresh = Request(prompt=later, max_tokens=5, sampling=WAYS[0], reuse=False)
    assert run(batch, [batch.add(fresh)])[0].cached == 0


def test_texts_of_one_prompt_read_it_once(model: Any, tokenizer: Any) -> None:
    prompt = tuple(tiny.ids(1, 50)[0].tolist())
    batch = Batch(model, tokenizer, rows=4, chunk=16)
    many = [Request(prompt=prompt, max_tokens=4, sampling=Sampling(seed=i)) for i in range(3)]
    texts = run(batch, [batch.add(request) for request in many])
    # three chunks of the first one; the last token is not worth waiting for
    assert [text.cached for text in texts] == [0, 48, 48]
    assert [t.tokens for t in texts] == [alone(model, tokenizer, r).tokens for r in many]


def test_a_long_prompt_does_not_hold_up_others(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous, "WORTH", 1000)
    batch = Batch(model, tokenizer, rows=3, chunk=8)
    writing = batch.add(Request(prompt=(5, 6), max_tokens=30, sampling=WAYS[0]))
    batch.step()
    long = batch.add(Request(prompt=(9,) * 80, max_tokens=1, sampling=WAYS[0]))
    short = batch.add(Request(prompt=(11, 12), max_tokens=1, sampling=WAYS[0]))
    before = len(writing.tokens)
    for _ in range(2):
        batch.step()
    assert len(writing.tokens) == before + 2
    assert short.finish_reason == "length"
    assert long.finish_reason is None


def test_what_is_left_off_frees_its_row(model: Any, tokenizer: Any) -> None:
    batch = Batch(model, tokenizer, rows=1)
    endless = Request(prompt=(5, 6), max_tokens=200, sampling=WAYS[0])
    first, second = batch.add(endless), batch.add(endless)
    batch.step()
    assert (batch.rows_used, batch.waiting) == (1, 1)
    batch.cancel(first)
    assert batch.rows_used == 0
    batch.step()
    assert (batch.rows_used, batch.waiting) == (1, 0)
    assert second.tokens == first.tokens[:1]
    assert batch.clear() == [second]
    assert not batch.busy


def test_a_text_ends_when_its_time_is_up(model: Any, tokenizer: Any) -> None:
    batch = Batch(model, tokenizer, rows=1)
    soon = time.monotonic() + 0.05
    request = Request(prompt=(5, 6), max_tokens=250, sampling=WAYS[0], deadline=soon)
    text, waiting = batch.add(request), batch.add(request)
    while batch.busy:
        batch.step()
        time.sleep(0.005)
    assert (text.finish_reason, text.late) == ("length", True)
    assert 0 < len(text.tokens) < 250
    assert (waiting.tokens, waiting.late) == ([], True)


def test_a_prompt_can_be_read_without_writing(model: Any, tokenizer: Any) -> None:
    batch = Batch(model, tokenizer, rows=1)
    prompt = tuple(tiny.ids(1, 20)[0].tolist())
    warm = Request(prompt=prompt, max_tokens=0, logprobs=1, prompt_logprobs=True)
    text = run(batch, [batch.add(warm)])[0]
    assert (text.tokens, text.finish_reason) == ([], "length")
    with torch.no_grad():
        scores = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
    told = text.delta().prompt_logprobs
    expected = [float(scores[i, token]) for i, token in enumerate(prompt[1:])]
    assert [one.token for one in told] == list(prompt[1:])
    assert [one.logprob for one in told] == pytest.approx(expected, abs=1e-4)
    next_one = run(batch, [batch.add(Request(prompt=(*prompt, 4), max_tokens=1))])[0]
    assert next_one.cached == 20


def written(tokenizer: Any, words: str, *, stop: tuple[str, ...] = (), ends: Any = ()) -> Text:
    text = Text(Request(prompt=(5,), max_tokens=99, stop=stop), tokenizer, ends=ends)
    for token in tokenizer(words, add_special_tokens=False)["input_ids"]:
        text.add(token)
    return text


def test_letters_come_whole_and_no_stop_string_is_shown(tokenizer: Any) -> None:
    words = "red moon \u6708 sea \U0001f319 stone"
    whole = written(tokenizer, words)
    whole.end()
    assert whole.text == words
    pieces = Letters(tokenizer, (5,))
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    assert "".join([*map(pieces.add, ids), pieces.rest()]) == words
    assert len(ids) > len(words.split())  # letters of several tokens, and words of several
    stopped = written(tokenizer, words, stop=("nowhere", "on \u6708 s"))
    assert (stopped.text, stopped.finish_reason) == ("red mo", "stop")
    begun = written(tokenizer, words, stop=("stones",))
    assert begun.text == words[: -len("stone")]  # it may yet become one
    begun.end()
    assert begun.text == words
    half = Letters(tokenizer, (5,))
    moon = tokenizer("\U0001f319", add_special_tokens=False)["input_ids"]
    assert [half.add(token) for token in moon[:-1]] == [""] * (len(moon) - 1)
    assert "\ufffd" in half.rest()


def test_an_end_token_ends_a_text_and_is_not_shown(tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    text = written(tokenizer, "red<|im_end|> moon", ends={end})
    assert (text.text, text.finish_reason) == ("red", "stop")
    assert text.tokens[-1] == end


def test_rows_hold_what_they_should(model: Any) -> None:
    slots = Slots(model, 2)
    talk_, other = list(range(10, 40)), [*range(10, 14), 60]
    row = slots.take(talk_)
    slots.score({row: talk_})
    slots.leave(row)
    assert slots.take(other) != row  # a short prefix costs nobody its row
    assert slots.held[1 - row] == other[:4]
    assert slots.take([*talk_, 50]) == row
    assert shared([1, 2, 3], [1, 2]) == 2


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_passes_have_few_shapes_and_the_logits_of_reading_afresh(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: set[tuple[int, ...]] = set()
    forward = Passes.forward

    def seen(self: Passes, read: Tensor, **more: Any) -> Tensor:
        shapes.add(tuple(read.shape[1:]))
        return forward(self, read, **more)

    monkeypatch.setattr(Passes, "forward", seen)
    model: Any = tiny.model(family, max_position_embeddings=256)
    slots, rng = Slots(model, 11), random.Random(family)
    with torch.no_grad():
        for _ in range(12):
            rows = rng.sample(range(11), rng.randint(8, 11))
            new = {row: tiny.ids(1, rng.randint(1, 19))[0].tolist() for row in rows}
            for row, logits in zip(rows, slots.score(new)[:, -1], strict=True):
                expected = model(torch.tensor([slots.held[row]])).logits[0, -1]
                torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert {rows for rows, _ in shapes} == {8, 10, 11}  # no more than there are
    assert {width for _, width in shapes} <= {*range(1, 9), 10, 12, 14, 16, 20}
    sizes = [rounded(count) for count in range(1, 257)]
    assert all(count <= size <= 1.25 * count for count, size in enumerate(sizes, 1))
    assert len(set(sizes)) == 28


def test_models_without_a_static_cache_are_refused(tokenizer: Any) -> None:
    with pytest.raises(CompatibilityError, match="t5 cannot be served that way: it is an enc"):
        Batch(decoders.encoder_decoder(), tokenizer, rows=1)
