"""An annotation project and its people, for tests."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sqlalchemy import select

from attar.annotate import answers, corpus, queue
from attar.annotate.accounts import acknowledge, add_user
from attar.annotate.acts import text_digest
from attar.annotate.answers import Answer
from attar.annotate.queue import Assignment
from attar.annotate.refusals import GuidelineChanged
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Annotation, SentenceRow
from attar.annotate.tasks import NewTask, ask
from attar.data.segments.cuts import Segmented

#: a project that is drawn from, labelled and trained in a moment
QUICK = AnnotateConfig(
    reserve_fraction=0.1,
    reserve_minimum=0,
    seed_sentences=4,
    per_arm=4,
    retrain_after=0,
    low_water=4,
    draw={"budget": 60, "near_duplicates": None},
    segmenter={"dictionary": None, "iterations": 5, "hash_bits": 10},
)
SYLLABLES = ("กา", "มา", "นี", "โต", "ปู", "ตา", "เท", "ไป", "ดี", "รู")


@dataclass
class Clock:
    """Time that stands still until a test moves it."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Maker(Protocol):
    """Makes a project."""

    def __call__(
        self, settings: AnnotateConfig | None = None, *, clock: Clock | None = None
    ) -> Project: ...


def sentences(count: int, *, words: int = 3) -> list[Segmented]:
    """Different sentences, with words of two syllables, or one now and then."""
    rows = []
    for number in range(count):
        digits = f"{number:0{2 * words}d}"
        tokens = [
            SYLLABLES[int(a)] + (SYLLABLES[int(b)] if b != "0" else "")
            for a, b in zip(digits[::2], digits[1::2], strict=True)
        ]
        rows.append(Segmented.of(tokens))
    return rows


def filled(project: Project, count: int, *, users: Sequence[str] = ("ann", "bob")) -> Project:
    """The same project, with a corpus and people."""
    corpus.add(project, sentences(count))
    for name in users:
        add_user(project, name=name)
    return project


def ask_all(project: Project, count: int | None = None, **options: Any) -> list[str]:
    """A task of the kind arm about each sentence outside the reserve."""
    with project.write() as session:
        wanted = select(SentenceRow.uid).where(~SentenceRow.reserved)
        names = session.scalars(wanted.order_by(SentenceRow.key_random).limit(count)).all()
        tasks = [NewTask(uid, "arm", order=order, **options) for order, uid in enumerate(names)]
        return ask(session, tasks, seed=state_of(session).seed, now=project.clock())


def answer_to(given: Assignment, cuts: Sequence[int] = (2,), /, **changes: Any) -> Answer:
    """An answer of somebody who cuts there."""
    answer = Answer(
        id=str(uuid.uuid4()),
        task=given.task,
        text_sha=text_digest(given.text),
        cuts=tuple(cuts),
        decided=given.positions,
        guideline=given.guideline,
        active_ms=1500,
    )
    return replace(answer, **changes)


def gold_of(project: Project, task: Assignment) -> tuple[int, ...]:
    """The right cuts."""
    with project.read() as session:
        found = session.scalars(select(SentenceRow.gold).where(SentenceRow.text == task.text)).one()
    return tuple(found)


def annotate(project: Project, who: str, count: int = 10**6) -> int:
    """Somebody answers what comes, as in gold; how many it was."""
    for done in range(count):
        task = queue.next_task(project, annotator=who)
        if task is None:
            return done
        answer = answer_to(task, gold_of(project, task))
        try:
            answers.submit(project, annotator=who, answer=answer)
        except GuidelineChanged:  # there is something to read
            acknowledge(project, annotator=who, guideline=task.guideline)
            answers.submit(project, annotator=who, answer=answer)
    return count


def log_of(project: Project) -> list[Annotation]:
    """All annotations."""
    with project.read() as session:
        return list(session.scalars(select(Annotation).order_by(Annotation.seq)))
