"""A finished project as files: every curve from them alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotating import Maker, annotate, sentences
from attar.annotate import corpus, jobs
from attar.annotate.accounts import add_user
from attar.annotate.drawing import refill
from attar.annotate.events import change_guideline
from attar.annotate.exporting import export_labels, export_project, read_export
from attar.annotate.loading import load_study
from attar.annotate.overview import overview
from attar.annotate.points import load_points
from attar.annotate.results import WITH_HISTORY, export
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project
from attar.data.segments.formats import FORMATS, read_segments
from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.curves import rows
from attar.methods.active_segmentation.measuring import history
from attar.methods.active_segmentation.study import test_set as labelled_reserve

SETTINGS = AnnotateConfig(
    reserve_fraction=0.2,
    reserve_minimum=0,
    seed_sentences=5,
    per_arm=3,
    retrain_after=0,
    low_water=4,
    refits=2,
    draw={"budget": 40, "near_duplicates": None},
    segmenter={"dictionary": None, "iterations": 3, "hash_bits": 10},
)


def finished(make: Maker) -> Project:
    """Two rounds of labels and training, with a change of guideline between them."""
    project = make(SETTINGS)
    parts = [f"d{place // 5}" if place < 30 else "" for place in range(40)]
    corpus.add(
        project,
        [
            replace(row, meta={"document": name})
            for row, name in zip(sentences(40), parts, strict=True)
        ],
    )
    add_user(project, name="ann")
    refill(project)
    for name in ("g2", "g3"):
        assert annotate(project, "ann", 9) == 9
        jobs.ask_for(project)
        jobs.work(project, once=True)
        assert all(job.state == "done" for job in jobs.jobs(project))
        revision = overview(project).revision
        change_guideline(project, version=name, text="", expected=revision, policy="keep")
    return project


def test_an_export_gives_every_curve(make: Maker, tmp_path: Path) -> None:
    project = finished(make)
    jobs.ask_for(project, kind="history")  # the past, scored anew in the epoch of today
    jobs.work(project, once=True)
    folder = export_project(project, output=tmp_path / "out")
    study, points = read_export(folder)
    assert study == load_study(project)
    stored = load_points(project)
    assert {point.epoch for point in stored} == {0, 1, 2}
    assert points == stored
    for mine, theirs in zip(points, stored, strict=True):
        np.testing.assert_array_equal(mine.counts, theirs.counts)
        of = [study.sentences[uid].document for uid in theirs.test]
        assert list(mine.documents) == of
        assert len({*of}) < len(of)
    assert rows(points) == rows(stored)
    assert rows(points) != rows([replace(point, documents=()) for point in points])
    # and not only the numbers: training again on the files gives the last of them
    last = replace(study, events=study.events)
    again = history(last, test=labelled_reserve(last))
    assert {point.arm for point in again} == {"active", "random", "union"}
    assert {point.documents for point in again} == {points[-1].documents}
    with pytest.raises(ConfigError, match="empty folder"):
        export_project(project, output=folder)
    old = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    for row in old:  # as they were before they named documents
        del row["documents"]
    (folder / "points.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    apart = read_export(folder)[1]
    assert rows(apart) == rows([replace(point, documents=()) for point in points])
    (folder / "picks.jsonl").write_text('{"uid": 3}\n')
    with pytest.raises(DataError, match="damaged"):
        read_export(folder)
    (folder / "project.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="install the version"):
        read_export(folder)


def test_labels_in_a_format(make: Maker, tmp_path: Path) -> None:
    project = finished(make)
    export_labels(project, output=tmp_path / "all.jsonl", history=True)
    found = list(read_segments(tmp_path / "all.jsonl"))
    assert len(found) == 18
    assert all(row.meta["history"][-1]["annotator"] == "ann" for row in found)
    export_labels(project, output=tmp_path / "random.jsonl", arm="random", reserve="without")
    mine = list(read_segments(tmp_path / "random.jsonl"))
    assert mine
    assert all("random" in row.meta["arms"] for row in mine)
    export_labels(project, output=tmp_path / "test.txt", format="best", reserve="only")
    reserved = list(read_segments(tmp_path / "test.txt", format="best"))
    assert {row.text for row in reserved}.isdisjoint(row.text for row in mine)
    status = overview(project)
    assert [(arm.name, arm.answered > 0) for arm in status.arms] == [
        ("random", True),
        ("active", True),
    ]
    assert status.people[0].answers == 18
    assert status.staleness == 0


def test_a_history_needs_a_format_that_holds_it(make: Maker, tmp_path: Path) -> None:
    project = finished(make)
    for name, form in FORMATS.items():
        file = tmp_path / f"{name}{form.suffixes[0]}"
        export_labels(project, output=file, format=name, history=True)
        kept = "history" in next(read_segments(file, format=name)).meta
        assert kept == (name in WITH_HISTORY), name
    project.close()
    with pytest.raises(ConfigError, match="which hold a history"):
        export(project.folder, output=tmp_path / "h.conllu", history=True)
