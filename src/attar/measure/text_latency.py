"""Milliseconds of texts that are answered one at a time, as an editor or a small service asks."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.errors import DataError, require
from attar.models import evaluation_mode
from attar.runtime import synchronize

Answer = Callable[[Sequence[str]], object]
"""Answers one text, or the two of a pair; returns when the answer is there."""

_T = TypeVar("_T")
_WARM_UP = 3  # inputs that each answers untimed


@dataclass(frozen=True)
class TextLatency:
    """Milliseconds of a text, tokenizing included.

    Attributes:
        threads: of the processor.
        p50: half of the texts take at most this.
        p95: 95% of the texts take at most this.
        texts: how many were timed.
    """

    threads: int
    p50: float
    p95: float
    texts: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def text_latency(
    answers: Mapping[str, Answer],
    texts: Sequence[Sequence[str]],
    *,
    threads: int = 1,
    repeats: int = 3,
    seconds: float = 60.0,
) -> dict[str, TextLatency]:
    """Time several models on the same texts in turns, so that what slows the machine slows all.

    The time of a text is the median of its repeats.

    Args:
        answers: what is timed, by name, as of `model_answer`. What does not compute with torch has
            to keep to `threads` by itself.
        texts: of one text each, or of the two of a pair.
        threads: that torch computes with; set back afterwards.
        repeats: how often each text is answered.
        seconds: after this no further text is begun, or no further repeat of all. One text at least
            is timed.

    Raises:
        DataError: there is no text.
        ConfigError: threads or repeats below 1.
    """
    if not texts:
        raise DataError("expected texts to time answers by, found none; give some")
    with torch_threads(threads):
        times = in_turns([*answers.values()], texts, repeats=repeats, seconds=seconds)
    return {
        name: TextLatency(
            threads,
            p50=float(np.quantile(row, 0.5)),
            p95=float(np.quantile(row, 0.95)),
            texts=len(row),
        )
        for name, row in zip(answers, times, strict=True)
    }


def model_answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, context: int
) -> Answer:
    """Answers of a classifier that reads `context` tokens at most."""

    @torch.inference_mode()
    def answer(texts: Sequence[str]) -> object:
        with evaluation_mode(model):
            batch = tokenizer(
                *([text] for text in texts),  # pyright: ignore[reportArgumentType]
                truncation=True,
                max_length=context,
                return_tensors="pt",
            )
            logits = model(**batch.to(model.device)).logits
            synchronize(model.device)
        return logits

    return answer


def in_turns(
    calls: Sequence[Callable[[_T], object]],
    inputs: Sequence[_T],
    *,
    repeats: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Milliseconds of each call with each input, medians of repeats.

    The calls take turns within an input, in the opposite order at every other repeat. All are
    warmed up first.

    Args:
        calls: what is timed.
        inputs: what they are called with.
        repeats: how often each is called with each.
        seconds: after this no further input is begun at the first repeat, and no further repeat.
        clock: seconds.

    Returns:
        A row for each call; of the same inputs, one at least.
    """
    require(repeats >= 1, "repeats", repeats, "1 or more")
    began = clock()
    for one in inputs[:_WARM_UP]:
        for call in calls:
            call(one)
    times: list[list[list[float]]] = []
    for repeat in range(repeats):
        if repeat and clock() - began > seconds:
            break
        order = range(len(calls))
        for place, one in enumerate(inputs if repeat == 0 else inputs[: len(times)]):
            if repeat == 0:
                if place and clock() - began > seconds:
                    break
                times.append([[] for _ in calls])
            for i in reversed(order) if repeat % 2 else order:
                start = clock()
                calls[i](one)
                times[place][i].append((clock() - start) * 1e3)
    return [[statistics.median(row[i]) for row in times] for i in range(len(calls))]


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads within the context.

    Raises:
        ConfigError: below 1.
    """
    require(threads >= 1, "threads", threads, "1 or more")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
