"""How a project stands, and what the monitors say: what the dashboard and `status` show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session

from attar.annotate.accounts import Account, users
from attar.annotate.advice import Told, told
from attar.annotate.blocks import warnings
from attar.annotate.corpus import latest_snapshot
from attar.annotate.drawing import open_tasks, staleness
from attar.annotate.jobs import JobInfo, jobs
from attar.annotate.loading import load_study
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Annotation, BatchRow, Lease, PickRow, SentenceRow, Task
from attar.annotate.tasks import LABELS, VOID
from attar.annotate.words import Words
from attar.methods.active_segmentation.labels import answers
from attar.methods.active_segmentation.picks import DrawConfig
from attar.methods.active_segmentation.study import Study
from attar.methods.active_segmentation.times import Pace, paces, typical


@dataclass(frozen=True)
class ArmState:
    """An arm: batches and sentences drawn, those answered, and questions that wait."""

    name: str
    batches: int
    drawn: int
    answered: int
    open: int
    scorer: str
    """Whose model scores for it: its own, or that of the union."""


@dataclass(frozen=True)
class Work:
    """What one person has done: answers in force, hours at work, and offsets changed in what was
    shown."""

    name: str
    role: str
    answers: int = 0
    skipped: int = 0
    flagged: int = 0
    hours: float = 0.0
    corrections: int = 0
    pace: Pace | None = None
    """What their answers take; None: there are too few, or too much alike, to tell."""
    typical: float | None = None
    """Seconds that the mean sentence of all would take them, so that people who had other sentences
    can be compared."""


@dataclass(frozen=True)
class Overview:
    """A project at one moment."""

    name: str
    guideline: str
    revision: int
    paused: bool
    snapshot: str
    sentences: int
    reserved: int
    evaluated: int
    annotations: int
    at_work: int
    run: int | None
    """The training run whose scores are in force."""
    staleness: int
    """Annotations since the corpus was scored."""
    arms: Sequence[ArmState]
    queue: Mapping[str, Mapping[str, int]]
    """Kind -> state -> tasks."""
    people: Sequence[Work]
    jobs: Sequence[JobInfo]
    advice: Sequence[Told]
    warnings: Sequence[str]


def overview(project: Project, words: Words | None = None) -> Overview:
    """Look at a project; `words`: the language of the advice, None: English."""
    accounts, last, study = users(project), jobs(project, limit=8), load_study(project)
    advice = told(project, words, study=study)
    there = SentenceRow.removed.is_(None)
    with project.read() as session:
        state = state_of(session)
        evaluated = (
            select(func.count(Task.sentence.distinct()))
            .join(SentenceRow, SentenceRow.uid == Task.sentence)
            .where(Task.kind == "evaluation", Task.live > 0, there)
        )
        leases = select(func.count(Lease.annotator.distinct()))
        return Overview(
            name=state.name,
            guideline=state.guideline,
            revision=state.revision,
            paused=state.paused,
            snapshot=latest_snapshot(session),
            sentences=_count(session, SentenceRow.uid, there),
            reserved=_count(session, SentenceRow.uid, there, SentenceRow.reserved),
            evaluated=session.scalar(evaluated) or 0,
            annotations=state.sequence,
            at_work=session.scalar(leases.where(Lease.expires > project.clock())) or 0,
            run=state.ranking,
            staleness=state.sequence if state.ranking is None else staleness(session, state),
            arms=[_arm(session, name, config=config) for name, config in study.config.arms.items()],
            queue=_queue(session),
            people=_people(session, accounts, study=study),
            jobs=last,
            advice=advice,
            warnings=warnings(session, state),
        )


def _arm(session: Session, name: str, *, config: DrawConfig) -> ArmState:
    drawn = select(func.count(PickRow.sentence.distinct())).where(PickRow.arm == name)
    answered = drawn.join(Task, Task.id == PickRow.task).where(Task.live > 0)
    return ArmState(
        name=name,
        batches=_count(session, BatchRow.id, BatchRow.arm == name),
        drawn=session.scalar(drawn) or 0,
        answered=session.scalar(answered) or 0,
        open=open_tasks(session, name),
        scorer=config.scorer,
    )


def _queue(session: Session) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    by_kind = select(Task.kind, Task.state, func.count()).group_by(Task.kind, Task.state)
    for kind, name, count in session.execute(by_kind.order_by(Task.kind, Task.state)):
        found.setdefault(kind, {})[name] = count
    return found


def _people(session: Session, accounts: Sequence[Account], *, study: Study) -> list[Work]:
    """Those who have done something, and annotators who may."""
    labels = answers(study.labels)
    texts = {uid: sentence.text for uid, sentence in study.sentences.items()}
    of_each = paces(labels, texts=texts)
    characters, corrections = typical(labels, texts=texts)
    void = select(Annotation.root).where(Annotation.status == VOID)

    def of(*states: str):
        return func.sum(cast(Annotation.status.in_(states), Integer))

    rows = session.execute(
        select(
            Annotation.annotator,
            of(*LABELS),
            of("skipped"),
            of("flagged"),
            func.sum(Annotation.active_ms),
            func.coalesce(func.sum(Annotation.edits), 0),
        )
        .where(Annotation.id == Annotation.root, Annotation.root.not_in(void))
        .group_by(Annotation.annotator)
    )
    done: dict[str, dict[str, Any]] = {
        name: {
            "answers": submitted,
            "skipped": skipped,
            "flagged": flagged,
            "hours": ms / 3_600_000,
            "corrections": edits,
        }
        for name, submitted, skipped, flagged, ms, edits in rows
    }
    for name, pace in of_each.items():
        seconds = pace.sentence(characters=characters, corrections=corrections)
        if name in done:
            done[name] |= {"pace": pace, "typical": seconds}
    return [
        Work(user.name, user.role, **done.get(user.name, {}))
        for user in accounts
        if user.name in done or (user.role == "annotator" and user.active)
    ]


def _count(session: Session, column, *where) -> int:
    return session.scalar(select(func.count(column)).where(*where)) or 0
