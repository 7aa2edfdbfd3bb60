"""Answers: sent again, in conflict, undone; and the log from which everything else follows."""

import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from annotating import Clock, Maker, answer_to, ask_all, filled, log_of
from attar.annotate import acts, answers, queue
from attar.annotate.accounts import acknowledge, add_user
from attar.annotate.checks import examine, problems
from attar.annotate.events import change_guideline
from attar.annotate.loading import load_study
from attar.annotate.policies import ask_reviewers
from attar.annotate.queue import Assignment
from attar.annotate.refusals import Conflict, Forbidden, GuidelineChanged, Unknown
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Adjudication, Draft, Task
from attar.annotate.tasks import replay
from attar.errors import DataError
from attar.methods.active_segmentation.study import resolved

PLAIN = AnnotateConfig(
    reserve_fraction=0.0, reserve_minimum=0, control_share=0.0, overlap_share=0.0
)


def given(project: Project, who: str = "ann") -> Assignment:
    task = queue.next_task(project, annotator=who)
    assert task
    return task


def derived(project: Project) -> list[tuple[Any, ...]]:
    """What follows from the annotations."""
    with project.read() as session:
        tasks = session.scalars(select(Task).order_by(Task.id))
        found = [(t.id, t.state, t.live) for t in tasks]
        ruled = select(Adjudication).order_by(Adjudication.sentence, Adjudication.guideline)
        return [*found, *((a.sentence, a.guideline, a.annotation) for a in session.scalars(ruled))]


def test_the_same_answer_again_is_the_same_row(make: Maker) -> None:
    project = filled(make(PLAIN), 2)
    ask_all(project)
    answer = answer_to(given(project))
    first = answers.submit(project, annotator="ann", answer=answer)
    again = answers.submit(project, annotator="ann", answer=replace(answer, active_ms=9999))
    assert first.created
    assert not again.created
    assert (again.seq, again.id) == (first.seq, first.id)
    for other in (replace(answer, cuts=(3,)), replace(answer, decided=(2,))):
        with pytest.raises(Conflict, match="used for another"):
            answers.submit(project, annotator="ann", answer=other)
    with pytest.raises(Conflict, match="used for another"):
        answers.submit(project, annotator="bob", answer=answer)
    assert len(log_of(project)) == 1


def test_answers_that_cannot_be(make: Maker) -> None:
    project = filled(make(PLAIN), 1)
    ask_all(project)
    task = given(project)
    bad: list[dict[str, Any]] = [
        {"cuts": (3, 2)},
        {"cuts": (0,)},
        {"cuts": (10**6,)},
        {"decided": (1,)},
        {"id": "7"},
        {"id": "{00000000-0000-0000-0000-00000000000a}"},
        {"id": "00000000-0000-0000-0000-00000000000A"},
        {"trace": [{"key": "x" * 70_000}]},
    ]
    for change in bad:
        with pytest.raises(DataError):
            answers.submit(project, annotator="ann", answer=answer_to(task, **change))
    assert not log_of(project)


def test_what_is_refused_stays_as_a_draft(make: Maker) -> None:
    project = filled(make(PLAIN), 1)
    ask_all(project)
    task = given(project)
    with pytest.raises(Conflict, match="text that you saw"):
        answers.submit(project, annotator="ann", answer=answer_to(task, text_sha="0" * 64))
    with project.read() as session:
        revision = state_of(session).revision
    change_guideline(project, version="g2", text="Join them.", expected=revision)
    late = answer_to(task, [3])
    with pytest.raises(Conflict, match="from g1 to g2"):
        answers.submit(project, annotator="ann", answer=late)
    back = given(project)
    assert back.draft
    assert (back.task, back.draft.cuts, back.guideline) == (task.task, (3,), "g2")
    assert not back.acknowledged
    with pytest.raises(GuidelineChanged, match="not read the guideline g2"):
        answers.submit(project, annotator="ann", answer=replace(late, guideline="g2"))
    acknowledge(project, annotator="ann", guideline="g2")
    assert answers.submit(project, annotator="ann", answer=replace(late, guideline="g2")).created


