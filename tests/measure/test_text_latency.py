"""Texts one at a time: calls in turns, medians of repeats, and nothing left changed."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import tiny
from attar.data.vocabulary import train_vocabulary
from attar.errors import ConfigError, DataError
from attar.measure.text_latency import in_turns, model_answer, text_latency, torch_threads


class Clock:
    """Seconds that pass only where a call says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[tuple[str, Any]] = []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, seconds: Callable[[Any, int], float]) -> Callable[[Any], None]:
        def run(one: Any) -> None:
            self.log.append((name, one))
            self.now += seconds(one, self.log.count((name, one)))

        return run


def test_calls_take_turns_and_medians_count() -> None:
    clock = Clock()
    slow = {1: 100.0, 2: 3.0, 3: 1.0, 4: 2.0}  # the first, untimed, is the slowest
    calls = [
        clock.call("a", lambda one, time: slow[time] * one),
        clock.call("b", lambda one, _: one),
    ]
    found = in_turns(calls, [1, 2], repeats=3, seconds=1e9, clock=clock)
    assert found == [[2000.0, 4000.0], [1000.0, 2000.0]]
    there, back = [("a", 1), ("b", 1), ("a", 2), ("b", 2)], [("b", 1), ("a", 1), ("b", 2), ("a", 2)]
    assert clock.log == [*there, *there, *back, *there]


@pytest.mark.parametrize(
    ("seconds", "calls", "texts"),
    [
        (0, 3 + 1, 1),  # the warm-up, then one text
        (5, 3 + 3, 3),
        (7.5, 3 + 5, 5),  # all of them once
        (13, 3 + 15, 5),
        (12, 3 + 10, 5),
    ],
)
def test_time_that_is_up_ends_with_what_is_done(seconds: float, calls: int, texts: int) -> None:
    clock = Clock()
    call = clock.call("a", lambda *_: 1.0)
    found = in_turns([call], [*"abcde"], repeats=3, seconds=seconds, clock=clock)
    assert found == [[1000.0] * texts]
    assert len(clock.log) == calls


def test_each_answer_gets_the_texts_and_the_threads() -> None:
    seen: dict[str, list[Any]] = {"a": [], "b": []}
    before = torch.get_num_threads()
    answers = {
        name: lambda texts, name=name: seen[name].append((texts, torch.get_num_threads()))
        for name in seen
    }
    texts = [("one",), ("two", "parts")]
    found = text_latency(answers, texts, threads=before + 1, repeats=2)
    assert torch.get_num_threads() == before
    assert seen["a"] == seen["b"] == [(text, before + 1) for text in texts] * 3
    assert list(found) == ["a", "b"]
    for one in found.values():
        assert 0 < one.p50 <= one.p95
        assert one.to_dict() == {"threads": before + 1, "p50": one.p50, "p95": one.p95, "texts": 2}


def test_quantiles_are_over_texts() -> None:
    texts = [("short",)] * 18 + [("long",)] * 2
    wait = {"short": 0.0, "long": 0.01}
    found = text_latency({"x": lambda texts: time.sleep(wait[texts[0]])}, texts, repeats=3)["x"]
    assert found.p95 >= 10 > found.p50


def test_quantiles_are_no_means(monkeypatch: pytest.MonkeyPatch) -> None:
    squares = [float(i * i) for i in range(1, 22)]
    monkeypatch.setattr("attar.measure.text_latency.in_turns", lambda *_, **__: [squares])
    found = text_latency({"x": print}, [("a",)])["x"]
    assert (found.p50, found.p95) == (11.0**2, 20.0**2)


def test_threads_come_back_after_a_failure() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken"), torch_threads(before + 2):
        assert torch.get_num_threads() == before + 2
        raise RuntimeError("broken")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("texts", [("import json",), ("import", "json " * 40), ("a", "")])
def test_an_answer_is_that_of_the_model(texts: tuple[str, ...]) -> None:
    tokenizer = train_vocabulary([], 260)
    model = tiny.model(
        "roberta", auto=AutoModelForSequenceClassification, vocab_size=260, pad_token_id=1
    ).train()
    logits: Any = model_answer(model, tokenizer, context=30)(texts)
    assert model.training
    inputs: Any = tokenizer(
        *([text] for text in texts), truncation=True, max_length=30, return_tensors="pt"
    )
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(**inputs).logits)


def test_what_cannot_be_timed_is_refused() -> None:
    with pytest.raises(DataError, match="expected texts to time answers by, found none"):
        text_latency({"x": print}, [])
    with pytest.raises(ConfigError, match="threads must be 1 or more; found 0"):
        text_latency({"x": np.asarray}, [("a",)], threads=0)
    with pytest.raises(ConfigError, match="repeats must be 1 or more; found 0"):
        text_latency({"x": np.asarray}, [("a",)], repeats=0)
