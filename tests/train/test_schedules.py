"""WaLLoC's learning rate: along a cosine of its logarithm, and then less on plateaus."""

import math

import pytest
import torch
from torch.optim import Optimizer

from attar.train.schedules import LogCosinePlateau

PEAK = 3e-5


def optimizer() -> Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)


def rates(schedule: LogCosinePlateau, losses: list[float]) -> list[float]:
    """The rate of each step with these losses."""
    found = []
    for loss in losses:
        found.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.observe(loss / 4)
        schedule.observe(loss * 3 / 4)
        schedule.optimizer.step()
        schedule.step()
    return found


def test_the_warm_up_is_the_formula_at_each_window() -> None:
    window, warmup = 8, 64
    schedule = LogCosinePlateau(optimizer(), warmup_steps=warmup, window=window)
    found = rates(schedule, [1.0] * (warmup + 1))
    assert found[0] == pytest.approx(1e-7)
    assert found[warmup] == pytest.approx(PEAK)
    assert found[warmup // 2] == pytest.approx(math.sqrt(1e-7 * PEAK))
    for step, rate in enumerate(found):
        t = step // window * window
        expected = math.log10(1e-7) + 0.5 * (math.log10(PEAK) - math.log10(1e-7)) * (
            1 - math.cos(math.pi * t / warmup)
        )
        assert rate == pytest.approx(10**expected)


def test_the_rate_falls_where_the_loss_does_not() -> None:
    options = {"warmup_steps": 0, "window": 4, "patience": 2, "factor": 0.5}
    falling = [10.0 ** (-step / 100) for step in range(60)]
    assert set(rates(LogCosinePlateau(optimizer(), **options), falling)) == {PEAK}
    flat = rates(LogCosinePlateau(optimizer(), **options), [1.0] * 40)
    # the first window is the best one, two are forgiven, and the next one is not
    assert flat == pytest.approx([PEAK] * 16 + [PEAK / 2] * 12 + [PEAK / 4] * 12)
    # less than the threshold is no fall
    slow = [10.0 ** (-step * 1e-7) for step in range(40)]
    assert rates(LogCosinePlateau(optimizer(), **options), slow) == pytest.approx(flat)
    # the mean of logarithms counts: one lucky step does not make a window a good one
    lucky = [1.0 if step % 4 else 0.99 for step in range(40)]
    assert rates(LogCosinePlateau(optimizer(), **options), lucky) == pytest.approx(flat)


def test_losses_of_the_warm_up_do_not_count() -> None:
    options = {"warmup_steps": 8, "window": 4, "patience": 2, "factor": 0.5}
    found = rates(LogCosinePlateau(optimizer(), **options), [10.0] * 8 + [1.0] * 24)
    assert found[8:] == pytest.approx([PEAK] * 16 + [PEAK / 2] * 8)


def test_the_warm_up_ends_where_no_window_does() -> None:
    schedule = LogCosinePlateau(optimizer(), warmup_steps=10, window=4, patience=1000)
    found = rates(schedule, [1.0] * 30)
    assert found[8] < PEAK
    assert found[12:] == pytest.approx([PEAK] * 18)


@pytest.mark.parametrize("at", [5, 16, 19, 33])
def test_resumed_is_uninterrupted(at: int) -> None:
    options = {"warmup_steps": 16, "window": 4, "patience": 1, "factor": 0.5}
    losses = [1.0 + 0.1 * math.sin(step) for step in range(60)]
    whole = rates(LogCosinePlateau(optimizer(), **options), losses)
    first = LogCosinePlateau(optimizer(), **options)
    begun = rates(first, losses[:at])
    state, inner = first.state_dict(), first.optimizer.state_dict()
    again = optimizer()
    schedule = LogCosinePlateau(again, **options)
    again.load_state_dict(inner)
    schedule.load_state_dict(state)
    assert begun + rates(schedule, losses[at:]) == pytest.approx(whole)
    assert whole[-1] < PEAK / 2
