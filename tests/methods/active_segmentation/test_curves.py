import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.curves import (
    cost_to_reach,
    difference,
    mean_height,
    points_of,
    rows,
    saving,
)
from attar.methods.active_segmentation.intervals import FEW_DOCUMENTS, Interval, intervals
from attar.methods.active_segmentation.points import AXES, Costs, Point, comparable


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


def test_curves_of_different_epochs_are_never_compared():
    old, new = curve([0.5, 0.6]), curve([0.7, 0.8], epoch=1)
    with pytest.raises(DataError, match="one epoch"):
        difference(old, [*new, point(900, 0.9, epoch=1)][:1] + old[:1])


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


def noisy(documents, *, seed=0, shift=0.0, arm="a", cost=100):
    """A point whose sentences go right or wrong by whole documents."""
    generator = np.random.default_rng(seed)
    luck = {name: generator.random() < 0.8 for name in dict.fromkeys(documents)}
    right = np.array([10.0 * luck[name] + shift for name in documents])
    ten = np.full(len(documents), 10.0)
    counts = np.stack([right, ten, ten], axis=1)
    made = Point(arm, Costs(*[cost] * 6), {"word_f1": right.mean() / 10}, counts=counts)
    return replace(made, documents=tuple(documents), test=tuple(map(str, range(len(documents)))))


def without_documents(point):
    return replace(point, documents=())


@settings(max_examples=20)
@given(count=st.integers(FEW_DOCUMENTS, 60), repeated=st.integers(4, 12))
def test_sentences_of_one_document_count_as_one(count, repeated):
    made = noisy([f"d{place // repeated}" for place in range(count * repeated)])
    (alone,), (together,) = intervals([without_documents(made)]), intervals([made])
    assert together.test == pytest.approx(alone.test * math.sqrt(repeated), rel=0.25)
    again = replace(noisy([f"d{place // repeated}" for place in range(count * repeated)], seed=1))
    ours, other = [made, replace(made, costs=Costs(*[200] * 6))], [again]
    other.append(replace(again, costs=Costs(*[200] * 6)))
    plain = [[without_documents(point) for point in line] for line in (ours, other)]
    assert difference(ours, other).test > 1.3 * difference(*plain).test


@settings(max_examples=6)
@given(f1s=scores, names=st.sampled_from(["", "d"]))
def test_where_no_two_sentences_share_a_document_nothing_changes(f1s, names):
    ours, other = curve(f1s), curve(f1s[::-1], arm="b")
    apart = tuple(names and f"{names}{place}" for place in range(200))
    with_names = [[replace(point, documents=apart) for point in line] for line in (ours, other)]
    assert intervals(with_names[0]) == intervals(ours)
    assert difference(*with_names) == difference(ours, other)
    assert rows(with_names[0]) == rows(ours)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_documents_never_make_a_score_surer(count):
    generator = np.random.default_rng(0)
    right = (generator.random(400) < 0.8).astype(float)
    one = np.ones(400)
    made = Point("a", Costs(), {"word_f1": right.mean()}, counts=np.stack([right, one, one], 1))
    few = replace(made, documents=tuple(f"d{place % count}" for place in range(400)))
    (alone,), (together,) = intervals([made]), intervals([few])
    assert together.test >= alone.test > 0
    alike = noisy([f"d{place // 40}" for place in range(400)])  # ten documents
    (alone,), (together,) = intervals([without_documents(alike)]), intervals([alike])
    assert together.test > 3 * alone.test
    other = noisy(alike.documents, seed=1)
    lines = [[one, replace(one, costs=Costs(*[200] * 6))] for one in (alike, other)]
    plain = [[without_documents(point) for point in line] for line in lines]
    assert difference(*lines).test > 2 * difference(*plain).test > 0


def test_sentences_of_unknown_documents_are_drawn_by_themselves():
    known = [f"d{place // 4}" for place in range(120)]
    made = noisy([*known, *(f"u{place}" for place in range(60))])
    unknown = replace(made, documents=(*known, *[""] * 60))
    assert intervals([unknown]) == intervals([made])


def test_documents_must_be_those_of_the_test_sentences():
    made = noisy(["a", "b", "b"])
    for wrong in (("a", "b"), ("b", "b", "a")):
        with pytest.raises(DataError, match="same test sentences"):
            intervals([made, replace(made, documents=wrong)])


def part_of(point, places):
    """A point as if only these of its test sentences had been there."""
    assert point.counts is not None
    return replace(
        point,
        counts=point.counts[places],
        documents=tuple(point.documents[place] for place in places),
        test=tuple(point.test[place] for place in places),
    )


def test_points_are_compared_on_the_test_sentences_that_they_share():
    whole = noisy([f"d{place // 3}" for place in range(30)])
    late, turned = replace(whole, epoch=1), part_of(whole, [*range(30)][::-1])
    some, few = part_of(whole, [*range(18)]), part_of(whole, [*range(10)])
    few = replace(few, scores={"word_f1": 0.0})
    assert comparable([whole, late]) == [whole, late]
    found = comparable([few, some, turned, whole, late])
    assert (found[0].counts, found[0].word_f1) == (None, 0.0)
    assert found[4] is late
    wanted = part_of(whole, [whole.test.index(uid) for uid in sorted(some.test)])
    assert wanted.counts is not None
    right, predicted, gold = wanted.counts.sum(axis=0)
    for point in found[1:4]:
        assert (point.test, point.documents) == (wanted.test, wanted.documents)
        np.testing.assert_array_equal(point.counts, wanted.counts)  # pyright: ignore[reportArgumentType]
        assert point.word_f1 == pytest.approx(2 * right / (predicted + gold))
    assert len(rows(found)) == 5
