"""Scores equal the formulas they are defined by."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pools
from attar.errors import ConfigError
from attar.methods.active_segmentation.scores import ENSEMBLE, SCORES, SIGNED, binary_entropy

probabilities = st.lists(st.sampled_from((0.0, 0.1, 0.25, 0.5, 0.7, 0.99, 1.0)), max_size=8)
doubtful = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=7)
ensembles = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=1, max_size=5)
)


def entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


@given(doubtful)
def test_scores_of_sequences_by_listing_all_segmentations(p: list[float]) -> None:
    beliefs = pools.belief(p)
    every = sorted(
        math.prod(q if cut else 1 - q for q, cut in zip(p, cuts, strict=True))
        for cuts in itertools.product((0, 1), repeat=len(p))
    )
    first, second = every[-1], every[-2]
    expected = {
        "least_confidence": 1 - first,
        "margin": second - first,
        "mnlp": -math.log(first) / (len(p) + 1),
        "sequence_entropy": -sum(q * math.log(q) for q in every),
    }
    for name, value in expected.items():
        assert SCORES[name](beliefs) == pytest.approx(value, abs=1e-9), name


@given(probabilities)
def test_scores_of_positions_by_hand(p: list[float]) -> None:
    beliefs = pools.belief(p)
    entropies = sorted(map(entropy, p))
    top = entropies[-3:]
    expected = {
        "total_token_entropy": sum(entropies),
        "mean_token_entropy": sum(entropies) / (len(p) + 1),
        "min_margin": -min((abs(2 * q - 1) for q in p), default=1),
        "topk_entropy": sum(top) / max(1, len(top)),
    }
    for name, value in expected.items():
        assert SCORES[name](beliefs) == pytest.approx(value, abs=1e-12), name


@given(probabilities)
def test_mnlp_times_length_is_the_log_probability(p: list[float]) -> None:
    beliefs = pools.belief(p)
    assert SCORES["mnlp"](beliefs) * (len(p) + 1) == pytest.approx(-beliefs.log_probability)


@given(ensembles)
def test_scores_of_ensembles_by_hand(members: list[list[float]]) -> None:
    beliefs = replace(pools.belief(members[0]), members=np.array(members))
    columns, n = list(zip(*members, strict=True)), len(members[0]) + 1
    mean = [sum(column) / len(column) for column in columns]
    inside = [sum(map(entropy, column)) / len(column) for column in columns]
    bald = sum(entropy(p) - h for p, h in zip(mean, inside, strict=True)) / n
    votes = [sum(p > 0.5 for p in column) / len(column) for column in columns]
    assert SCORES["bald"](beliefs) == pytest.approx(bald, abs=1e-12)
    assert SCORES["bald"](beliefs) >= 0
    assert SCORES["vote_entropy"](beliefs) == pytest.approx(sum(map(entropy, votes)) / n)


@given(doubtful, st.integers(1, 6))
def test_members_that_agree_have_nothing_to_learn_from(p: list[float], count: int) -> None:
    beliefs = replace(pools.belief(p), members=np.array([p] * count))
    assert SCORES["bald"](beliefs) == pytest.approx(0, abs=1e-12)
    assert SCORES["vote_entropy"](beliefs) == 0


@given(probabilities)
def test_signs(p: list[float]) -> None:
    beliefs = pools.belief(p, members=3)
    for name, score in SCORES.items():
        assert -1 <= score(beliefs) <= 0 if name in SIGNED else score(beliefs) >= 0


def test_a_single_character_and_a_sure_sentence_are_worth_nothing() -> None:
    for p in ([], [1.0, 0.0, 1.0]):
        beliefs = pools.belief(p, members=2)
        for name in set(SCORES) - ENSEMBLE:
            assert SCORES[name](beliefs) == (-1 if name in SIGNED else 0), name


def test_entropy_of_certainty_is_zero() -> None:
    assert binary_entropy(np.array([0.0, 1.0])).tolist() == [0, 0]


@pytest.mark.parametrize("name", sorted(ENSEMBLE))
def test_scores_of_ensembles_ask_for_one(name: str) -> None:
    with pytest.raises(ConfigError, match="members=5"):
        SCORES[name](pools.belief([0.5]))
