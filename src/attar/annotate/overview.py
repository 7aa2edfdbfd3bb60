"""How a project stands, and what the monitors say: what the dashboard and `status` show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attar.annotate.accounts import users
from attar.annotate.advice import advice
from attar.annotate.corpus import latest_snapshot
from attar.annotate.jobs import JobInfo, jobs
from attar.annotate.loading import study_config
from attar.annotate.standing import status_of
from attar.annotate.store import Project
from attar.methods.active_segmentation.monitors import Advice


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
    answers: int
    skipped: int
    flagged: int
    hours: float
    corrections: int


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
    advice: Sequence[Advice]
    warnings: Sequence[str]


def overview(project: Project) -> Overview:
    """Look at a project."""
    status = status_of(project)
    state = status.state
    with project.read() as session:
        snapshot, config = latest_snapshot(session), study_config(session)
    done = {one.name: one for one in status.people}
    people = []
    for user in users(project):
        one = done.get(user.name)
        if one is not None:
            acts = one.submitted, one.skipped, one.flagged, one.hours, one.corrections
            people.append(Work(user.name, user.role, *acts))
        elif user.role == "annotator" and user.active:
            people.append(Work(user.name, user.role, 0, 0, 0, 0.0, 0))
    return Overview(
        name=state.name,
        guideline=state.guideline,
        revision=state.revision,
        paused=state.paused,
        snapshot=snapshot,
        sentences=status.sentences,
        reserved=status.reserved,
        evaluated=status.reserved_labelled,
        annotations=state.sequence,
        at_work=status.at_work,
        run=state.ranking,
        staleness=status.stale,
        arms=[
            ArmState(
                arm.name,
                arm.batches,
                arm.sentences,
                arm.labelled,
                arm.open,
                config.arms[arm.name].scorer,
            )
            for arm in status.arms
        ],
        queue=status.tasks,
        people=people,
        jobs=jobs(project, limit=8),
        advice=advice(project),
        warnings=status.warnings,
    )
