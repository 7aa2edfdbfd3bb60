"""Batches by diversity, density and chance, against their definitions."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pools
from attar.methods.active_segmentation import arms, batches
from attar.methods.active_segmentation.features import feature_matrix, lay_out
from attar.methods.active_segmentation.ngrams import ngram_vectors

grids = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=12).map(
    lambda rows: np.array(rows, np.float64)
)
UIDS = [arms.uid(str(index)) for index in range(4000)]


def test_gradients_are_residuals_times_hashed_features() -> None:
    texts = [*pools.texts(6), "ก"]
    beliefs = pools.Reader().beliefs(texts)
    found = batches.gradients(texts, beliefs, bits=5)
    for row, text, belief in zip(found, texts, beliefs, strict=True):
        expected = np.zeros(32)
        features = feature_matrix(lay_out([text]), dictionary=None, bits=6)
        for offset in range(1, len(text)):
            residual = belief.cut_probabilities[offset - 1] - (offset in belief.cuts)
            for value in features[offset]:
                expected[value >> 1] += residual / len(text) * (1 if value & 1 else -1)
        np.testing.assert_allclose(row, expected, atol=1e-12)
    assert not found[-1].any()


@given(grids, st.integers(0, 5))
def test_seeding_takes_every_row_once_and_the_distant_first(points, seed: int) -> None:
    taken = list(batches.badge(points, generator=np.random.default_rng(seed)))
    assert sorted(taken) == list(range(len(points)))
    assert taken[0] == (points**2).sum(1).argmax()
    # As long as there are points away from all that were taken, one of them comes next.
    distinct = len({tuple(point) for point in points})
    assert len({tuple(points[index]) for index in taken[:distinct]}) == distinct
    again = list(batches.badge(points, generator=np.random.default_rng(seed)))
    assert again == taken


def test_seeding_draws_in_proportion_to_squared_distances() -> None:
    points = np.array([[10.0, 0], [10, 1], [10, 2], [10, -3]])
    # The first is the longest: (10, -3), at 9, 16 and 25 from the others.
    seconds = [
        next(itertools.islice(batches.badge(points, generator=np.random.default_rng(seed)), 1, 2))
        for seed in range(4000)
    ]
    shares = np.bincount(seconds, minlength=4) / 4000
    np.testing.assert_allclose(shares, np.array([9, 16, 25, 0]) / 50, atol=0.03)


@given(grids, st.integers(0, 3))
def test_k_centre_always_takes_the_farthest(points, known: int) -> None:
    known = min(known, len(points) - 1)
    centres, rest = points[:known], points[known:]
    taken: list[int] = []
    for index in batches.k_centre(rest, centres=centres if known else None):
        have = np.concatenate([centres, rest[taken]])
        left = [place for place in range(len(rest)) if place not in taken]
        if len(have):
            nearest = ((rest[:, None] - have) ** 2).sum(-1).min(1)
            assert nearest[index] == nearest[left].max()
            assert index == min(place for place in left if nearest[place] == nearest[index])
        else:
            assert index == 0
        taken.append(index)
    assert sorted(taken) == list(range(len(rest)))


def test_density_is_the_mean_cosine_with_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pools.texts(60)
    vectors = ngram_vectors(texts)
    expected = (vectors @ vectors.T).toarray().mean(axis=1)
    np.testing.assert_allclose(batches.densities(texts), expected, atol=1e-6)
    monkeypatch.setattr(batches, "_TEXTS", 7)
    np.testing.assert_allclose(batches.densities(texts), expected, atol=1e-6)
    assert len(batches.densities([])) == 0


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_the_first_of_a_draw_falls_in_proportion_to_its_score(beta: float) -> None:
    scores = np.array([0.5, 1.0, 2.0])
    firsts = [
        batches.perturbed(scores, UIDS[:3], beta=beta, salt=str(draw)).argmax()
        for draw in range(4000)
    ]
    expected = scores**beta / (scores**beta).sum()
    np.testing.assert_allclose(np.bincount(firsts, minlength=3) / 4000, expected, atol=0.03)


def test_weights_by_the_recorded_probabilities_estimate_the_pool() -> None:
    """Horvitz and Thompson: a sum over the draw, each divided by its probability, is unbiased."""
    scores = np.random.default_rng(0).gamma(1.0, 1.0, 40) + 0.01
    values = np.arange(40.0)
    estimates = []
    for draw in range(2000):
        noisy = batches.perturbed(scores, UIDS[:40], beta=1.0, salt=str(draw))
        order = np.argsort(-noisy)
        drawn, threshold = order[:12], float(noisy[order[12]])
        chances = batches.inclusion(scores[drawn], threshold, beta=1.0)
        assert (chances > 0).all()
        assert (chances < 1).all()
        estimates.append((values[drawn] / chances).sum())
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert abs(np.mean(estimates) - values.sum()) < 4 * error


def test_a_score_of_zero_is_drawn_last_and_noise_is_the_sentences_own() -> None:
    scores = np.array([0.0, 1e-9, 5.0])
    noisy = batches.perturbed(scores, UIDS[:3], beta=1.0, salt="a")
    assert noisy.argmin() == 0
    assert noisy[0] == -np.inf
    alone = batches.perturbed(scores[2:], UIDS[2:3], beta=1.0, salt="a")
    assert alone[0] == noisy[2]
    assert np.isfinite(batches.perturbed(scores, UIDS[:3], beta=0.0, salt="a")).all()
    assert batches.inclusion(scores, -3.0, beta=1.0)[0] == 0


def test_doubt_is_what_seeding_looks_for() -> None:
    texts = pools.texts(30)
    beliefs = pools.Reader().beliefs(texts)
    sure = [replace(one, cut_probabilities=(one.cut_probabilities > 0.5) * 1.0) for one in beliefs]
    sure[17] = beliefs[17]
    rows = batches.gradients(texts, sure)
    assert next(batches.badge(rows, generator=np.random.default_rng(0))) == 17
