"""What linear segmenters learn, and from what."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from attar.data.segments.cuts import Segmented
from attar.data.segments.legal import illegal
from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation import SegmenterConfig, fit
from attar.methods.active_segmentation.chain import EITHER
from attar.methods.active_segmentation.crf import chain_loss
from attar.methods.active_segmentation.dictionary import Dictionary
from attar.methods.active_segmentation.features import feature_matrix, lay_out
from attar.methods.active_segmentation.fitting import compact, constrained, permitted
from attar.methods.active_segmentation.pointwise import point_loss
from thai_words import WORDS, sentences

PLAIN = SegmenterConfig(dictionary=None, hash_bits=12)
POINT = replace(PLAIN, kind="pointwise")
NETWORK = replace(PLAIN, kind="character-cnn", epochs=1)


def partly(rows, *, seed=0):
    """Rows of which some positions are decided alone."""
    rng = np.random.default_rng(seed)
    found = []
    for row in rows:
        inner = np.arange(1, len(row.text))
        chosen = tuple(inner[rng.random(len(inner)) < 0.4].tolist())
        found.append(replace(row, decided=chosen))
    return found


def material(rows, *, bits=12, legal=True):
    layout = lay_out([row.text for row in rows])
    allowed = permitted(layout, legal=legal)
    rows_ = np.flatnonzero(allowed == EITHER)
    matrix = feature_matrix(layout, dictionary=None, bits=bits, rows=rows_)
    used = compact(matrix, bits=bits)
    return layout, matrix, used, allowed, constrained(rows, layout, allowed=allowed)


def same(one, other, *, close=1e-6):
    """Whether two segmenters think the same of a text."""
    text = "".join(WORDS)
    a, b = (each.beliefs([text])[0].cut_probabilities for each in (one, other))
    return np.abs(a - b).max() < close


@given(st.integers(0, 99), st.booleans(), st.booleans())
@settings(max_examples=8, deadline=None)
def test_gradients_are_those_of_the_losses(seed, legal, whole):
    rows = sentences(3, seed=seed)
    rows = rows if whole else partly(rows, seed=seed)
    layout, matrix, used, allowed, agreeing = material(rows, bits=8, legal=legal)
    rng = np.random.default_rng(seed)
    weights = rng.random(len(rows))
    kept = {"allowed": allowed, "agreeing": agreeing, "weights": weights, "c2": 0.1}
    chain = chain_loss(matrix, layout, **kept)
    values = rng.normal(size=len(used) + 4)
    size = np.sqrt(len(values))
    assert check_grad(lambda v: chain(v)[0], lambda v: chain(v)[1], values) < 1e-5 * size
    open_rows = np.flatnonzero(allowed == EITHER)
    decided = agreeing[open_rows] != EITHER
    labels = (agreeing[open_rows][decided] == 2).astype(float)
    of_row = weights[np.searchsorted(layout.starts, open_rows[decided], side="right") - 1]
    point = point_loss(matrix[decided], labels=labels, weights=of_row, c2=0.1)
    assert check_grad(lambda v: point(v)[0], lambda v: point(v)[1], values[:-4]) < 1e-5 * size
    # a chain without transitions is a regression at each position
    values[-4:] = 0
    loss, gradient = chain(values)
    other, slope = point(values[:-4])
    assert loss == pytest.approx(other, rel=1e-9)
    np.testing.assert_allclose(gradient[:-4], slope, rtol=1e-9, atol=1e-9)


def test_a_whole_sentence_is_one_whose_every_position_is_decided():
    rows = sentences(4)
    all_ = [replace(row, decided=tuple(range(1, len(row.text)))) for row in rows]
    *_, one = material(rows)
    *_, other = material(all_)
    assert (one == other).all()
    *_, none = material([replace(row, decided=()) for row in rows])
    assert (none == permitted(lay_out([row.text for row in rows]), legal=True)).all()


@pytest.mark.parametrize("config", [PLAIN, POINT, NETWORK])
def test_cuts_at_undecided_positions_mean_nothing(config):
    rows = partly(sentences(20))
    others = []
    for row in rows:
        known = set(row.decided)
        free = {at for at in range(1, len(row.text)) if at not in known}
        cuts = tuple(sorted((set(row.cuts) & known) | (free - set(row.cuts))))
        others.append(replace(row, cuts=cuts))
    assert same(fit(rows, config=config), fit(others, config=config), close=1e-12)


@pytest.mark.parametrize("config", [PLAIN, POINT])
def test_a_weight_counts_sentences(config):
    rows = sentences(12)
    config = replace(config, iterations=400, c2=1.0)
    twice = fit([*rows, *rows[:4]], config=config)
    weighted = fit(rows, config=config, weights=[2.0] * 4 + [1.0] * 8)
    assert same(twice, weighted, close=1e-3)
    without = fit(rows, config=config, weights=[0.0] * 4 + [1.0] * 8)
    assert same(without, fit(rows[4:], config=config), close=1e-3)
    assert not same(without, weighted, close=1e-3)


@pytest.mark.parametrize("config", [PLAIN, POINT])
def test_words_seen_in_training_are_found(config):
    rows = sentences(60)
    segmenter = fit(rows, config=config)
    fresh = sentences(20, seed=1)
    found = segmenter.segment([row.text for row in fresh])
    right = sum(cuts == row.cuts for cuts, row in zip(found, fresh, strict=True))
    assert right >= 18


@pytest.mark.parametrize("kind", ["crf", "pointwise"])
def test_illegal_cuts_are_learned_only_where_asked_for(kind):
    rows = [Segmented.of(["ไ", "ป", "บ", "้าน"]) for _ in range(10)]
    text = rows[0].text
    bad = illegal(text)
    config = replace(PLAIN, kind=kind)
    legal = fit(rows, config=config).beliefs([text])[0]
    assert (legal.cut_probabilities[bad] == 0).all()
    assert legal.cuts == (2,)
    free = fit(rows, config=replace(config, legal=False)).beliefs([text])[0]
    assert free.cuts == rows[0].cuts
    assert np.isfinite(legal.entropy)


def test_a_dictionary_is_seen():
    layout = lay_out(["xกินข้าวx"])
    words = Dictionary(["กิน", "ข้าว", "กินข้าว", "นข้"], name="some")
    matrix = feature_matrix(layout, dictionary=words, bits=20)
    without = feature_matrix(layout, dictionary=None, bits=20)
    assert (matrix[:, :-4] == without).all()
    begin, end, across, _ = matrix[:, -4:].T
    n = len("กินข้าว")
    assert len({*begin.tolist()}) == 4  # nothing, 7 characters, 4, 3
    assert begin[0] == begin[2] != begin[1]
    assert end[4] not in (end[0], end[n + 1])  # after 3 characters and after 7
    assert across[1] == across[n + 1] == across[0] != across[2]


def test_long_words_count_as_eight_characters():
    words = Dictionary(["ก" * 12, "ข" * 8], name="some")
    layout = lay_out(["ก" * 12, "ข" * 8])
    matrix = feature_matrix(layout, dictionary=words, bits=20)
    assert matrix[layout.starts[0], -4] == matrix[layout.starts[1], -4]


def test_what_cannot_be_learned_from_is_refused():
    rows = sentences(2)
    for nothing in ([], [Segmented("ก", ())], [Segmented("กข", (), decided=())]):
        with pytest.raises(DataError, match="label some"):
            fit(nothing, config=PLAIN)
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(ConfigError, match="weights must be"):
            fit(rows, config=PLAIN, weights=weights)
    for wrong in (
        {"kind": "hmm"},
        {"c2": -1.0},
        {"hash_bits": 40},
        {"bags": 1, "solver": "crfsuite"},
    ):
        with pytest.raises(ConfigError):
            SegmenterConfig(**wrong)
