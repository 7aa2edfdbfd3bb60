"""How a project stands: corpus, arms, queue, people, models, and what the monitors say."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from attar.annotate.blocks import warnings
from attar.annotate.jobs import JobInfo, jobs
from attar.annotate.loading import load_study
from attar.annotate.points import load_points
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Annotation, Job, Lease, PickRow, SentenceRow, Task, User
from attar.annotate.tasks import DONE, LABELS, OPEN, SUBMITTED, VOID
from attar.data.segments.cuts import Segmented
from attar.methods.active_segmentation import monitors
from attar.methods.active_segmentation.labels import Label, answers, resolve
from attar.methods.active_segmentation.monitors import Advice
from attar.methods.active_segmentation.study import Study


@dataclass(frozen=True)
class ArmState:
    """An arm: sentences drawn, those answered, questions that wait, and the share of offsets that
    annotators changed in what they were shown."""

    name: str
    drawn: int
    answered: int
    open: int
    corrections: float | None


@dataclass(frozen=True)
class Work:
    """What one person has done: answers in force, hours at work, characters per hour, and offsets
    changed per answer that began with cuts."""

    name: str
    role: str
    answers: int
    skipped: int
    flagged: int
    hours: float
    characters_per_hour: float | None
    corrections: float | None


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
    """Annotations since the last that it saw."""
    arms: Sequence[ArmState]
    queue: Sequence[tuple[str, str, int]]
    """(kind, state, tasks)."""
    people: Sequence[Work]
    jobs: Sequence[JobInfo]
    advice: Sequence[Advice]
    warnings: Sequence[str]
    scorers: Mapping[str, str]
    """Arm -> whose model scores for it."""


def overview(project: Project) -> Overview:
    """Look at a project."""
    study = load_study(project)
    with project.read() as session:
        state = state_of(session)
        seen = session.get(Job, state.ranking) if state.ranking is not None else None
        warned = tuple(warnings(session, state))
        queue = session.execute(
            select(Task.kind, Task.state, func.count())
            .group_by(Task.kind, Task.state)
            .order_by(Task.kind, Task.state)
        ).all()
        people = _people(session)
        at_work = session.scalar(
            select(func.count()).select_from(Lease).where(Lease.expires > project.clock())
        )
        arms = _arms(session, study)
        gold = _gold(session, study)
    evaluated = sum(count for kind, done, count in queue if (kind, done) == ("evaluation", DONE))
    return Overview(
        name=state.name,
        guideline=state.guideline,
        revision=state.revision,
        paused=state.paused,
        snapshot=study.snapshot,
        sentences=len(study.sentences),
        reserved=len(study.reserved),
        evaluated=evaluated,
        annotations=state.sequence,
        at_work=at_work or 0,
        run=state.ranking,
        staleness=state.sequence - ((seen.sequence or 0) if seen else 0),
        arms=arms,
        queue=[(kind, now, count) for kind, now, count in queue],
        people=people,
        jobs=jobs(project, limit=8),
        advice=_advice(project, study, gold),
        warnings=warned,
        scorers={name: config.scorer for name, config in study.config.arms.items()},
    )


def _arms(session: Session, study: Study) -> list[ArmState]:
    waiting = Counter[str]()
    open_tasks = (
        select(PickRow.arm, func.count(Task.id.distinct()))
        .join(Task, Task.id == PickRow.task)
        .where(Task.state == OPEN)
        .group_by(PickRow.arm)
    )
    for arm, count in session.execute(open_tasks):
        waiting[arm] = count
    by_uid = defaultdict[str, list[Label]](list)
    for label in answers(study.labels):
        by_uid[label.uid].append(label)
    found = []
    for arm in study.config.arms:
        served = study.served(arm)
        rows = [label for uid in served for label in by_uid.get(uid, ())]
        counted = [label for label in rows if label.corrections is not None]
        found.append(
            ArmState(
                name=arm,
                drawn=len(served),
                answered=sum(uid in by_uid for uid in served),
                open=waiting[arm],
                corrections=monitors.correction_rate(counted) if counted else None,
            )
        )
    return found


def _people(session: Session) -> list[Work]:
    """One line for everybody who has done something, and for every annotator."""
    undone = select(Annotation.root).where(Annotation.status == VOID)
    fresh = Annotation.root.not_in(undone)
    given = Annotation.status == SUBMITTED
    prefilled = given & Annotation.edits.is_not(None)
    totals = (
        select(
            Annotation.annotator,
            func.sum(case((given, 1), else_=0)),
            func.sum(case((Annotation.status == "skipped", 1), else_=0)),
            func.sum(case((Annotation.status == "flagged", 1), else_=0)),
            func.sum(Annotation.active_ms),
            func.sum(case((given, SentenceRow.n), else_=0)),
            func.sum(case((prefilled, Annotation.edits), else_=0)),
            func.sum(case((prefilled, 1), else_=0)),
        )
        .join(SentenceRow, SentenceRow.uid == Annotation.sentence)
        .where(fresh)
        .group_by(Annotation.annotator)
    )
    sums = {row[0]: [int(value or 0) for value in row[1:]] for row in session.execute(totals)}
    found = []
    for user in session.scalars(select(User).order_by(User.name)):
        if user.name not in sums and user.role != "annotator":
            continue
        done, skipped, flagged, ms, characters, edits, shown = sums.get(user.name, [0] * 7)
        hours = ms / 3_600_000
        found.append(
            Work(
                name=user.name,
                role=user.role,
                answers=done,
                skipped=skipped,
                flagged=flagged,
                hours=hours,
                characters_per_hour=characters / hours if hours else None,
                corrections=edits / shown if shown else None,
            )
        )
    return found


def _gold(session: Session, study: Study) -> list[Segmented]:
    """The control sentences that somebody was given, with what is known of them."""
    asked = set(session.scalars(select(Task.sentence).where(Task.kind == "control")))
    controlled = set(session.scalars(select(Annotation.seq).where(Annotation.kind == "control")))
    rows = defaultdict[str, list[Label]](list)
    for label in answers(study.labels):
        if label.uid in asked and label.sequence not in controlled:
            rows[label.uid].append(label)
    found = []
    for uid, labels in rows.items():
        if (sentence := study.sentences.get(uid)) is not None:
            known = resolve(labels, length=len(sentence.text), guidelines=study.guidelines)
            meta = {"id": uid}
            found.append(Segmented(sentence.text, known.cuts, known.decided, meta))
    return found


def _advice(project: Project, study: Study, gold: Sequence[Segmented]) -> list[Advice]:
    """What the monitors say, as far as there is something to look at."""
    found: list[Advice] = []
    with project.read() as session:
        controlled = set(
            session.scalars(
                select(Annotation.seq).where(
                    Annotation.kind == "control", Annotation.status.in_(LABELS)
                )
            )
        )
    tested = [label for label in answers(study.labels) if label.sequence in controlled]
    found += monitors.controls(monitors.control_accuracy(tested, gold))
    points = [point for point in load_points(project) if point.epoch == study.epoch]
    lengths = [len(sentence.text) for sentence in study.sentences.values()]
    for arm in study.config.arms:
        line = [point for point in points if point.arm == arm and point.costs.characters > 0]
        costs = [float(point.costs.characters) for point in line]
        told = monitors.projection(costs, [point.word_f1 for point in line], arm=arm)
        found += [told] if told else []
        last = study.batches(arm) - 1
        batch = [
            len(study.sentences[pick.uid].text)
            for pick in study.picks
            if pick.arm == arm and pick.batch == last and pick.uid in study.sentences
        ]
        if batch and len(set(lengths)) > 1:
            groups = monitors.length_groups(batch, lengths)
            corpus = monitors.length_groups(lengths, lengths)
            said = monitors.unlike(groups, corpus, of=f"length, arm {arm}")
            found.append(said)
    return found