def test_who_may_not(make: Maker) -> None:
    project = filled(make(PLAIN), 1)
    ask_all(project, only_for="bob")
    task = given(project, "bob")
    with pytest.raises(Forbidden):
        answers.submit(project, annotator="ann", answer=answer_to(task))
    with pytest.raises(Forbidden):
        answers.submit(project, annotator="nobody", answer=answer_to(task))
    with pytest.raises(Unknown):
        answers.submit(project, annotator="bob", answer=answer_to(task, task="0" * 16))
    done = answers.submit(project, annotator="bob", answer=answer_to(task))
    with pytest.raises(Forbidden):
        answers.void(project, annotator="ann", annotation=done.id, id=str(uuid.uuid4()))
    with pytest.raises(Unknown):
        answers.void(project, annotator="bob", annotation="x", id=str(uuid.uuid4()))


def test_a_task_that_was_not_given_is_not_taken(make: Maker) -> None:
    """Who guesses the name of a task, or heard it from somebody, can do nothing with it."""
    project = filled(make(PLAIN), 1)
    ask_all(project)
    clock = project.clock
    assert isinstance(clock, Clock)
    task = given(project)
    clock.now += 5000  # it would be free by now
    id = str(uuid.uuid4())
    with pytest.raises(Unknown, match="not given to you"):
        answers.submit(project, annotator="bob", answer=answer_to(task))
    with pytest.raises(Unknown, match="not given to you"):
        answers.skip(project, annotator="bob", task=task.task, id=id)
    with pytest.raises(Unknown, match="not given to you"):
        answers.flag(project, annotator="bob", task=task.task, id=id)
    assert not log_of(project)
    assert answers.submit(project, annotator="ann", answer=answer_to(task)).created


def test_undo_restores(make: Maker) -> None:
    project = filled(make(PLAIN), 3)
    ask_all(project)
    for act in ("submit", "skip", "flag"):
        undo_restores(project, act)


def undo_restores(project: Project, act: str) -> None:
    task = given(project)
    before = derived(project)
    id = str(uuid.uuid4())
    calls: dict[str, Callable[[], answers.Receipt]] = {
        "submit": lambda: answers.submit(
            project, annotator="ann", answer=answer_to(task, [2, 3], id=id)
        ),
        "skip": lambda: answers.skip(project, annotator="ann", task=task.task, id=id),
        "flag": lambda: answers.flag(project, annotator="ann", task=task.task, id=id, note="?"),
    }
    done = calls[act]()
    assert given(project).task != task.task
    undo = str(uuid.uuid4())
    undone = answers.void(project, annotator="ann", annotation=done.id, id=undo)
    assert undone.created
    assert not answers.void(project, annotator="ann", annotation=done.id, id=undo).created
    with pytest.raises(Conflict, match="undone already"):
        answers.void(project, annotator="ann", annotation=done.id, id=str(uuid.uuid4()))
    assert derived(project) == before
    assert given(project, "bob").task != task.task
    back = given(project)
    assert back.task == task.task
    if act == "submit":
        assert back.draft
        assert back.draft.cuts == (2, 3)
    assert all(past.undone for past in answers.history(project, annotator="ann"))
    again = answers.submit(project, annotator="ann", answer=answer_to(back))
    assert again.created
    answers.void(project, annotator="ann", annotation=again.id, id=str(uuid.uuid4()))
    assert derived(project) == before
    assert not list(problems(examine(project)))


