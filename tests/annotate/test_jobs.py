"""Training while people work, killed at every step."""

import os
import signal
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

import processes
from annotating import QUICK, Maker, annotate, filled, sentences
from attar.annotate import answers, corpus, jobs, queue, store, training
from attar.annotate.accounts import add_user
from attar.annotate.acts import text_digest
from attar.annotate.drafts import new_draft
from attar.annotate.drawing import draw, model_paths, refill
from attar.annotate.events import change_guideline, events_of, set_strategy
from attar.annotate.loading import load_study
from attar.annotate.opening import open_project
from attar.annotate.overview import overview
from attar.annotate.refusals import Busy
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project, state_of
from attar.annotate.tables import ModelRow, ProjectRow, Score, SentenceRow
from attar.annotate.tasks import NewTask, ask
from attar.annotate.training import STEPS
from attar.errors import ConfigError


def begun(make: Maker, settings: AnnotateConfig = QUICK) -> Project:
    """A project with a few labels of each arm."""
    project = filled(make(settings), 60)
    refill(project)
    assert annotate(project, "ann", 8) == 8
    return project


def test_a_run_puts_models_points_and_a_ranking_in_force(make: Maker) -> None:
    project = begun(make)
    asked = jobs.ask_for(project)
    assert jobs.ask_for(project) == asked
    assert jobs.work(project, once=True) == 1
    (job,) = jobs.jobs(project)
    assert (job.state, job.error) == ("done", "")
    with project.read() as session:
        assert state_of(session).ranking == job.id
        models = session.scalars(select(ModelRow).order_by(ModelRow.arm)).all()
        assert [model.arm for model in models] == ["active", "random", "union"]
        assert session.scalar(select(func.count()).select_from(Score)) == 60
    assert all((project.models / model.path / "config.json").is_file() for model in models)
    task = queue.next_task(project, annotator="bob")
    assert task
    annotate(project, "bob", 10)


def test_a_job_is_due_by_itself_and_a_mistake_is_its_result(make: Maker) -> None:
    project = filled(make(replace(QUICK, retrain_after=8)), 60)
    jobs.ask_for(project)
    assert jobs.work(project, once=True) == 1  # which also fills the queues
    (failed,) = jobs.jobs(project)
    assert failed.state == "failed"
    assert "found none: label some that attar annotate draw has drawn" in failed.error
    assert annotate(project, "ann", 7) == 7
    assert jobs.work(project, once=True) == 0
    assert annotate(project, "ann", 1) == 1
    assert jobs.work(project, once=True) == 1
    assert jobs.jobs(project)[0].reason == "8 new annotations"
    assert jobs.work(project, once=True) == 0


def test_what_somebody_skipped_is_no_reason_to_draw_nothing(make: Maker) -> None:
    project = filled(make(QUICK), 60, users=["ann"])
    for _ in range(3):
        refill(project)
        while task := queue.next_task(project, annotator="ann"):
            answers.skip(project, annotator="ann", task=task.task, id=str(uuid.uuid4()))
    assert all(arm.batches == 3 for arm in overview(project).arms)


@pytest.mark.parametrize("strategy", ["boundaries", "badge"])
def test_a_damaged_model_stops_nobody(make: Maker, strategy: str) -> None:
    unit = "decisions" if strategy == "boundaries" else "characters"
    draw_so = {**QUICK.draw, "unit": unit, "budget": 20}
    project = begun(make, replace(QUICK, draw=draw_so))
    with project.write() as session:
        set_strategy(session, strategy)
    jobs.ask_for(project)
    jobs.work(project, once=True)
    with project.read() as session:
        path = model_paths(session)["active"][1]
    (project.models / path / "config.json").write_text("{")
    report = draw(project, arm="active")
    assert report.picks
    assert "drawn without it" in report.warnings[0]


@pytest.mark.parametrize("positions", [None, (2, 4)])
def test_after_a_run_reviewers_are_asked_where_people_differ(
    make: Maker, positions: tuple[int, ...] | None
) -> None:
    project = begun(make)
    with project.write() as session:
        uid = session.scalars(select(SentenceRow.uid).where(~SentenceRow.reserved)).first()
        assert uid
        asked = NewTask(uid, "overlap", needed=2, order=-1, positions=positions)
        (name,) = ask(session, [asked], seed=1, now=project.clock())
    text = load_study(project).sentences[uid].text
    for who, cuts in (("ann", (2,)), ("bob", (4,))):
        answer = answers.Answer(
            id=str(uuid.uuid4()),
            task=name,
            text_sha=text_digest(text),
            cuts=cuts,
            decided=positions,
            guideline="g1",
        )
        with project.write() as session:
            given = {"now": project.clock(), "prefill": None, "prefill_model": None}
            new_draft(session, name, annotator=who, **given)
        answers.submit(project, annotator=who, answer=answer)
    add_user(project, name="rae", role="reviewer")
    jobs.ask_for(project)
    jobs.work(project, once=True)
    task = queue.next_task(project, annotator="rae")
    assert task
    assert task.text == text
    assert task.positions == positions
    assert [one.cuts for one in task.answers] == [(2,), (4,)]


