"""A trained segmenter draws by every strategy, the same at any size of chunks."""

import pytest

import pools
from attar.data.segments.cuts import Segmented
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import DrawConfig, draw_active, score_pool
from attar.methods.active_segmentation.picks import POSITIONS, STRATEGIES
from attar.methods.active_segmentation.segmenter import Segmenter, fit

POOL = pools.pool(80, words=8)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    rows = [Segmented.of(words) for words in (["กา", "เดิน"], ["น้ำ", "ใจ", "มาก"], ["รัก", "แมว"])]
    config = SegmenterConfig(kind="pointwise", dictionary=None, bags=5, iterations=5, hash_bits=12)
    return fit(rows, config=config)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batches_of_a_trained_model(segmenter: Segmenter, strategy: str) -> None:
    unit = {"unit": "decisions", "budget": 20} if strategy in POSITIONS else {"budget": 200}
    config = DrawConfig(strategy=strategy, **unit)
    options = {"reserved": set(), "config": config}
    draw = draw_active(POOL, segmenter=segmenter, drawn=set(), batch=1, **options)
    assert draw.picks
    assert not draw.warnings
    if "random" not in strategy:
        table = score_pool(POOL, segmenter=segmenter, model="", chunk=9, **options)
        again = draw_active(
            POOL[::-1], table=table, segmenter=segmenter, drawn=set(), batch=1, **options
        )
        assert [(one.uid, one.positions) for one in again.picks] == [
            (one.uid, one.positions) for one in draw.picks
        ]