def test_skips_and_flags(make: Maker) -> None:
    project = filled(make(PLAIN), 1, users=("ann", "bob"))
    ask_all(project)
    task = given(project)
    answers.skip(project, annotator="ann", task=task.task, id=str(uuid.uuid4()))
    assert queue.next_task(project, annotator="ann") is None
    assert given(project, "bob").task == task.task
    answers.flag(project, annotator="bob", task=task.task, id=str(uuid.uuid4()), note="cut off")
    assert queue.next_task(project, annotator="ann") is None
    assert queue.next_task(project, annotator="bob") is None
    add_user(project, name="rae", role="reviewer")
    answers.submit(project, annotator="rae", answer=answer_to(given(project, "rae")))
    with project.read() as session:
        assert [(t.state, t.live) for t in session.scalars(select(Task))] == [("done", 1)]


def test_any_reviewer_may_settle_what_was_asked_of_one_and_flagged(make: Maker) -> None:
    project = filled(make(PLAIN), 1, users=("ann", "bob"))
    ask_all(project, only_for="ann")
    task = given(project)
    add_user(project, name="rae", role="reviewer")
    assert queue.next_task(project, annotator="rae") is None
    answers.flag(project, annotator="ann", task=task.task, id=str(uuid.uuid4()), note="cut off")
    assert queue.next_task(project, annotator="bob") is None
    answers.submit(project, annotator="rae", answer=answer_to(given(project, "rae")))
    assert not list(problems(examine(project)))


def test_a_flag_is_shown_to_the_reviewer_who_settles_it_alone(make: Maker) -> None:
    project = filled(make(PLAIN), 1, users=("ann",))
    for name in ("rae", "rob"):
        add_user(project, name=name, role="reviewer")
    ask_all(project, needed=2)
    note = str(uuid.uuid4())
    answers.flag(project, annotator="ann", task=given(project).task, id=note, note="cut off")
    held = given(project, "rae")
    assert held.flags == ("cut off",)
    answers.submit(project, annotator="rae", answer=answer_to(held))
    assert given(project, "rob").flags == ()  # whose answer is one of two that know of no other


def test_a_flag_that_is_undone_leaves_nobody_stuck(make: Maker) -> None:
    project = filled(make(PLAIN), 1, users=("ann",))
    ask_all(project, only_for="ann")
    task = given(project)
    flag = str(uuid.uuid4())
    answers.flag(project, annotator="ann", task=task.task, id=flag)
    add_user(project, name="rae", role="reviewer")
    held = given(project, "rae")
    answers.void(project, annotator="ann", annotation=flag, id=str(uuid.uuid4()))
    answers.submit(project, annotator="rae", answer=answer_to(held))  # it was given to them
    assert queue.next_task(project, annotator="rae") is None
    assert queue.next_task(project, annotator="ann") is None
    assert not list(problems(examine(project)))


def test_a_flag_that_is_undone_goes_back_once_the_lease_has_ended(make: Maker) -> None:
    clock = Clock()
    project = filled(make(PLAIN, clock=clock), 1, users=("ann",))
    ask_all(project, only_for="ann")
    flag = str(uuid.uuid4())
    answers.flag(project, annotator="ann", task=given(project).task, id=flag)
    add_user(project, name="rae", role="reviewer")
    held = given(project, "rae")
    answers.void(project, annotator="ann", annotation=flag, id=str(uuid.uuid4()))
    clock.now += 1201
    assert queue.next_task(project, annotator="rae") is None
    answers.submit(project, annotator="ann", answer=answer_to(given(project)))
    with pytest.raises(Conflict, match="your draft is kept"):
        answers.submit(project, annotator="rae", answer=answer_to(held, [3]))
    with project.read() as session:
        assert [d.cuts for d in session.scalars(select(Draft).where(Draft.annotator == "rae"))] == [
            [3]
        ]


