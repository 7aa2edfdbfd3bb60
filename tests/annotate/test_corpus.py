"""Texts come in, are kept for evaluation, and go out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from annotating import Maker, annotate, filled, sentences
from attar.annotate import corpus, queue
from attar.annotate.accounts import add_user
from attar.annotate.checks import examine, problems
from attar.annotate.drawing import draw
from attar.annotate.events import ACCOUNT, events_of
from attar.annotate.loading import load_study
from attar.annotate.policies import import_answers
from attar.annotate.refusals import Conflict
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project, state_of
from attar.annotate.tables import PickRow, SentenceRow, Task
from attar.data.segments.cuts import Segmented
from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.arms import backfill, random_order
from attar.methods.active_segmentation.study import test_set as labelled_reserve

SMALL = AnnotateConfig(
    reserve_fraction=0.2,
    reserve_minimum=0,
    seed_sentences=5,
    per_arm=3,
    draw={"budget": 40, "near_duplicates": None},
    segmenter={"dictionary": None, "iterations": 3, "hash_bits": 10},
)


def served(project: Project, arm: str = "random") -> set[str]:
    with project.read() as session:
        return set(session.scalars(select(PickRow.sentence).where(PickRow.arm == arm)))


def test_an_import_and_its_repetition(make: Maker) -> None:
    project = make(SMALL)
    rows = sentences(30)
    report = corpus.add(
        project, [*rows, rows[0], Segmented.raw("ก" * 301), Segmented.raw("ก\0ข")], snapshot="first"
    )
    assert (report.new, report.duplicate, report.too_long, report.refused) == (30, 1, 1, 1)
    again = corpus.add(project, sentences(40), snapshot="second")
    assert (again.new, again.duplicate) == (10, 30)
    with pytest.raises(Conflict, match="first"):
        corpus.add(project, rows, snapshot="first")
    with pytest.raises(DataError, match="found 1 longer ones"):
        corpus.add(project, [Segmented.raw("ก" * 500)])
    with project.read() as session:
        counts = select(SentenceRow.occurrences).order_by(SentenceRow.occurrences.desc())
        assert session.scalars(counts).first() == 3
        reserved = select(func.count()).where(SentenceRow.reserved)
        asked = select(func.count()).where(Task.kind == "evaluation")
        assert session.scalar(reserved) == session.scalar(asked)
    assert not list(problems(examine(project)))
    assert load_study(project).snapshot == "second"


def test_an_import_that_was_cut_short_goes_on(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    project, write, calls = make(SMALL), corpus._write, []

    def dies(*args: Any, **options: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(corpus, "CHUNK", 10)
        patch.setattr(corpus, "_write", dies)
        with pytest.raises(KeyboardInterrupt):
            corpus.add(project, sentences(30), snapshot="first")
    assert load_study(project).snapshot == ""
    with pytest.raises(DataError, match="import text"):  # it could be kept for evaluation
        draw(project, arm="random")
    report = corpus.add(project, sentences(30), snapshot="first")
    assert (report.new, report.duplicate) == (30, 0)
    with project.read() as session:
        assert set(session.scalars(select(SentenceRow.occurrences))) == {1}
    assert load_study(project).reserved


def test_an_import_counts_offsets_as_it_is_told(make: Maker, tmp_path: Path) -> None:
    project, file = make(SMALL), tmp_path / "labels.jsonl"
    row = {"text": "😀กข", "label": [[0, 2, "W"], [2, 3, "W"], [3, 4, "W"]]}
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="code points"):
        corpus.add(project, file, format="doccano", offsets="codepoint")
    corpus.add(project, file, format="doccano", offsets="utf16")
    with project.read() as session:
        assert session.scalars(select(SentenceRow.gold)).all() == [[1, 2]]


def test_of_two_imports_at_once_both_follow_the_reserve(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, seen = make(SMALL), corpus._seen

    def meanwhile(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        corpus.add(project, sentences(30))
        return seen(*args, **options)

    monkeypatch.setattr(corpus, "_seen", meanwhile)
    corpus.add(project, sentences(90))
    with project.read() as session:
        threshold = state_of(session).reserve
        kept = session.execute(select(SentenceRow.key_eval, SentenceRow.reserved)).all()
    assert all(reserved == (key < threshold) for key, reserved in kept)


def test_the_random_arm_is_a_prefix_of_one_order(make: Maker) -> None:
    """Whatever the active arm draws in between, and however the corpus grows and shrinks."""
    project = make(SMALL)
    corpus.add(project, sentences(30))
    add_user(project, name="ann")
    for step in range(8):
        draw(project, arm="random")
        draw(project, arm="active")
        if step == 1:
            corpus.add(project, sentences(60))
        if step == 5:
            corpus.remove(project, uids=sorted(served(project))[:3])
        study = load_study(project)
        pool = study.sentences.keys() - study.reserved
        mine = served(project)
        if backfill(pool, drawn=mine):
            assert 1 <= step < 4  # new sentences come first, and soon it is a prefix again
        else:
            mine &= pool
            assert set(random_order(pool)[: len(mine)]) == mine
        assert not list(problems(examine(project)))
    with project.write() as session:
        session.execute(delete(PickRow).where(PickRow.arm == "random", PickRow.batch == 0))
    assert [finding.check for finding in problems(examine(project))] == ["random arm"]


def test_what_leaves_is_not_asked_and_comes_back(make: Maker) -> None:
    project = make(SMALL)
    corpus.add(project, sentences(30))
    add_user(project, name="ann")
    draw(project, arm="random")
    assert annotate(project, "ann", 2) == 2
    before = len(load_study(project).labels)
    assert corpus.remove(project, snapshot="s1") == 30
    assert queue.next_task(project, annotator="ann") is None
    study = load_study(project)
    assert (len(study.sentences), len(study.labels)) == (0, before)
    with pytest.raises(DataError, match="to remove"):
        corpus.remove(project, document="nowhere")
    corpus.add(project, sentences(30))
    assert len(load_study(project).sentences) == 30
    assert queue.next_task(project, annotator="ann")
    assert not list(problems(examine(project)))


def test_words_that_are_known_are_answers(make: Maker) -> None:
    project = make(SMALL)
    rows = sentences(30)
    corpus.add(project, rows)
    words = corpus.words_of([*rows, Segmented("กข", (1,)), Segmented.raw("คง")])
    assert len(words) == 31
    assert import_answers(project, {}, annotator="gold") == 0
    assert import_answers(project, words, annotator="gold") == 30
    assert import_answers(project, words, annotator="gold") == 0
    with pytest.raises(ConfigError, match="name"):
        import_answers(project, words, annotator="no name")
    with project.read() as session:
        log = [one.scope for one in events_of(session, accounts=True) if one.kind == ACCOUNT]
    assert log.count("gold") == 1
    study = load_study(project)
    assert len(labelled_reserve(study)) == len(study.reserved)
    report = draw(project, arm="random")
    assert (report.picks > 0, report.tasks) == (True, 0)
    assert not list(problems(examine(project)))


def test_answers_are_the_words_of_their_own_file(make: Maker) -> None:
    """Not those that came with the same text before."""
    project = make(replace(SMALL, evaluation_annotators=2))
    rows = sentences(30)
    corpus.add(project, rows)
    others = [Segmented(row.text, ()) for row in rows]
    for name, words in {"first": rows, "second": others}.items():
        corpus.add(project, words)
        import_answers(project, corpus.words_of(words), annotator=name)
    cuts = {label.cuts for label in load_study(project).labels if label.annotator == "second"}
    assert cuts == {()}


def test_the_batches_are_the_same_on_every_database(make: Maker) -> None:
    """These are what SQLite and PostgreSQL both give."""
    project = filled(make(SMALL), 30)
    draw(project, arm="random")
    with project.read() as session:
        tasks = session.scalars(
            select(Task.id).join(PickRow, PickRow.task == Task.id).order_by(PickRow.rank)
        ).all()
    order = []
    while (task := queue.next_task(project, annotator="ann")) and task.task not in order:
        order.append(task.task)
        annotate(project, "ann", 1)
    assert tasks[:3] == ["32919cb9d11cf3ff", "1cf498d706ed033f", "b624916b4ae059d1"]
    shuffled = ["2e835cf8a4500e2f", "32919cb9d11cf3ff", "b624916b4ae059d1", "1cf498d706ed033f"]
    assert order[:4] == shuffled
