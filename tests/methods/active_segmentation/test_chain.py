"""Inference in the chain equals going through all segmentations."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.methods.active_segmentation.chain import entropies, marginals, paths

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@st.composite
def chains(draw, longest=9):
    n = draw(st.integers(1, longest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.0, 1.0, 5.0, 30.0]))
    allowed = rng.choice([1, 2, 3, 3], n).astype(np.uint8)
    return rng.normal(size=n) * spread, rng.normal(size=(2, 2)) * spread, allowed


def enumerated(scores, transitions, allowed):
    """All segmentations (S, n) that are allowed, and the score of each."""
    every = np.array([*product([0, 1], repeat=len(scores))])
    every = every[((allowed >> every) & 1).all(1)]
    totals = every @ scores + transitions[every[:, :-1], every[:, 1:]].sum(1)
    return every, totals


def both(chain):
    scores, transitions, allowed = chain
    where = {"starts": np.array([0]), "stops": np.array([len(scores)])}
    return (
        marginals(scores, transitions, allowed=allowed, **where),
        paths(scores, transitions, allowed=allowed, **where),
    )


@given(chains(longest=12))
@settings(max_examples=60, deadline=None)
def test_inference_equals_enumeration(chain):
    scores, transitions, _ = chain
    known, best = both(chain)
    every, totals = enumerated(*chain)
    log_z = np.logaddexp.reduce(totals)
    probability = np.exp(totals - log_z)
    np.testing.assert_allclose(known.log_z, [log_z], **CLOSE)
    np.testing.assert_allclose(known.begin, probability @ every, **CLOSE)
    for a, b in product([0, 1], repeat=2):
        times = ((every[:, :-1] == a) & (every[:, 1:] == b)).sum(1)
        np.testing.assert_allclose(known.pairs[0, a, b], probability @ times, **CLOSE)
    entropy = -(probability[probability > 0] @ np.log(probability[probability > 0]))
    found = entropies(known, scores, transitions, starts=np.array([0]))
    np.testing.assert_allclose(found, [entropy], **CLOSE)
    order = np.argsort(-totals)
    np.testing.assert_allclose(best.best, totals[order[0]], **CLOSE)
    second = totals[order[1]] if len(order) > 1 else -np.inf
    np.testing.assert_allclose(best.second, second, **CLOSE)
    at = (every == best.states).all(1)
    np.testing.assert_allclose(totals[at], [best.best[0]], **CLOSE)


@given(chains())
@settings(max_examples=30, deadline=None)
def test_constraints_lie_between_the_path_and_everything(chain):
    scores, transitions, allowed = chain
    known, best = both(chain)
    one, _ = both((scores, transitions, (best.states + 1).astype(np.uint8)))
    np.testing.assert_allclose(one.log_z, best.best, **CLOSE)
    np.testing.assert_allclose(one.begin, best.states, **CLOSE)
    partly = allowed.copy()
    partly[::2] = best.states[::2] + 1
    some, _ = both((scores, transitions, partly))
    assert best.best[0] - 1e-9 <= some.log_z[0] <= known.log_z[0] + 1e-9


@given(st.lists(st.one_of(st.none(), chains()), max_size=5))
@settings(max_examples=30, deadline=None)
def test_texts_do_not_see_one_another(found):
    empty = (np.zeros(0), np.zeros((2, 2)), np.zeros(0, np.uint8))
    parts = [empty if one is None else one for one in found]
    transitions = np.array([[0.3, -0.2], [0.1, 0.7]])
    gap = np.zeros(3)
    scores = np.concatenate([np.append(one[0], gap) for one in parts] or [gap])
    allowed = np.concatenate([np.append(one[2], gap + 3) for one in parts] or [gap]).astype("u1")
    lengths = np.array([len(one[0]) for one in parts], np.int64)
    starts = np.cumsum(lengths + 3) - lengths - 3
    where = {"allowed": allowed, "starts": starts, "stops": starts + lengths}
    known = marginals(scores, transitions, **where)
    best = paths(scores, transitions, **where)
    entropy = entropies(known, scores, transitions, starts=starts)
    assert (known.log_z[lengths == 0] == 0).all()
    assert (best.second[lengths == 0] == -np.inf).all()
    for i, (own, _, mask) in enumerate(parts):
        if len(own):
            alone, path = both((own, transitions, mask))
            rows = slice(starts[i], starts[i] + lengths[i])
            assert (known.begin[rows] == alone.begin).all()
            assert (best.states[rows] == path.states).all()
            assert best.second[i] == path.second[0]
            single = entropies(alone, own, transitions, starts=np.array([0]))
            np.testing.assert_allclose(entropy[i], single[0], **CLOSE)


def test_long_texts_and_large_scores_stay_finite():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200_000) * 900
    chain = (scores, rng.normal(size=(2, 2)) * 50, np.full(len(scores), 3, np.uint8))
    known, best = both(chain)
    assert ((known.begin >= 0) & (known.begin <= 1 + 1e-12)).all()
    assert np.isfinite(known.log_z).all()
    assert best.second <= best.best <= known.log_z + 1e-6 * abs(known.log_z)
