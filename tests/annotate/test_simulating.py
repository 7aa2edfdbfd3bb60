"""A replayed study as a verb."""

from pathlib import Path

from tests.methods.active_segmentation.replays import gold

import attar
from attar.annotate.config import SimulateConfig
from attar.data.segments.formats import write_segments
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.picks import DrawConfig


def test_curves_are_comparable_after_the_corpus_has_grown(tmp_path: Path) -> None:
    rows = gold(120)
    write_segments(rows[:70], tmp_path / "gold.jsonl", format="jsonl")
    write_segments(rows[70:], tmp_path / "more.jsonl", format="jsonl")
    happens = "- {batch: 2, kind: corpus.add, after: s2, add: more.jsonl}\n"
    (tmp_path / "events.yaml").write_text(happens)
    run = attar.annotate.simulate(
        tmp_path / "gold.jsonl",
        config=SimulateConfig(
            seeds=1,
            spend=250,
            refits=0,
            reserve_fraction=0.2,
            reserve_minimum=0,
            seed_sentences=6,
            events=tmp_path / "events.yaml",
        ),
        drawing=DrawConfig(budget=80, near_duplicates=None),
        segmenter=SegmenterConfig(dictionary=None, iterations=3, hash_bits=10),
    )
    assert len({row["batch"] for row in run.details["points"]}) > 2
    assert all("low" in row for row in run.details["points"])
    assert {gap["axis"] for gap in run.details["differences"]} >= {"characters", "sentences"}