def test_a_run_in_force_stays_so_whatever_comes_after(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = begun(make)

    def busy(*_: object) -> None:
        raise Busy("others were writing")

    monkeypatch.setattr(training, "_clean", busy)
    asked = jobs.ask_for(project)
    jobs.work(project, once=True, pause=0)
    assert jobs.jobs(project)[0].state == "done"
    with project.read() as session:
        assert state_of(session).ranking == asked.id


def test_what_is_logged_during_a_run_explains_the_next(make: Maker) -> None:
    project = begun(make)
    done = []

    def on_step(step: str) -> None:
        if step == "switch" and not done:
            done.append(step)
            with project.read() as session:
                revision = state_of(session).revision
            change_guideline(project, version="g2", text="new", expected=revision, policy="keep")
            corpus.add(project, sentences(70))

    for _ in range(2):
        jobs.ask_for(project)
        jobs.work(project, once=True, on_step=on_step)
    with project.read() as session:
        assert not [event for event in events_of(session) if event.detected]


def test_a_change_that_nobody_logged_is_noticed(make: Maker) -> None:
    project = begun(make)
    jobs.ask_for(project)
    jobs.work(project, once=True)
    other = replace(QUICK, segmenter={**QUICK.segmenter, "c2": 0.5})
    with project.write() as session:
        session.execute(update(ProjectRow).values(settings=other.to_json()))
    for _ in range(2):
        jobs.ask_for(project)
        jobs.work(project, once=True)
    with project.read() as session:
        found = [event for event in events_of(session) if event.detected]
    assert [event.kind for event in found] == ["features.change"]


def die_at(folder: Path, database: str | None, at: str) -> None:
    """A worker that is killed when it comes to a step."""

    def on_step(step: str) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_project(folder, database=database) as project:
        jobs.work(project, once=True, on_step=on_step)


def nursery(orders: Connection, folder: Path, database: str | None) -> None:
    """A process that has done a job, so that nothing is left to load or to compile, and makes a
    worker for each step it is told.
    """
    die_at(folder, database, "nowhere")
    orders.send(0)
    while step := orders.recv():
        worker = os.fork()
        if not worker:
            die_at(folder, database, step)
            os._exit(0)
        _, status = os.waitpid(worker, 0)
        orders.send(os.waitstatus_to_exitcode(status))


def test_kill_9_at_any_step_leaves_a_queue_that_can_be_served(
    make: Maker, request: pytest.FixtureRequest
) -> None:
    project = begun(make)
    jobs.ask_for(project)
    url = None if project.sqlite else project.engine.url.render_as_string(hide_password=False)
    here, there = processes.context().Pipe()
    request.addfinalizer(here.close)  # which ends the nursery where the test fails
    parent = processes.start(nursery, there, project.folder, url)
    assert here.recv() == 0
    for step in STEPS:
        with project.read() as session:
            before = state_of(session).ranking
        jobs.ask_for(project)
        here.send(step)
        assert here.recv() == -signal.SIGKILL
        with project.read() as session:
            now = state_of(session).ranking
        assert (now == before) == (STEPS.index(step) <= STEPS.index("switch"))
        assert annotate(project, "bob", 1) == 1, f"the queue is empty after {step}"
        assert jobs.work(project, once=True) == (now == before)
        assert jobs.jobs(project)[0].state == "done"
        assert not list(project.models.glob("*.partial"))
    here.send("")
    parent.join()


def test_one_worker_is_enough(make: Maker) -> None:
    project = begun(make)
    with (
        jobs._alone(project),
        pytest.raises(ConfigError, match="another worker"),
    ):
        jobs.work(project, once=True)


def test_a_busy_database_fails_no_job(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is begun again, a few times."""
    project = begun(make)
    jobs.ask_for(project)
    switch, left = training._switch, [2]

    def busy(*args: Any, **options: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise Busy("others were writing")
        switch(*args, **options)

    monkeypatch.setattr(training, "_switch", busy)
    assert jobs.work(project, once=True, pause=0) == 1
    states = [(job.state, job.error) for job in jobs.jobs(project)]
    assert states == [("done", ""), ("abandoned", ""), ("abandoned", "")]
    jobs.ask_for(project)
    left[0] = 100
    jobs.work(project, once=True, pause=0)
    last = jobs.jobs(project)[:4]
    assert [job.state for job in last] == ["abandoned"] * 3 + ["done"]
    assert "3 times in a row" in last[0].error


def test_a_worker_waits_for_its_turn_longer_than_a_request(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make()
    begin, left, slept = Session.connection, [3], list[float]()

    def connection(self: Session, *args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OperationalError("BEGIN IMMEDIATE", None, Exception("database is locked"))
        return begin(self, *args, **options)

    monkeypatch.setattr(Session, "connection", connection)
    monkeypatch.setattr(store.time, "sleep", slept.append)
    with pytest.raises(Busy), project.write():
        pass
    left[0] = 3
    with replace(project, patience=60.0).write() as session:
        assert state_of(session).sequence == 0
    assert slept == [0.1, 0.2, 0.4]


def test_a_worker_notices_that_it_lost_its_place(make: Maker) -> None:
    """On PostgreSQL the place belongs to a connection, which ends with the server."""
    project = make()
    if project.sqlite:
        return
    end = text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    with jobs._alone(project) as keep_place:
        keep_place()
        for _ in range(2):
            with project.engine.connect() as connection:
                connection.execute(end)
            with pytest.raises(Busy):
                keep_place()
            with suppress(Busy):  # taken again by the second look at the latest
                keep_place()
            keep_place()
        with project.engine.connect() as connection:
            while connection.execute(end).all():  # it takes a moment to go
                time.sleep(0.01)
        with jobs._alone(project), pytest.raises(ConfigError, match="another worker"):
            with suppress(Busy):
                keep_place()
            keep_place()
