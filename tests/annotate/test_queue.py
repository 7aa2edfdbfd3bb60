"""Who gets what, and that nobody gets in another's way."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from annotating import Clock, Maker, answer_to, ask_all, filled
from attar.annotate import answers, queue, suggestions
from attar.annotate.refusals import Conflict, Forbidden, Unknown
from attar.annotate.settings import AnnotateConfig
from attar.annotate.tables import Block, BlockItem, Draft, Task
from attar.methods.active_segmentation.engines import load_engine

NO_RESERVE = AnnotateConfig(reserve_fraction=0.0, reserve_minimum=0, control_share=0.0)


def test_a_task_goes_to_one_person_and_back_to_the_same(make: Maker) -> None:
    project = filled(make(NO_RESERVE), 2)
    ask_all(project, None)
    first = queue.next_task(project, annotator="ann")
    again = queue.next_task(project, annotator="ann")
    other = queue.next_task(project, annotator="bob")
    assert first
    assert again
    assert other
    assert again.task == first.task
    assert again.lease.id == first.lease.id
    assert other.task != first.task
    assert queue.next_task(project, annotator="bob") == other


def test_a_lease_ends(make: Maker) -> None:
    clock = Clock()
    project = filled(make(NO_RESERVE, clock=clock), 1)
    ask_all(project, None)
    task = queue.next_task(project, annotator="ann")
    assert task
    assert queue.next_task(project, annotator="bob") is None
    clock.now += 1199
    queue.beat(project, annotator="ann", lease=task.lease.id)
    clock.now += 1199
    assert queue.next_task(project, annotator="bob") is None
    clock.now += 2
    taken = queue.next_task(project, annotator="bob")
    assert taken
    assert taken.task == task.task
    with pytest.raises(Conflict, match="away for too long"):
        queue.beat(project, annotator="ann", lease=task.lease.id)
    with pytest.raises(Conflict, match="given to others"):
        answers.submit(project, annotator="ann", answer=answer_to(task, [3]))
    answers.submit(project, annotator="bob", answer=answer_to(taken))
    answers.void(
        project,
        annotator="bob",
        annotation=answers.history(project, annotator="bob")[0].id,
        id=str(uuid.uuid4()),
    )
    clock.now += 1201
    back = queue.next_task(project, annotator="ann")
    assert back
    assert back.draft
    assert back.draft.cuts == (3,)  # what could not be accepted was kept


def test_a_lease_that_ended_is_renewed_while_nobody_took_the_task(make: Maker) -> None:
    clock = Clock()
    project = filled(make(NO_RESERVE, clock=clock), 1)
    ask_all(project, None)
    task = queue.next_task(project, annotator="ann")
    assert task
    clock.now += 5000
    assert queue.beat(project, annotator="ann", lease=task.lease.id).expires == clock.now + 1200
    clock.now += 5000
    assert answers.submit(project, annotator="ann", answer=answer_to(task)).created


def test_drafts(make: Maker) -> None:
    project = filled(make(NO_RESERVE), 2)
    ask_all(project, None)
    task = queue.next_task(project, annotator="ann")
    assert task
    assert task.draft is None
    assert queue.save_draft(
        project, annotator="ann", task=task.task, cuts=(2,), caret=3, active_ms=10
    )
    again = queue.next_task(project, annotator="ann")
    assert again
    assert again.draft
    assert (again.draft.cuts, again.draft.caret, again.draft.active_ms) == ((2,), 3, 10)
    with pytest.raises(Unknown):
        queue.save_draft(project, annotator="bob", task=task.task, cuts=(2,))
    answers.submit(project, annotator="ann", answer=answer_to(task))
    assert not queue.save_draft(project, annotator="ann", task=task.task, cuts=(3,))


def test_two_answers_are_given_by_two_people_who_do_not_see_each_other(make: Maker) -> None:
    project = filled(make(NO_RESERVE), 1, users=("ann", "bob", "cat"))
    ask_all(project, None, needed=2)
    of_ann = queue.next_task(project, annotator="ann")
    of_bob = queue.next_task(project, annotator="bob")
    assert of_ann
    assert of_bob
    assert of_ann.task == of_bob.task
    assert queue.next_task(project, annotator="cat") is None
    answers.submit(project, annotator="ann", answer=answer_to(of_ann, [2]))
    assert queue.next_task(project, annotator="cat") is None
    assert queue.next_task(project, annotator="ann") is None
    again = queue.next_task(project, annotator="bob")
    assert again
    assert (again.draft, again.cuts, again.answers) == (None, None, ())
    answers.submit(project, annotator="bob", answer=answer_to(of_bob, [3]))
    assert queue.next_task(project, annotator="cat") is None


def test_a_block_does_not_end_while_others_hold_its_last_task(make: Maker) -> None:
    project = filled(make(NO_RESERVE), 9)
    if project.sqlite:
        pytest.skip("SQLite has one writer at a time")
    ask_all(project)
    task = queue.next_task(project, annotator="ann")
    assert task
    answers.submit(project, annotator="ann", answer=answer_to(task))
    left = select(Task).join(BlockItem, BlockItem.task == Task.id).where(Task.state == "open")
    with ThreadPoolExecutor(1) as pool:
        with project.write() as session:
            rows = session.scalars(left.order_by(BlockItem.position).with_for_update()).all()
            assert len(rows) == 8
            for row in rows[:-1]:  # somebody else answers all but the last
                row.live, row.state = 1, "done"
            last = rows[-1].id
            session.flush()
            asked = pool.submit(queue.next_task, project, annotator="ann")
            with pytest.raises(TimeoutError):  # it waits
                asked.result(timeout=0.3)
        given = asked.result(timeout=30)
    assert given
    assert given.task == last
    with project.read() as session:
        assert list(session.scalars(select(Block.open))) == [True]


def test_who_is_not_there_gets_nothing(make: Maker) -> None:
    project = filled(make(NO_RESERVE), 1)
    with pytest.raises(Forbidden):
        queue.next_task(project, annotator="nobody")
    assert queue.next_task(project, annotator="ann") is None


def test_before_there_is_a_model_an_engine_suggests(make: Maker) -> None:
    project = filled(make(AnnotateConfig(cold_start="newmm", evaluation_share=0)), 6)
    asked, bare = ask_all(project, 2)
    with project.write() as session:
        session.get_one(Task, bare).prefill = False
    given = {}
    for name in ("ann", "bob"):
        task = queue.next_task(project, annotator=name)
        assert task is not None
        given[task.task] = task
    assert given[asked].cuts == load_engine("newmm")(given[asked].text)
    assert given[bare].cuts is None
    with project.read() as session:
        assert (
            session.scalars(select(Draft).where(Draft.task == asked)).one().prefill_model == "newmm"
        )


def test_an_engine_that_fails_holds_nobody_up(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> tuple[int, ...]:
        raise RuntimeError("not for this text")

    monkeypatch.setattr(suggestions, "load_engine", lambda _: broken)
    project = filled(make(AnnotateConfig(cold_start="deepcut", evaluation_share=0)), 6)
    ask_all(project, 1)
    task = queue.next_task(project, annotator="ann")
    assert task is not None
    assert task.cuts is None
