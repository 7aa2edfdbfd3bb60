"""Batches: what an arm draws becomes picks and tasks, whole or not at all."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from attar.annotate.loading import study_config, study_of
from attar.annotate.refusals import Conflict
from attar.annotate.store import Project, State, state_of
from attar.annotate.tables import Annotation, Arm, BatchRow, ModelRow, PickRow, Score, Task
from attar.annotate.tasks import CANCELLED, DONE, OPEN, SKIPPED, NewTask, ask
from attar.errors import DataError
from attar.methods.active_segmentation.arms import key
from attar.methods.active_segmentation.picks import Draw, Pick, ScoreTable
from attar.methods.active_segmentation.segmenter import Segmenter
from attar.methods.active_segmentation.study import UNION, Study, ranked_by
from attar.methods.active_segmentation.study import draw as draw_batch

logger = logging.getLogger(__name__)

_CHUNK = 500
#: places in a batch, in the order of tasks
_PLACES = 100_000


@dataclass(frozen=True)
class DrawReport:
    """What was drawn: `picks` sentences of `spent` characters or decisions, of which `tasks` are
    new questions; the others were asked before."""

    arm: str
    batch: int
    picks: int
    tasks: int
    spent: int
    warnings: tuple[str, ...] = ()


def draw(project: Project, *, arm: str) -> DrawReport:
    """Draw the next batch of an arm, by the ranking in force.

    Raises:
        ConfigError: there is no such arm.
        DataError: the corpus has no sentence to draw from.
        Conflict: somebody else drew the same batch at the same time.
    """
    with project.read() as session:
        state = state_of(session)
        if state.reserve is None:  # or what is kept for evaluation could be served
            raise DataError("expected a corpus to draw from, found none; import text to the end")
        study = study_of(session)
        table = score_table(session, state)
        names = dict(model_paths(session))
    config = study.config.arms.get(arm)
    models, warnings = dict[str, Segmenter](), tuple[str, ...]()
    name = ""
    if config is not None and config.strategy != "random":
        wanted = arm if config.scorer == "own" else UNION
        name, path = names.get(wanted, ("", ""))
        try:
            if path:
                models[wanted] = Segmenter.from_pretrained(project.models / path)
        except DataError as error:  # damaged or deleted: people go on working
            warnings = (f"{error}; drawn without it",)
            if config.strategy in ("badge", "coreset", "boundaries"):  # which need more than scores
                table = None
    found = draw_batch(study, arm, models=models, table=table, model=name)
    report = store_draw(project, found, study=study, arm=arm)
    return DrawReport(**{**asdict(report), "warnings": warnings + found.warnings})


def store_draw(project: Project, found: Draw, *, study: Study, arm: str) -> DrawReport:
    """Store a batch.

    Raises:
        Conflict: there is a batch of that number already.
    """
    number = study.batches(arm)
    if not found.picks:
        return DrawReport(arm, number, 0, 0, 0, found.warnings)
    taken = Conflict(f"somebody else drew batch {number} of the arm {arm} meanwhile; look at it")
    try:
        with project.write() as session:
            state, now = state_of(session), project.clock()
            last = session.scalar(select(func.max(BatchRow.number)).where(BatchRow.arm == arm))
            if number != (-1 if last is None else last) + 1:
                raise taken
            first = found.picks[0]
            config = asdict(study.config.arms[arm])
            session.add(
                BatchRow(
                    arm=arm,
                    number=number,
                    strategy=config["strategy"],
                    model=next((p.model for p in found.picks if p.model), None),
                    snapshot=first.snapshot,
                    settings=config,
                    pool_size=first.pool_size,
                    near_duplicates=found.near_duplicates,
                    sequence=state.sequence,
                    created=now,
                )
            )
            session.flush()
            before = session.scalar(select(func.count()).select_from(Task)) or 0
            tasks = _tasks_of(session, found.picks, state=state, batch=number, now=now)
            session.add_all(
                PickRow(
                    arm=arm,
                    batch=number,
                    rank=pick.rank,
                    sentence=pick.uid,
                    task=task,
                    score=pick.score,
                    strategy=pick.strategy,
                    model=pick.model,
                    snapshot=pick.snapshot,
                    pool_size=pick.pool_size,
                    probability=pick.probability,
                    positions=None if pick.positions is None else list(pick.positions),
                )
                for pick, task in zip(found.picks, tasks, strict=True)
            )
            session.flush()
            after = session.scalar(select(func.count()).select_from(Task)) or 0
            return DrawReport(
                arm, number, len(found.picks), after - before, found.spent, found.warnings
            )
    except IntegrityError:
        raise taken from None


def refill(project: Project) -> list[DrawReport]:
    """Draw a batch for every arm that has few open tasks left."""
    with project.read() as session:
        state = state_of(session)
        low = [
            arm
            for arm in session.scalars(select(Arm.name).order_by(Arm.number))
            if open_tasks(session, arm, untried=True) < state.settings.low_water
        ]
    found = []
    for arm in low:
        try:
            found.append(draw(project, arm=arm))
        except Conflict:  # another process has done it
            continue
    return found


def fill_queues(project: Project) -> None:
    """`refill`, whose warnings go to the log; without a corpus there is nothing to do yet."""
    try:
        for report in refill(project):
            for warning in report.warnings:
                logger.warning("arm %s: %s", report.arm, warning)
    except DataError as error:
        logger.debug("%s", error)


def open_tasks(session: Session, arm: str, *, untried: bool = False) -> int:
    """How many tasks of an arm wait for an answer.

    Args:
        session: a transaction.
        arm: its name.
        untried: without those that somebody skipped, which the same person is not asked again.
    """
    wanted = (
        select(func.count(Task.id.distinct()))
        .join(PickRow, PickRow.task == Task.id)
        .where(PickRow.arm == arm, Task.state == OPEN)
    )
    if untried:
        skip = exists().where(Annotation.task == Task.id, Annotation.status == SKIPPED)
        wanted = wanted.where(~skip)
    return session.scalar(wanted) or 0


def score_table(session: Session, state: State) -> ScoreTable | None:
    """The ranking in force; None: there is none."""
    if state.ranking is None:
        return None
    rows = session.execute(
        select(Score.sentence, Score.strategy, Score.value).where(
            Score.run == state.ranking, Score.value.is_not(None)
        )
    ).all()
    if not rows:
        return None
    ranked = ranked_by(study_config(session))
    model = model_paths(session).get(ranked[1], ("", ""))[0] if ranked else ""
    return ScoreTable(
        strategy=rows[0].strategy,
        model=model,
        values={row.sentence: row.value for row in rows},
        age=staleness(session, state),
    )


def staleness(session: Session, state: State) -> int:
    """Annotations since the corpus was scored."""
    seen = select(func.max(ModelRow.sequence)).where(ModelRow.run == state.ranking)
    return state.sequence - (session.scalar(seen) or 0)


def model_paths(session: Session) -> Mapping[str, tuple[str, str]]:
    """The models in force: arm -> name, and folder below the project's models."""
    state = state_of(session)
    rows = session.scalars(select(ModelRow).where(ModelRow.run == state.ranking))
    return {row.arm: (row.name, row.path) for row in rows}