def test_no_answer_is_numbered_after_a_guideline_that_it_does_not_follow(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = filled(make(PLAIN), 1)
    if project.sqlite:
        pytest.skip("SQLite has one writer at a time")
    ask_all(project)
    answer = answer_to(given(project))
    number = acts.next_sequence

    def meanwhile(session: Session, *, guideline: str) -> int:
        revision = state_of(session).revision
        change_guideline(project, version="g2", text="", expected=revision)
        return number(session, guideline=guideline)

    monkeypatch.setattr(acts, "next_sequence", meanwhile)
    with pytest.raises(GuidelineChanged, match="from g1 to g2"):
        answers.submit(project, annotator="ann", answer=answer)
    assert not log_of(project)
    kept = given(project).draft
    assert kept
    assert kept.cuts == answer.cuts


def test_positions_that_were_asked_need_a_decision(make: Maker) -> None:
    project = filled(make(PLAIN), 1)
    ask_all(project, positions=(2, 3))
    task = given(project)
    assert task.positions == (2, 3)
    with pytest.raises(DataError, match="3 has none"):
        answers.submit(project, annotator="ann", answer=answer_to(task, [2], decided=(2,)))
    answers.submit(project, annotator="ann", answer=answer_to(task, [2]))


def test_a_whole_sentence_needs_a_whole_answer(make: Maker) -> None:
    project = filled(make(PLAIN), 1)
    ask_all(project)
    task = given(project)
    every = tuple(range(1, len(task.text)))
    with pytest.raises(DataError, match="1 has none"):
        answers.submit(project, annotator="ann", answer=answer_to(task, [2], decided=every[1:]))
    answers.submit(project, annotator="ann", answer=answer_to(task, [2], decided=every))
    assert [row.decided for row in resolved(load_study(project)).values()] == [None]


def test_of_positions_only_what_was_asked_counts_as_corrected(make: Maker) -> None:
    project = filled(make(PLAIN), 1)
    ask_all(project, positions=(2, 3))
    task = given(project)
    with project.write() as session:
        session.get_one(Draft, (task.task, "ann")).prefill = [2, 4]
    answers.submit(project, annotator="ann", answer=answer_to(task, [3]))
    assert log_of(project)[0].edits == 2


def test_a_reviewer_decides_and_sees_the_answers(make: Maker) -> None:
    project = filled(make(PLAIN), 1)
    ask_all(project, needed=2)
    for who, cuts in (("ann", [2]), ("bob", [3])):
        answers.submit(project, annotator=who, answer=answer_to(given(project, who), cuts))
    # a sentence that no arm drew belongs to the study all the same
    assert ask_reviewers(project) == 1
    assert ask_reviewers(project) == 0
    assert queue.next_task(project, annotator="ann") is None
    add_user(project, name="rae", role="reviewer")
    task = given(project, "rae")
    assert {(other.annotator, other.cuts) for other in task.answers} == {
        ("ann", (2,)),
        ("bob", (3,)),
    }
    done = answers.submit(project, annotator="rae", answer=answer_to(task, [2, 3]))
    with project.read() as session:
        (ruled,) = session.scalars(select(Adjudication))
        assert (ruled.annotation, ruled.reviewer) == (done.id, "rae")
    (found,) = resolved(load_study(project)).values()
    assert found.cuts == (2, 3)
    answers.void(project, annotator="rae", annotation=done.id, id=str(uuid.uuid4()))
    with project.read() as session:
        assert not session.scalars(select(Adjudication)).all()


def chaos(
    project: Project, who: str, *, seed: int, clock: Clock, lock: threading.Lock
) -> list[str]:
    """A client that crashes, retries, undoes and comes late; what it was told is stored."""
    rng, stored = random.Random(seed), list[str]()
    while (task := queue.next_task(project, annotator=who)) is not None:
        act = rng.random()
        if act < 0.1:  # gone, and the lease with it
            with lock:
                clock.now += 1500
            continue
        if act < 0.15:
            answers.skip(project, annotator=who, task=task.task, id=str(uuid.uuid4()))
            continue
        if act < 0.3:
            queue.save_draft(project, annotator=who, task=task.task, cuts=(1,))
        answer = answer_to(task, [rng.choice([1, 2, 3])])
        try:
            first = answers.submit(project, annotator=who, answer=answer)
            if rng.random() < 0.3:  # the reply was lost
                again = answers.submit(project, annotator=who, answer=answer)
                assert (again.seq, again.created) == (first.seq, False)
        except Conflict:  # somebody else has it: nothing of this answer may be stored
            continue
        if rng.random() < 0.15:
            answers.void(project, annotator=who, annotation=first.id, id=str(uuid.uuid4()))
        else:
            stored.append(first.id)
    return stored


def test_clients_that_crash_lose_and_double_nothing(make: Maker) -> None:
    """Three at once. What each was told is stored is there; no task has more answers than it needs;
    and everything that follows from the log can be built from it again."""
    clock, lock = Clock(), threading.Lock()
    people = ("ann", "bob", "cat")
    project = filled(make(replace(PLAIN, per_arm=3), clock=clock), 40, users=people)
    ask_all(project, 25)
    ask_all(project, 10, needed=2, round="twice")
    told: dict[str, list[str]] = {}
    failed: list[BaseException] = []

    def run(who: str, seed: int) -> None:
        try:
            told[who] = chaos(project, who, seed=seed, clock=clock, lock=lock)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(who, n)) for n, who in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    rows = {row.id: row for row in log_of(project)}
    void = {row.root for row in rows.values() if row.status == "void"}
    live = [row for row in rows.values() if row.status == "submitted" and row.root not in void]
    assert {row.id for row in live} == {id for ids in told.values() for id in ids}
    counts = Counter(row.task for row in live)
    with project.read() as session:
        for task in session.scalars(select(Task)):
            assert counts[task.id] <= task.needed
            assert task.state in ("done", "open")
    assert len({(row.task, row.annotator) for row in live}) == len(live)
    assert not list(problems(examine(project)))
    before = derived(project)
    with project.write() as session:
        assert replay(session) == 0
    assert derived(project) == before


