"""Progress where there is no terminal: plain lines, not too many, with the time that is left."""

import logging

import pytest

from attar import runtime
from attar.runtime import Bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(runtime.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_few_seconds_says_what_is_left(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen = []
    for item in Bar(range(8), desc="scoring", unit="batch"):
        seen.append(item)
        clock[0] += 2
    assert seen == list(range(8))
    assert caplog.messages == [
        "scoring: 3 of 8 batches, about 10 s left",
        "scoring: 6 of 8 batches, about 4 s left",
    ]


def test_what_is_done_says_no_time_left_and_a_share_reads_as_one(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bar = Bar(total=100, desc="pruning by wanda", unit="%")
    for done in (40, 60):
        clock[0] += 6
        bar.update(done)
    assert caplog.messages == ["pruning by wanda: 40% done, about 9 s left"]


def test_what_was_done_before_does_not_count_as_fast(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bar = Bar(total=10, initial=6, desc="train", unit="step")
    clock[0] += 6
    bar.update(2)
    bar.close()
    assert caplog.messages == ["train: 8 of 10 steps, about 6 s left"]
