"""Curves of quality over rate against cases worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError, DataError
from attar.evaluation.rates import Coded, RatePoint, bd_rate, front, stopwatch


def curve(*pairs: tuple[float, float]) -> list[RatePoint]:
    """From (quality, natural logarithm of the rate)."""
    return [RatePoint(math.exp(log), quality) for quality, log in pairs]


def test_bd_rate_of_half_the_bits_is_minus_half() -> None:
    anchor = [
        RatePoint(0.2, 28.0),
        RatePoint(0.5, 31.5),
        RatePoint(1.1, 35.0),
        RatePoint(2.0, 38.0),
    ]
    half = [RatePoint(rate / 2, quality) for rate, quality in anchor]
    assert bd_rate(half, anchor=anchor) == pytest.approx(-0.5)
    assert bd_rate(anchor, anchor=half) == pytest.approx(1)
    assert bd_rate(anchor, anchor=anchor) == pytest.approx(0)


def test_bd_rate_is_the_mean_over_the_qualities_in_common() -> None:
    """ln rate q against 2q, over the qualities 1 to 3 that both reach: the mean of q is 2."""
    steep = curve((-1, -2), (1, 2), (3, 6))
    flat = curve((1, 1), (2, 2), (4, 4))
    assert bd_rate(steep, anchor=flat) == pytest.approx(math.expm1(2))
    assert bd_rate(flat, anchor=steep) == pytest.approx(math.expm1(-2))
    cubic = curve((0, 0), (1, 1), (2, 4))
    zero = curve((0, 0), (2, 0.0001))
    area = 0.5 * (0 + 1) + (0 - 1.5) / 12 + 0.5 * (1 + 4) + (1.5 - 4) / 12  # of Hermite's cubics
    assert bd_rate(cubic, anchor=zero) == pytest.approx(math.expm1(area / 2 - 0.00005))


def test_curves_that_do_not_meet_compare_to_nothing() -> None:
    low, high = curve((20, 0), (30, 1)), curve((30, 0), (40, 1))
    assert bd_rate(low, anchor=high) is None


LOGS = st.lists(st.floats(0.05, 1), min_size=2, max_size=6)


@given(LOGS, LOGS)
def test_bd_rate_turns_round(first: list[float], second: list[float]) -> None:
    one, other = (
        curve(*((20 + 2 * i, sum(steps[: i + 1])) for i in range(len(steps))))
        for steps in (first, second)
    )
    there, back = bd_rate(one, anchor=other), bd_rate(other[::-1], anchor=one)
    assert there is not None
    assert back is not None
    assert (1 + there) * (1 + back) == pytest.approx(1)


def test_settings_that_another_beats_are_left_out() -> None:
    best = [RatePoint(0.5, 30.0), RatePoint(1.0, 33.0), RatePoint(2.0, 36.0)]
    worse = [RatePoint(0.6, 30.0), RatePoint(1.0, 32.0), RatePoint(1.5, 32.9), RatePoint(3.0, 36.0)]
    assert front([*worse, *best, best[0]]) == best
    assert bd_rate([*best, *worse], anchor=best) == pytest.approx(0)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [RatePoint(1.0, 30.0)],
        [RatePoint(1.0, 30.0), RatePoint(2.0, 30.0)],
        [RatePoint(0.0, 30.0), RatePoint(1.0, 31.0)],
        [RatePoint(1.0, 30.0), RatePoint(2.0, math.inf)],
        [RatePoint(math.nan, 30.0), RatePoint(2.0, 31.0), RatePoint(3.0, 32.0)],
    ],
)
def test_what_is_no_curve_is_refused(points: list[RatePoint]) -> None:
    fine = [RatePoint(1.0, 30.0), RatePoint(2.0, 31.0)]
    with pytest.raises(DataError, match="needs two settings at least"):
        bd_rate(fine, anchor=points)


def test_stopwatch_times_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr("attar.evaluation.rates.time.perf_counter", lambda: next(clock))
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        return len(calls)

    assert stopwatch(call, repeats=3) == (4, 2.0)  # the first of four warms up
    monkeypatch.undo()
    assert stopwatch(call)[0] == 5
    with pytest.raises(ConfigError, match="repeats"):
        stopwatch(call, repeats=0)


def test_ratio_is_of_numbers() -> None:
    coded = Coded(bytes=1, decoded=0, total=12, kept=3, encode_seconds=1, decode_seconds=1)
    assert coded.ratio == 4
