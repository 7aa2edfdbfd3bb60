"""Changes around the annotators, and what becomes of their labels."""

import uuid
from dataclasses import replace

import pytest

from annotating import Maker, annotate, answer_to, filled, log_of
from attar.annotate import answers, policies, queue
from attar.annotate.checks import examine, problems
from attar.annotate.drawing import draw
from attar.annotate.events import change_guideline, change_settings, events_of, log_event
from attar.annotate.loading import load_study
from attar.annotate.policies import apply_policy
from attar.annotate.refusals import Conflict
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project, State, state_of
from attar.data.segments.cuts import tokens_of
from attar.errors import ConfigError
from attar.methods.active_segmentation.events import Event, revisions
from attar.methods.active_segmentation.rules import Rule, join_prefix
from attar.methods.active_segmentation.study import resolved

SMALL = AnnotateConfig(
    reserve_fraction=0.2,
    reserve_minimum=0,
    seed_sentences=5,
    per_arm=3,
    overlap_share=0.0,
    draw={"budget": 40, "near_duplicates": None},
    segmenter={"dictionary": None, "iterations": 3, "hash_bits": 10},
)


def state(project: Project) -> State:
    with project.read() as session:
        return state_of(session)


def labelled(make: Maker) -> Project:
    project = filled(make(SMALL), 30)
    draw(project, arm="random")
    assert annotate(project, "ann", 6) == 6
    return project


def test_of_two_administrators_the_second_is_told(make: Maker) -> None:
    project = labelled(make)
    seen = state(project)
    change_settings(project, expected=seen.revision, settings=AnnotateConfig(per_arm=7))
    for late in (
        lambda: change_settings(project, expected=seen.revision, settings=AnnotateConfig()),
        lambda: change_guideline(project, version="g2", text="", expected=seen.revision),
    ):
        with pytest.raises(Conflict, match="somebody else has changed"):
            late()
    now = state(project)
    assert (now.settings.per_arm, now.guideline) == (7, "g1")
    with project.read() as session:
        kinds = [event.kind for event in events_of(session)]
    assert kinds[-2:] == ["hyper.change", "strategy.change"]
    change_guideline(project, version="g2", text="x", expected=now.revision)
    with pytest.raises(Conflict, match="already"):
        change_guideline(project, version="g1", text="x", expected=now.revision + 1)
    with pytest.raises(ConfigError, match="change_guideline"):
        log_event(project, Event(kind="guideline.change", after="g3"))
    with pytest.raises(ConfigError, match=r"policy must be keep or drop for annotator\.leave"):
        log_event(project, Event(kind="annotator.leave", scope="ann", policy="tag"))
    assert state(project).guideline == "g2"


def test_a_pause(make: Maker) -> None:
    project = labelled(make)
    log_event(project, Event(kind="pause", note="holidays"))
    assert queue.next_task(project, annotator="ann") is None
    resumed = log_event(project, Event(kind="resume"))
    assert queue.next_task(project, annotator="ann")
    assert resumed.sequence == 6
    with project.read() as session:
        kinds = [event.kind for event in events_of(session)]
    assert kinds[-2:] == ["pause", "resume"]


def test_a_rule_rewrites_labels_once(make: Maker) -> None:
    project = labelled(make)
    before = resolved(load_study(project))
    words = {token for row in before for token in _tokens(project, row)}
    rule = join_prefix(sorted(words))
    now = state(project)
    change_guideline(
        project, version="g2", text="", expected=now.revision, policy="migrate", rule=rule
    )
    done = apply_policy(project)
    assert (done.migrated, done.relabel, done.evaluation) == (6, 0, 0)
    assert apply_policy(project).migrated == 0
    after = resolved(load_study(project))
    for uid, found in after.items():
        assert found.guideline == "g2"
        assert len(found.cuts) < max(len(before[uid].cuts), 1)
    machine = [row for row in log_of(project) if row.status == "migrated"]
    assert len({row.root for row in machine}) == len(machine) == 6
    # another process may do the same at the same time
    study = load_study(project)
    by_people = [label for label in study.labels if label.status != "migrated"]
    texts = {uid: sentence.text for uid, sentence in study.sentences.items()}
    again = revisions(by_people, events=study.events, texts=texts)
    assert len(again) == 6
    policies._append(project, again)
    assert len(log_of(project)) == 12
    # a person can still undo what was rewritten
    answers.void(project, annotator="ann", annotation=machine[0].root, id=str(uuid.uuid4()))
    assert machine[0].sentence not in resolved(load_study(project))
    assert not list(problems(examine(project)))


def _tokens(project: Project, uid: str) -> list[str]:
    study = load_study(project)
    return tokens_of(study.sentences[uid].text, resolved(study)[uid].cuts)


def test_labels_in_question_are_asked_again(make: Maker) -> None:
    project = labelled(make)
    study = load_study(project)
    reserved = {label.uid for label in study.labels} & study.reserved
    now = state(project)
    change_guideline(project, version="g2", text="", expected=now.revision, policy="relabel")
    done = apply_policy(project)
    assert (done.relabel, done.evaluation) == (6 - len(reserved), len(reserved))
    again = apply_policy(project)
    assert (again.relabel, again.evaluation) == (0, 0)
    annotate(project, "ann")
    assert apply_policy(project).relabel == 0
    labels = [label for label in load_study(project).labels if label.guideline == "g2"]
    assert {label.uid for label in study.labels} <= {label.uid for label in labels}
    assert not list(problems(examine(project)))


@pytest.mark.parametrize("other", [{"kind": "character-cnn"}, {"solver": "crfsuite"}])
def test_guidelines_side_by_side_need_a_segmenter_that_tells_them_apart(
    make: Maker, other: dict[str, str]
) -> None:
    project = make(replace(SMALL, segmenter=other))
    now = state(project)
    with pytest.raises(ConfigError, match="tells guidelines apart"):
        change_guideline(project, version="g2", text="", expected=now.revision, policy="tag")
    assert state(project) == now
    with pytest.raises(ConfigError, match="refits"):
        AnnotateConfig(refits=5, segmenter={"solver": "crfsuite"})


def test_a_rule_is_stored_as_it_is(make: Maker) -> None:
    project = make(SMALL)
    rule = Rule("replace", ("การ|เมือง",))
    change_guideline(project, version="g2", text="", expected=1, policy="migrate", rule=rule)
    with project.read() as session:
        (event,) = events_of(session)
    assert (event.rule, event.before, event.after) == (rule, "g1", "g2")


def test_one_task_is_not_answered_by_a_stale_guideline(make: Maker) -> None:
    project = labelled(make)
    task = queue.next_task(project, annotator="ann")
    assert task
    change_guideline(project, version="g2", text="", expected=state(project).revision)
    with pytest.raises(Conflict, match="has changed"):
        answers.submit(project, annotator="ann", answer=answer_to(task))
    assert len(log_of(project)) == 6
