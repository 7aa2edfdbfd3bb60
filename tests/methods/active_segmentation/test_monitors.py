import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.data.segments.cuts import Segmented
from attar.methods.active_segmentation.beliefs import Beliefs
from attar.methods.active_segmentation.labels import Label
from attar.methods.active_segmentation.monitors import (
    change_rate,
    control_accuracy,
    controls,
    correction_rate,
    divergence,
    doubtful,
    duplicates,
    length_groups,
    mean_uncertainty,
    near_duplicates,
    power_law,
    projection,
    stability,
    uncertainty,
    unlike,
)

names = st.lists(st.sampled_from("abc"), min_size=1, max_size=30)


@given(batch=names, corpus=names)
def test_divergence_is_a_symmetric_distance_from_zero_to_one(batch, corpus):
    found = divergence(batch, corpus)
    assert -1e-12 <= found <= 1 + 1e-12
    assert found == pytest.approx(divergence(corpus, batch))
    assert divergence(batch, batch * 2) == pytest.approx(0, abs=1e-12)


def test_batches_that_share_nothing_with_the_corpus_are_a_bit_away():
    assert divergence(["a"], ["b"]) == pytest.approx(1)
    assert unlike(["a"], ["b"], of="sources", arm="active").level == "look"
    assert unlike(["a", "b"], ["a", "b"] * 9, of="sources", arm="active").level == "fine"


def test_length_groups_are_even_over_the_corpus():
    lengths = list(range(1, 101))
    groups = length_groups(lengths, lengths)
    assert sorted(np.unique(groups, return_counts=True)[1].tolist()) == [20] * 5


def test_uncertainty_is_largest_at_a_half():
    def beliefs(p):
        return Beliefs((), np.array(p), 0.0, 0.0, 0.0)

    assert mean_uncertainty([beliefs([0.5]), beliefs([0.5, 0.5])]) == pytest.approx(np.log(2))
    assert mean_uncertainty([beliefs([0.0, 1.0])]) == 0
    assert mean_uncertainty([]) == 0


def test_a_model_is_unsure_where_either_answer_may_be_right():
    p = np.array([0.0, 0.19, 0.2, 0.5, 0.79, 0.81, 1.0])
    assert doubtful(Beliefs((), p, 0.0, 0.0, 0.0)) == [3, 4, 5]


def test_repeated_lines_are_counted_beyond_the_first():
    assert duplicates([1, 1, 3]).value == pytest.approx(2 / 5)
    assert duplicates([1, 1]).value == 0
    assert near_duplicates(3, 1, arm="a").value == pytest.approx(3 / 4)
    assert [near_duplicates(n, 4, arm="a").level for n in (0, 4, 5)] == ["fine", "fine", "look"]
    assert near_duplicates(0, 0, arm="a").value == 0
    assert uncertainty([0.3, 0.2, 0.1]).more == {"first": 0.3}


def test_changed_cuts_are_counted_over_legal_offsets():
    assert change_rate([(1, 2)], [(2, 3)], texts=["กกกกก"]) == pytest.approx(2 / 4)
    assert stability([0.01, 0.001, 0.001, 0.001]).level == "look"
    assert stability([0.001, 0.01, 0.001]).level == "fine"


@given(a=st.floats(0.5, 1), b=st.floats(0.5, 3), c=st.floats(0.1, 1), n=st.integers(4, 8))
def test_the_power_law_finds_itself(a, b, c, n):
    costs = [200.0 * 2**i for i in range(n)]
    law = power_law(costs, [a - b * x**-c for x in costs])
    assert law is not None
    assert law.residual < 2e-3
    assert law.at(costs[-1]) == pytest.approx(a - b * costs[-1] ** -c, abs=5e-3)


def test_the_power_law_says_what_a_score_costs():
    costs = [100.0, 200.0, 400.0, 800.0, 1600.0]
    law = power_law(costs, [0.9 - 2 * x**-0.5 for x in costs])
    assert law is not None
    cost = law.cost_of(0.87)
    assert cost is not None
    assert law.at(cost) == pytest.approx(0.87)
    assert law.cost_of(1.0) is None


def test_curves_that_fall_or_are_short_are_not_projected():
    assert power_law([1, 2, 3], [0.1, 0.2, 0.3]) is None
    assert power_law([1, 2, 3, 4], [0.4, 0.3, 0.2, 0.1]) is None
    assert projection([1, 2], [0.1, 0.2], arm="a") is None
    rising = projection([100, 200, 400, 800], [0.5, 0.6, 0.65, 0.68], arm="a")
    assert rising is not None
    assert rising.value > 0.68


def test_corrections_are_counted_over_what_was_judged():
    whole = Label(uid="a", cuts=(1, 2, 3), corrections=2)
    part = Label(uid="b", cuts=(), decided=(1, 2), corrections=1)
    assert correction_rate([whole, part, Label(uid="c")]) == pytest.approx(3 / 6)


def test_control_accuracy_is_over_legal_offsets():
    gold = [Segmented("กกกก", (2,), None, {"id": "u"})]
    labels = [
        Label(uid="u", cuts=(2,), annotator="good"),
        Label(uid="u", cuts=(1,), annotator="bad"),
        Label(uid="u", cuts=(), decided=(2,), annotator="half"),
        Label(uid="other", cuts=(), annotator="absent"),
    ]
    found = control_accuracy(labels, gold)
    assert found == {"good": 1.0, "bad": pytest.approx(1 / 3), "half": 0.0}
    assert [one.level for one in controls(found)] == ["act", "fine", "act"]
