import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.curves import (
    AXES,
    Costs,
    Interval,
    Point,
    cost_to_reach,
    difference,
    intervals,
    mean_height,
    points_of,
    rows,
    saving,
    segments,
)


def point(cost, f1, *, arm="a", epoch=0, batch=0, refits=(), test=200):
    """A model whose score is nearly f1 on made-up test sentences of ten words."""
    right = np.full(test, 10 * f1)
    counts = np.stack([right, np.full(test, 10.0), np.full(test, 10.0)], axis=1)
    return Point(
        arm=arm,
        costs=Costs(*[cost] * 6),
        scores={"word_f1": f1},
        epoch=epoch,
        batch=batch,
        counts=counts,
        refits=tuple(refits),
    )


def curve(f1s, **more):
    return [point(100 * (i + 1), f1, batch=i, **more) for i, f1 in enumerate(f1s)]


scores = st.lists(st.floats(0.1, 0.9), min_size=2, max_size=6)


@given(f1s=scores, shift=st.floats(-0.05, 0.05))
def test_the_difference_of_areas_is_the_shift_of_a_curve(f1s, shift):
    ours, other = curve([f + shift for f in f1s]), curve(f1s, arm="b")
    found = difference(ours, other)
    assert found.value == pytest.approx(shift, abs=1e-9)
    assert found.test == pytest.approx(0, abs=1e-9)  # all sentences are alike
    assert (found.start, found.end, found.training) == (100, 100 * len(f1s), None)


@given(f1s=scores)
def test_a_point_on_a_straight_line_changes_no_area(f1s):
    heights = np.array(f1s)[:, None]
    costs = np.arange(len(f1s), dtype=np.float64) * 10
    middle = (heights[:-1] + heights[1:]) / 2
    finer = np.arange(2 * len(f1s) - 1, dtype=np.float64) * 5
    both = np.empty((len(finer), 1))
    both[::2], both[1::2] = heights, middle
    whole = mean_height(heights, costs=costs, start=0, end=costs[-1])
    assert mean_height(both, costs=finer, start=0, end=costs[-1]) == pytest.approx(whole)


def test_the_height_between_points_is_on_the_line():
    found = mean_height(np.array([[0.0], [1.0]]), costs=np.array([0.0, 10.0]), start=4, end=6)
    assert found == pytest.approx(0.5)


def test_curves_are_compared_where_both_have_costs():
    ours, other = curve([0.5, 0.6, 0.7]), curve([0.5, 0.6, 0.7, 0.8, 0.9], arm="b")[1:]
    found = difference(ours, other)
    assert (found.start, found.end) == (200, 300)
    assert found.value == pytest.approx(0)
    with pytest.raises(DataError, match="no characters in common"):
        difference(ours[:2], other[1:])


def test_curves_of_different_epochs_are_never_compared_or_joined():
    old, new = curve([0.5, 0.6]), curve([0.7, 0.8], epoch=1)
    with pytest.raises(DataError, match="one epoch"):
        difference(old, [*new, point(900, 0.9, epoch=1)][:1] + old[:1])
    assert [len({p.epoch for p in line}) for line in segments([*old, *new])] == [1, 1]


def test_a_lucky_point_does_not_count_as_reached():
    line = curve([0.5, 0.9, 0.5, 0.6])
    assert cost_to_reach(line, 0.85) is None
    assert cost_to_reach(curve([0.5, 0.6, 0.7]), 0.65) == pytest.approx(250)
    assert cost_to_reach(curve([0.5, 0.6]), 0.4) == 100
    assert cost_to_reach(curve([0.5, 0.6]), 0.61) is None


@given(f1s=scores, value=st.floats(0.1, 0.9))
def test_the_cost_to_reach_a_score_rises_with_it(f1s, value):
    line = curve(f1s)
    low, high = cost_to_reach(line, value), cost_to_reach(line, value + 0.02)
    assert high is None or (low is not None and low <= high)


def test_an_arm_that_needs_twice_the_cost_saves_by_two():
    ours = curve([0.5, 0.6, 0.7])
    other = [point(2 * p.costs.characters, p.word_f1, arm="b") for p in ours]
    assert saving(ours, other) == pytest.approx(2)
    assert saving(ours, curve([0.8, 0.9], arm="b")) is None


def test_the_test_interval_is_that_of_a_share():
    generator = np.random.default_rng(0)
    right = (generator.random(400) < 0.8).astype(float)
    one = np.ones(400)
    made = Point(
        "a", Costs(), {"word_f1": right.mean()}, counts=np.stack([right, one, one], axis=1)
    )
    (found,) = intervals([made])
    wanted = 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert found.test == pytest.approx(wanted, rel=0.1)
    assert found.training is None


def test_the_training_interval_is_that_of_a_mean_of_few():
    (found,) = intervals([point(100, 0.5, refits=[0.5, 0.6, 0.7, 0.6])])
    assert found.training == pytest.approx(3.182 * np.std([0.5, 0.6, 0.7, 0.6], ddof=1), rel=1e-3)
    assert found.both == pytest.approx(math.hypot(found.test, found.training or 0))


def test_noise_that_two_arms_share_says_nothing_against_their_difference():
    noise = [0.01, -0.01, 0.02, -0.02]
    ours = [point(c, 0.6, refits=[0.6 + n for n in noise]) for c in (100, 200)]
    other = [point(c, 0.5, arm="b", refits=[0.5 + n for n in noise]) for c in (100, 200)]
    found = difference(ours, other)
    assert found.training == pytest.approx(0, abs=1e-9)
    assert not found.covers_zero
    opposite = [point(c, 0.5, arm="b", refits=[0.5 - n for n in noise]) for c in (100, 200)]
    assert (difference(ours, opposite).training or 0) > 0.1


def test_an_interval_covers_zero_where_it_says_nothing_about_the_sign():
    assert Interval(0.01, 0.006, 0.009).covers_zero
    assert not Interval(0.01, 0.006, None).covers_zero


def test_rows_are_read_back():
    line = curve([0.5, 0.6], refits=[0.5, 0.6])
    written = rows(line)
    assert written[0]["low"] < 0.5 < written[0]["high"]
    again = points_of(written)
    assert [(p.arm, p.costs, dict(p.scores)) for p in again] == [
        (p.arm, p.costs, dict(p.scores)) for p in line
    ]


def test_points_without_counts_have_no_interval():
    bare = Point("a", Costs(), {"word_f1": 0.5})
    with pytest.raises(DataError, match="points with counts"):
        intervals([bare])
    assert "low" not in rows([bare])[0]


def test_an_axis_must_be_one_of_the_six():
    assert len(AXES) == 6
    with pytest.raises(ConfigError, match="axis must be one of sentences"):
        Costs().on("euros")


def test_sentences_of_one_document_count_as_one():
    generator = np.random.default_rng(0)
    right = np.repeat((generator.random(40) < 0.8).astype(float), 10)
    one = np.ones(400)
    made = Point(
        "a", Costs(), {"word_f1": right.mean()}, counts=np.stack([right, one, one], axis=1)
    )
    documents = [str(place // 10) for place in range(400)]
    (alone,) = intervals([made])
    (together,) = intervals([made], documents=documents)
    assert together.test == pytest.approx(alone.test * math.sqrt(10), rel=0.15)
    (same,) = intervals([made], documents=[str(1000 + place) for place in range(400)])
    assert same == alone
