"""Our chain and our fit, held against CRFsuite."""

from dataclasses import replace

import numpy as np
import pycrfsuite
import pytest

from attar.errors import ConfigError
from attar.methods.active_segmentation import SegmenterConfig, fit
from attar.methods.active_segmentation.chain import EITHER, marginals, paths
from attar.methods.active_segmentation.crf import chain_loss
from attar.methods.active_segmentation.crfsuite import named_features, read, train
from attar.methods.active_segmentation.features import feature_matrix, lay_out
from attar.methods.active_segmentation.fitting import compact, constrained, minimum, permitted
from thai_words import sentences

CONFIG = SegmenterConfig(dictionary=None, legal=False, iterations=300, hash_bits=14, c2=0.5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    file = tmp_path_factory.mktemp("crfsuite") / "model"
    train(sentences(40), file, config=CONFIG, dictionary=None)
    tagger = pycrfsuite.Tagger()
    tagger.open(str(file))
    return tagger, read(file)


def free(layout):
    """Everything allowed, as in CRFsuite."""
    return np.full(layout.rows, EITHER, np.uint8)


def test_inference_on_its_weights_is_its_own(trained):
    tagger, weights = trained
    table = np.zeros(2**CONFIG.hash_bits)
    table[weights.used] = weights.values
    for row in sentences(10, seed=5):
        tagger.set([*named_features(row.text, config=CONFIG, dictionary=None)])
        layout = lay_out([row.text])
        scores = table[feature_matrix(layout, dictionary=None, bits=CONFIG.hash_bits)].sum(1)
        where = {"allowed": free(layout), "starts": layout.starts, "stops": layout.stops}
        known = marginals(scores, weights.transitions, **where)
        theirs = [tagger.marginal("B", at) for at in range(len(row.text))]
        np.testing.assert_allclose(known.begin, theirs, atol=1e-6)
        best = paths(scores, weights.transitions, **where)
        labels = ["B" if state else "I" for state in best.states]
        assert labels == tagger.tag()
        ours = float(np.exp(best.best - known.log_z)[0])
        assert ours == pytest.approx(tagger.probability(labels), abs=1e-6)


def test_our_fit_finds_its_optimum(trained):
    _, weights = trained
    rows = sentences(40)
    layout = lay_out([row.text for row in rows])
    matrix = feature_matrix(layout, dictionary=None, bits=CONFIG.hash_bits)
    used = compact(matrix, bits=CONFIG.hash_bits)
    order = np.argsort(used)
    agreeing = constrained(rows, layout, allowed=permitted(layout, legal=False))
    loss = chain_loss(
        matrix,
        layout,
        allowed=free(layout),
        agreeing=agreeing,
        weights=np.ones(len(rows)),
        c2=CONFIG.c2,
    )
    ours = minimum(loss, size=len(used) + 4, iterations=300)
    assert {*weights.used} <= {*used}  # ours has those of the gaps between texts, too
    at = order[np.searchsorted(used[order], weights.used)]
    theirs = np.zeros(len(used) + 4)
    theirs[at], theirs[-4:] = weights.values, weights.transitions.ravel()
    assert loss(ours)[0] == pytest.approx(loss(theirs)[0], rel=1e-4)
    assert loss(ours)[0] <= loss(theirs)[0] + 1e-6
    np.testing.assert_allclose(ours[at], weights.values, atol=0.02)


def test_it_is_a_solver_of_complete_labels():
    rows = sentences(30)
    config = replace(CONFIG, legal=True, solver="crfsuite")
    found = fit(rows, config=config).segment([row.text for row in rows])
    assert found == fit(rows, config=replace(config, solver="own")).segment([r.text for r in rows])
    with pytest.raises(ConfigError, match="solver own"):
        fit([*rows, replace(rows[0], decided=(1,))], config=config)
    with pytest.raises(ConfigError, match="weights must be"):
        fit(rows, config=config, weights=[2.0] * 30)
