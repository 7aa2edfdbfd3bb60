"""Places where the model is unsure: shown only where no arms are compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

import annotation_site
import attar
from annotating import Maker, annotate, filled
from attar.annotate import backups, jobs, queue
from attar.annotate.backups import upgrade
from attar.annotate.drawing import refill
from attar.annotate.migrations import head
from attar.annotate.opening import open_project
from attar.annotate.overview import overview
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project
from attar.annotate.tables import ProjectRow, Score, Task
from attar.errors import ConfigError
from attar.methods.active_segmentation.monitors import DOUBT, doubtful
from attar.methods.active_segmentation.picks import DrawConfig
from attar.methods.active_segmentation.segmenter import Segmenter

SHOWN = AnnotateConfig(
    reserve_fraction=0.1,
    reserve_minimum=0,
    seed_sentences=4,
    control_share=0.0,
    prefill_none_share=0.0,
    retrain_after=0,
    low_water=4,
    show_doubts=True,
    draw={"budget": 60, "near_duplicates": None, "scorer": "union"},
    segmenter={"dictionary": None, "iterations": 1, "hash_bits": 10},
)


def store(project: Project, settings: AnnotateConfig) -> None:
    with project.write() as session:
        session.execute(update(ProjectRow).values(settings=settings.to_json()))


def train(project: Project) -> None:
    jobs.ask_for(project)
    jobs.work(project, once=True)
    assert jobs.jobs(project)[0].error == ""


def test_they_are_refused_while_arms_are_compared(tmp_path: Path) -> None:
    assert not AnnotateConfig().show_doubts
    for scorer in ("own", "union"):
        init: Any = {
            "config": AnnotateConfig(show_doubts=True),
            "drawing": DrawConfig(scorer=scorer),
        }
        if scorer == "own":
            with pytest.raises(ConfigError, match="show_doubts must be off while the arms"):
                attar.annotate.init(tmp_path / scorer, **init)
            assert not (tmp_path / scorer).exists()
        else:
            attar.annotate.init(tmp_path / scorer, **init)
    back: Any = {"kind": "strategy.change", "change": {"scorer": "own"}}
    with pytest.raises(ConfigError, match="show_doubts must be off while the arms"):
        attar.annotate.event.add(tmp_path / "union", **back)
    attar.annotate.event.add(tmp_path / "union", **back | {"change": {"show_doubts": False}})
    attar.annotate.event.add(tmp_path / "union", **back)


def test_an_editor_gets_those_of_the_model_whose_cuts_it_shows(make: Maker) -> None:
    project = filled(make(SHOWN), 60)
    refill(project)
    annotate(project, "ann", 4)
    first = queue.next_task(project, annotator="ann")
    assert first
    assert first.doubts is None  # nothing has been trained, so nothing is shown
    annotate(project, "ann", 3)
    train(project)
    task = queue.next_task(project, annotator="bob")
    assert task
    while task.cuts is None:  # evaluation sentences begin without cuts, and without doubts
        assert task.doubts is None
        annotate(project, "bob", 1)
        task = queue.next_task(project, annotator="bob")
        assert task
    folder = project.models / str(overview(project).run) / "union"
    (beliefs,) = Segmenter.from_pretrained(folder).beliefs([task.text])
    assert task.cuts == beliefs.cuts
    assert task.doubts == tuple(doubtful(beliefs)) != ()
    p = beliefs.cut_probabilities
    assert {at for at in range(1, len(task.text)) if DOUBT <= p[at - 1] <= 1 - DOUBT} == {
        *(task.doubts or ())
    }
    store(project, replace(SHOWN, show_doubts=False))
    again = queue.next_task(project, annotator="bob")
    assert again
    assert (again.task, again.cuts, again.doubts) == (task.task, task.cuts, None)
    store(project, replace(SHOWN, draw={**SHOWN.draw, "scorer": "own"}))
    again = queue.next_task(project, annotator="bob")
    assert again
    assert (again.task, again.cuts, again.doubts) == (task.task, task.cuts, None)
    store(project, SHOWN)
    train(project)
    again = queue.next_task(project, annotator="bob")
    assert again
    assert (again.cuts, again.doubts) == (task.cuts, None)  # what is shown is the old model's
    store(project, replace(SHOWN, show_doubts=False))
    train(project)
    with project.read() as session:
        assert {*session.scalars(select(Score.doubts))} == {None}


def test_no_annotator_of_an_experiment_is_told(tmp_path: Path) -> None:
    with annotation_site.make_project(tmp_path / "p") as project:
        run = jobs.ask_for(project).id
        with project.write() as session:
            for uid in session.scalars(select(Task.sentence)).all():
                session.add(
                    Score(
                        run=run,
                        sentence=uid,
                        strategy="mnlp",
                        value=0.5,
                        cuts=[3, 7],
                        doubts=[7, 9],
                    )
                )
            session.execute(update(ProjectRow).values(ranking=run))
        with annotation_site.client(annotation_site.application(project), "anna") as anna:
            given = anna.get("/api/next").json()
    assert (given["cuts"], given["doubts"]) == ([3, 7], None)


def test_an_older_project_is_upgraded_and_keeps_its_ranking(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = filled(make(replace(SHOWN, show_doubts=False)), 40)
    refill(project)
    annotate(project, "ann", 4)
    train(project)
    with project.write() as session:
        for change in (
            "DROP INDEX ix_annotation_annotator_status",
            "CREATE INDEX ix_annotation_annotator ON annotation (annotator)",
            "ALTER TABLE annotation DROP COLUMN role",
            "ALTER TABLE score DROP COLUMN doubts",
            "ALTER TABLE batch DROP COLUMN near_duplicates",
            "UPDATE alembic_version SET version_num = '0001'",
        ):
            session.execute(text(change))
    url = None if project.sqlite else project.engine.url.render_as_string(hide_password=False)
    with pytest.raises(ConfigError, match="older version"):
        open_project(project.folder, database=url)
    with monkeypatch.context() as patch:
        patch.setattr(backups, "replay", None)  # the upgrade stops after the tables are changed
        with pytest.raises(TypeError):
            upgrade(project.folder, database=url)
    for copy in (project.folder / "backups").iterdir():
        copy.unlink()  # the next one may have the same second in its name
    done = upgrade(project.folder, database=url)
    assert (done.before, done.after) == ("0001", head())
    assert (done.backup is not None) == project.sqlite
    with open_project(project.folder, database=url) as opened:
        given = queue.next_task(opened, annotator="bob")
        assert given
        assert given.doubts is None
        train(Project(opened.folder, opened.engine, project.clock))