def _tasks_of(
    session: Session, picks: Sequence[Pick], *, state: State, batch: int, now: float
) -> list[str]:
    """The task of each pick: one that asks the same already, or a new one."""
    whole = dict[str, str]()
    names = [pick.uid for pick in picks]
    for start in range(0, len(names), _CHUNK):
        there = select(Task.sentence, Task.id).where(
            Task.sentence.in_(names[start : start + _CHUNK]),
            Task.kind.in_(("arm", "overlap", "import")),
            Task.positions.is_(None),
            Task.state != CANCELLED,
        )
        whole.update({row.sentence: row.id for row in session.execute(there)})
    labelled = set(
        session.scalars(select(Task.id).where(Task.id.in_(whole.values()), Task.state == DONE))
    )
    new, at = list[NewTask](), list[int]()
    found: list[str] = [""] * len(picks)
    for place, pick in enumerate(picks):
        known = whole.get(pick.uid)
        if known is not None and (pick.positions is None or known in labelled):
            found[place] = known
            continue
        shared = key(pick.uid, "overlap") < state.settings.overlap_share
        new.append(
            NewTask(
                pick.uid,
                "overlap" if shared else "arm",
                needed=state.settings.overlap_annotators if shared else 1,
                order=batch * _PLACES + pick.rank,
                positions=pick.positions,
                prefill=key(pick.uid, "prefill") >= state.settings.prefill_none_share,
            )
        )
        at.append(place)
    for place, name in zip(at, ask(session, new, seed=state.seed, now=now), strict=True):
        found[place] = name
    return found