def test_a_state_that_does_not_follow_is_found_and_mended(make: Maker) -> None:
    project = filled(make(PLAIN), 2)
    ask_all(project)
    answers.submit(project, annotator="ann", answer=answer_to(given(project)))
    right = derived(project)
    with project.write() as session:
        for task in session.scalars(select(Task)):
            task.live, task.state = 1 - task.live, "open"
    assert [finding.check for finding in problems(examine(project))] == ["tasks"]
    with project.write() as session:
        assert replay(session) == 2
    assert derived(project) == right


def test_a_reviewer_settles_a_flag_and_the_others_go_on(make: Maker) -> None:
    """An answer of an annotator who was at it meanwhile settles nothing."""
    project = filled(make(PLAIN), 1, users=("ann", "bob", "cat", "dan"))
    add_user(project, name="rae", role="reviewer")
    ask_all(project, needed=3)
    of_ann, of_bob = given(project), given(project, "bob")

    def state() -> tuple[str, int]:
        with project.read() as session:
            (task,) = session.scalars(select(Task))
            return task.state, task.live

    flag = str(uuid.uuid4())
    answers.flag(project, annotator="bob", task=of_bob.task, id=flag, note="cut off")
    answers.submit(project, annotator="ann", answer=answer_to(of_ann))
    assert state() == ("flagged", 1)
    assert queue.next_task(project, annotator="cat") is None
    ruled = answers.submit(project, annotator="rae", answer=answer_to(given(project, "rae")))
    assert state() == ("open", 2)
    assert given(project, "cat").task == of_ann.task
    undo = {"annotation": ruled.id, "id": str(uuid.uuid4())}
    answers.void(project, annotator="rae", **undo)
    assert state() == ("flagged", 1)
    answers.submit(project, annotator="rae", answer=answer_to(given(project, "rae")))
    of_cat = given(project, "cat")
    answers.flag(project, annotator="cat", task=of_cat.task, id=str(uuid.uuid4()))
    assert state() == ("flagged", 2)  # a new flag waits for a reviewer again
    assert not list(problems(examine(project)))
