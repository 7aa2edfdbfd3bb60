"""What the monitors of a project say."""

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from annotating import Maker, annotate, answer_to, log_of, sentences
from attar.annotate import answers, corpus, jobs, queue
from attar.annotate.accounts import acknowledge, add_user
from attar.annotate.advice import told
from attar.annotate.drawing import draw, refill
from attar.annotate.events import change_guideline
from attar.annotate.overview import overview
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project
from attar.annotate.tables import BatchRow, PickRow, ProjectRow, Score
from attar.annotate.words import Words
from attar.methods.active_segmentation.drawing import score_pool
from attar.methods.active_segmentation.monitors import change_rate, mean_uncertainty
from attar.methods.active_segmentation.rules import join_prefix
from attar.methods.active_segmentation.segmenter import Segmenter

SETTINGS = AnnotateConfig(
    reserve_fraction=0.3,
    reserve_minimum=0,
    seed_sentences=10,
    per_arm=2,
    control_share=0.5,
    evaluation_share=0.5,
    retrain_after=0,
    low_water=4,
    draw={"budget": 60, "near_duplicates": None},
    segmenter={"dictionary": None, "iterations": 5, "hash_bits": 10},
)


def begun(make: Maker, settings: AnnotateConfig = SETTINGS) -> Project:
    """Labels of each arm and of the reserve; a third of the lines repeat another one."""
    project = make(settings)
    rows = [
        replace(row, meta={"document": f"{'news' if at % 2 else 'novel'}/{at // 4}"})
        for at, row in enumerate(sentences(40))
    ]
    corpus.add(project, [*rows, *rows[:20]])
    for name in ("ann", "bob"):
        add_user(project, name=name)
    refill(project)
    annotate(project, "ann", 14)
    return project


def train(project: Project) -> dict[str, tuple[int, ...]]:
    """One training run; the cuts that it leaves."""
    jobs.ask_for(project)
    jobs.work(project, once=True)
    assert jobs.jobs(project)[0].error == ""
    with project.read() as session:
        return {row.sentence: tuple(row.cuts) for row in session.scalars(select(Score))}


def test_models_are_watched_as_they_are_trained(make: Maker) -> None:
    project = begun(make)
    said = {one.monitor for one in told(project)}
    assert {"uncertainty", "stability"}.isdisjoint(said)
    before = train(project)
    (first,) = [one for one in told(project) if one.monitor == "uncertainty"]
    assert "stability" not in {one.monitor for one in told(project)}
    annotate(project, "ann", 8)
    after = train(project)
    said = {one.monitor: one for one in told(project)}
    with project.read() as session:
        texts = {row.sentence: row for row in session.scalars(select(Score))}
        assert texts.keys() == before.keys()
    from attar.annotate.loading import load_study

    study = load_study(project)
    names = sorted(before)
    wanted = change_rate(
        [before[name] for name in names],
        [after[name] for name in names],
        texts=[study.sentences[name].text for name in names],
    )
    assert said["stability"].value == pytest.approx(wanted)
    assert wanted > 0
    model = Segmenter.from_pretrained(project.models / str(overview(project).run) / "active")
    pool = [one for one in study.sentences.values() if one.uid not in study.reserved]
    unsure = mean_uncertainty(model.beliefs([one.text for one in pool]))
    assert said["uncertainty"].value == pytest.approx(unsure)
    assert f"({first.value:.4f} after the first training)" in said["uncertainty"].text
    table = score_pool(
        [*study.sentences.values()],
        segmenter=model,
        model="",
        reserved=study.reserved,
        config=study.config.arms["active"],
        chunk=7,
    )
    assert table.uncertainty == pytest.approx(unsure)


def test_people_and_batches_are_watched_in_either_language(make: Maker) -> None:
    project = begun(make)
    while (given := queue.next_task(project, annotator="bob")) is not None:
        answers.submit(project, annotator="bob", answer=answer_to(given, ()))
    said = {(one.monitor, one.about): one for one in told(project)}
    assert said["controls", "bob"].level == "act"
    assert said["controls", "bob"].value < 0.95
    assert ("controls", "ann") not in said
    assert said["duplicates", ""].value == pytest.approx(20 / 60)
    assert said["duplicates", ""].text.startswith("33.3% of the lines")
    for arm in ("random", "active"):
        for name in ("lengths", "sources"):
            assert (name, arm) in said
    thai = told(project, Words("th"))
    assert [(one.monitor, one.value) for one in thai] == [
        (one.monitor, one.value) for one in said.values()
    ]
    assert all(one.text != said[one.monitor, one.about].text for one in thai)
    revision = overview(project).revision
    rule = join_prefix(["กา"])
    change_guideline(project, version="g2", text="", expected=revision, policy="migrate", rule=rule)
    assert "controls" not in {one.monitor for one in told(project)}  # nobody was asked under g2
    revision = overview(project).revision
    change_guideline(project, version="g3", text="", expected=revision, policy="keep")
    add_user(project, name="cat")
    acknowledge(project, annotator="cat", guideline="g3")
    while (given := queue.next_task(project, annotator="cat")) is not None:
        answers.submit(project, annotator="cat", answer=answer_to(given, ()))
    assert "cat" in {row.annotator for row in log_of(project) if row.kind == "control"}
    assert "controls" not in {one.monitor for one in told(project)}  # g3 has no right answers yet


def test_what_a_batch_left_out_is_watched(make: Maker) -> None:
    strict = {**SETTINGS.draw, "near_duplicates": 0.45}
    project = begun(make, replace(SETTINGS, draw=strict))
    assert "near_duplicates" not in {one.monitor for one in told(project)}  # in the common start
    train(project)
    for arm in ("random", "active"):
        draw(project, arm=arm)
    with project.read() as session:
        last = select(BatchRow).where(BatchRow.number > 0).order_by(BatchRow.id.desc())
        batches = {row.arm: row for row in session.scalars(last).all()[::-1]}
        active = batches["active"]
        picked = select(PickRow).where(PickRow.arm == "active", PickRow.batch == active.number)
        count = len(session.scalars(picked).all())
        skipped = active.near_duplicates
    assert skipped
    assert batches["random"].near_duplicates is None
    (one,) = [one for one in told(project) if one.monitor == "near_duplicates"]
    assert (one.about, one.value) == ("active", pytest.approx(skipped / (skipped + count)))
    store = replace(SETTINGS, draw={**SETTINGS.draw, "near_duplicates": None})
    with project.write() as session:
        session.execute(update(ProjectRow).values(settings=store.to_json()))
    draw(project, arm="active")
    assert "near_duplicates" not in {one.monitor for one in told(project)}  # nobody looked
