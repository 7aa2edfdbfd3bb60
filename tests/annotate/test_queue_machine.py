"""The queue under any order of what people do: nothing is lost, doubled or given twice."""

import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import func, select

from annotating import Clock, answer_to, filled
from attar.annotate import answers, queue
from attar.annotate.accounts import add_user
from attar.annotate.checks import examine, problems
from attar.annotate.opening import create_project, open_project
from attar.annotate.queue import Assignment
from attar.annotate.refusals import Conflict
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Lease, SentenceRow, Task
from attar.annotate.tasks import NewTask, ask

PEOPLE = ("ann", "bob", "rae")
SENTENCES = 3
PLAIN = AnnotateConfig(
    reserve_fraction=0.0, reserve_minimum=0, control_share=0.0, overlap_share=0.0, per_arm=2
)
#: a lease, and more
LONG = PLAIN.lease_seconds + 1
who = st.sampled_from(PEOPLE)


@contextmanager
def folder() -> Iterator[Path]:
    """Where no commit waits for a disk."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if Path(memory).is_dir() else None) as made:
        yield Path(made)


class Queue(RuleBasedStateMachine):
    """People who draw, answer, send again, undo, skip, flag, leave and come back. The model is what
    they were told; the database must say the same."""

    template: Path

    @initialize(needed=st.lists(st.integers(1, 2), min_size=1, max_size=SENTENCES))
    def begin(self, needed: list[int]) -> None:
        self.home = Path(tempfile.mkdtemp(dir=self.template.parent))
        shutil.copytree(self.template, self.home / "project")
        self.clock = Clock()
        self.project = replace(open_project(self.home / "project"), clock=self.clock)
        self.given = dict[str, Assignment]()
        self.sent = dict[str, answers.Answer]()  # the last answer of each that was stored
        self.acts = dict[str, list[tuple[str, str, str]]]()  # in force: id, task, what
        with self.project.write() as session:
            uids = session.scalars(select(SentenceRow.uid).order_by(SentenceRow.uid)).all()
            tasks = [
                NewTask(uid, "arm", needed=count, order=place)
                for place, (uid, count) in enumerate(zip(uids, needed, strict=False))
            ]
            names = ask(session, tasks, seed=state_of(session).seed, now=self.clock())
        self.needed = dict(zip(names, needed, strict=True))

    @rule()
    def all_take(self) -> None:
        for who in PEOPLE:
            self.take(who)

    @rule(who=who)
    def take(self, who: str) -> None:
        given = queue.next_task(self.project, annotator=who)
        if given is None:
            self.given.pop(who, None)
            return
        assert given.task not in [task for _, task, _ in self.acts.get(who, [])]
        self.given[who] = given
        assert queue.next_task(self.project, annotator=who) == given

    @rule()
    def all_leave(self) -> None:
        self.clock.now += LONG

    @rule(who=who, other=who, cut=st.sampled_from([1, 2]))
    def come_too_late(self, who: str, other: str, cut: int) -> None:
        self.all_leave()
        self.take(other)
        self.submit(who, cut)

    @rule(who=who)
    def show_life(self, who: str) -> None:
        if given := self.given.get(who):
            self.either(lambda: queue.beat(self.project, annotator=who, lease=given.lease.id))
            queue.save_draft(self.project, annotator=who, task=given.task, cuts=(1,))

    @rule(who=who, cut=st.sampled_from([1, 2]))
    def submit(self, who: str, cut: int) -> None:
        if given := self.given.get(who):
            answer = answer_to(given, [cut])
            stored = self.either(lambda: answers.submit(self.project, annotator=who, answer=answer))
            if stored:
                self.did(who, stored, given, "answered")
                self.sent[who] = answer

    @rule(who=who, flagged=st.booleans())
    def pass_on(self, who: str, flagged: bool) -> None:
        if given := self.given.get(who):
            act = answers.flag if flagged else answers.skip
            options: dict[str, Any] = {"task": given.task, "id": str(uuid.uuid4())}
            stored = self.either(lambda: act(self.project, annotator=who, **options))
            if stored:
                self.did(who, stored, given, "flagged" if flagged else "skipped")

    @rule(who=who)
    def send_again(self, who: str) -> None:
        """The reply was lost; also after the answer was undone."""
        if answer := self.sent.get(who):
            again = answers.submit(self.project, annotator=who, answer=answer)
            assert not again.created

    @rule(who=who)
    def undo(self, who: str) -> None:
        if not self.acts.get(who):
            return
        name, task, _ = self.acts[who].pop()
        answers.void(self.project, annotator=who, annotation=name, id=str(uuid.uuid4()))
        held = self.leases().get(task, set())
        back = queue.next_task(self.project, annotator=who)
        free = self.answered()[task] + len(held - {who}) < self.needed[task]
        assert (who in held) == free  # the task comes back to them first, if it can
        if free:
            assert back
            assert back.task == task
        self.given.pop(who, None)

    def either(self, act: Any) -> Any:
        """What an act gives; None where it came too late."""
        try:
            return act()
        except Conflict:
            return None

    def did(self, who: str, stored: answers.Receipt, given: Assignment, what: str) -> None:
        assert stored.created
        self.acts.setdefault(who, []).append((stored.id, given.task, what))
        del self.given[who]

    def answered(self) -> Counter[str]:
        """Task -> answers that people were told are stored."""
        acts = [act for of_one in self.acts.values() for act in of_one]
        return Counter(task for _, task, what in acts if what == "answered")

    def leases(self) -> dict[str, set[str]]:
        """Task -> who is at it."""
        found = dict[str, set[str]]()
        with self.project.read() as session:
            wanted = select(Lease.task, Lease.annotator).where(Lease.expires > self.clock())
            for task, name in session.execute(wanted):
                found.setdefault(task, set()).add(name)
        return found

    @invariant()
    def nobody_is_in_anothers_way(self) -> None:
        if not hasattr(self, "project"):
            return
        told = self.answered()
        held = self.leases()
        with self.project.read() as session:
            for task in session.scalars(select(Task)):
                assert task.needed == self.needed[task.id]
                assert task.live == told[task.id]  # what they were told is stored, and no more
                assert task.live + len(held.get(task.id, ())) <= task.needed
                assert (task.state == "done") == (task.live == task.needed)
        for acts in self.acts.values():
            assert len({task for _, task, _ in acts}) == len(acts)  # each once by the same person

    def teardown(self) -> None:
        if not hasattr(self, "project"):
            return
        self.clock.now += LONG
        for name, role in (("rex", "reviewer"), ("yan", "annotator"), ("zoe", "annotator")):
            add_user(self.project, name=name, role=role)
            while given := queue.next_task(self.project, annotator=name):
                answers.submit(self.project, annotator=name, answer=answer_to(given))
        with self.project.read() as session:
            left = select(func.count()).select_from(Task).where(Task.state != "done")
            assert session.scalar(left) == 0  # every task can still be answered by somebody
        assert not list(problems(examine(self.project)))
        self.project.close()
        shutil.rmtree(self.home)


def made(where: Path) -> None:
    """A project with a few sentences and people, which each run copies."""
    project: Project = create_project(where, settings=PLAIN)
    filled(project, SENTENCES, users=PEOPLE[:2])
    add_user(project, name="rae", role="reviewer")
    project.close()


def test_the_queue_loses_and_doubles_nothing() -> None:
    with folder() as place:
        made(place / "template")
        machine = type("Machine", (Queue,), {"template": place / "template"})
        checked = machine.TestCase
        checked.settings = settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        checked().runTest()
