"""Training again, in a process of its own, while people go on annotating.

One worker at a time takes jobs. Whatever it is killed at, the ranking before stays in force and the
queue goes on: models are put together beside their place, scores are written under the number of
the run, and one transaction at the end puts all of it in force.
"""

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from attar.annotate.drawing import refill
from attar.annotate.events import add_event, events_of, guideline_text
from attar.annotate.loading import study_of
from attar.annotate.points import add_points
from attar.annotate.refusals import Busy
from attar.annotate.store import Project, State, state_of
from attar.annotate.tables import Annotation, Job, ModelRow, ProjectRow, Score, SentenceRow
from attar.annotate.tasks import LABELS
from attar.errors import AttarError, ConfigError, DataError
from attar.methods.active_segmentation.curves import Point
from attar.methods.active_segmentation.drawing import score_pool
from attar.methods.active_segmentation.fingerprints import Fingerprint, detect
from attar.methods.active_segmentation.measuring import history, measure
from attar.methods.active_segmentation.picks import ScoreTable
from attar.methods.active_segmentation.segmenter import Segmenter
from attar.methods.active_segmentation.study import UNION, Study, fit_arms, samples, test_set

logger = logging.getLogger(__name__)

#: rows of scores in one transaction
CHUNK = 500
QUEUED, RUNNING, ENDED, FAILED, ABANDONED = "queued", "running", "done", "failed", "abandoned"
#: in the order in which a training run takes them
STEPS = ("snapshot", "fit", "measure", "save", "score", "switch", "draw", "clean")
#: of the lock on PostgreSQL that the worker holds
_LOCK = 0x61747477
#: times in a row that a job is taken up again after its worker was killed
_AGAIN = 3


@dataclass(frozen=True)
class JobInfo:
    """A job: `step` is the one that it is at, `sequence` the last annotation that it looks at."""

    id: int
    kind: str
    state: str
    reason: str
    step: str
    sequence: int | None
    error: str
    asked: float
    started: float | None
    ended: float | None
    result: dict[str, Any] | None


def ask_for(project: Project, *, kind: str = "train", reason: str = "asked for") -> JobInfo:
    """Queue a job; one of that kind that waits already is not doubled.

    Args:
        project: the project.
        kind: train, or history: score all batches so far under the guideline of today.
        reason: for the log.
    """
    if kind not in ("train", "history"):
        raise ConfigError(f"kind must be train or history; found {kind!r}")
    with project.write() as session:
        waiting = session.scalar(select(Job).where(Job.kind == kind, Job.state == QUEUED))
        if waiting is None:
            waiting = _new_job(session, kind, reason=reason, now=project.clock())
        return _info(waiting)


def jobs(project: Project, *, limit: int = 20) -> list[JobInfo]:
    """The last jobs, the newest first."""
    with project.read() as session:
        rows = session.scalars(select(Job).order_by(Job.id.desc()).limit(limit))
        return [_info(row) for row in rows]


def work(
    project: Project,
    *,
    once: bool = False,
    pause: float = 2.0,
    stop: threading.Event | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> int:
    """Do jobs as they come, queue them when they are due, and keep the arms' queues filled.

    Args:
        project: the project.
        once: return when nothing is left to do.
        pause: seconds between two looks.
        stop: ends it after the job at hand.
        on_step: is told each step before it begins.

    Returns:
        How many jobs were done.

    Raises:
        ConfigError: another worker is at work on the project.
    """
    stop = stop or threading.Event()
    done = 0
    with _alone(project):
        _give_up_unfinished(project)
        while not stop.is_set():
            try:
                _queue_what_is_due(project)
                _fill(project)
                job = _take(project)
                if job is not None:
                    _run(project, job, on_step=on_step)
                    done += 1
                    continue
            except Busy as error:
                logger.warning("%s", error)
            if once:
                break
            stop.wait(pause)
    return done


@contextmanager
def _alone(project: Project) -> Iterator[None]:
    """Be the only worker; a kill gives the place back at once.

    Raises:
        ConfigError: there is another.
    """
    taken = ConfigError(
        f"another worker is at work on the project in {str(project.folder)!r}; one is enough"
    )
    if project.sqlite:
        lock = FileLock(project.folder / "worker.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise taken from None
        with contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(lock.release)
            yield
        return
    with project.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
            raise taken
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})


def _give_up_unfinished(project: Project) -> None:
    """What a killed worker left: its jobs are queued again, its half-made models deleted."""
    with project.write() as session:
        for job in session.scalars(select(Job).where(Job.state == RUNNING)).all():
            job.state, job.ended = ABANDONED, project.clock()
            last = session.scalars(
                select(Job.state).where(Job.kind == job.kind).order_by(Job.id.desc()).limit(_AGAIN)
            ).all()
            waiting = session.scalar(
                select(Job.id).where(Job.kind == job.kind, Job.state == QUEUED)
            )
            if (waiting is None and set(last) != {ABANDONED}) or len(last) < _AGAIN:
                reason = f"again: the worker of job {job.id} was killed"
                _new_job(session, job.kind, reason=reason, now=project.clock())
    for left in project.models.glob("*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _queue_what_is_due(project: Project) -> None:
    with project.read() as session:
        reason = _due(session, state_of(session), now=project.clock())
    if reason:
        ask_for(project, reason=reason)


def _due(session: Session, state: State, *, now: float) -> str:
    """Why the models should be trained again; empty: they should not."""
    trained = select(Job).where(Job.kind == "train", Job.state.in_((ENDED, FAILED, QUEUED)))
    last = session.scalar(trained.order_by(Job.id.desc()).limit(1))
    if last is not None and last.state == QUEUED:
        return ""
    seen = (last.sequence or 0) if last is not None else 0
    fresh = state.sequence - seen
    settings = state.settings
    if not fresh:
        return ""
    if 0 < settings.retrain_after <= fresh:
        return f"{fresh} new annotations"
    if settings.retrain_characters:
        new = session.scalar(
            select(func.sum(SentenceRow.n))
            .join(Annotation, Annotation.sentence == SentenceRow.uid)
            .where(Annotation.seq > seen, Annotation.status.in_(LABELS))
        )
        if (new or 0) >= settings.retrain_characters:
            return f"{new} new characters"
    began = last.asked if last is not None else None
    hours = settings.retrain_hours
    if hours and began is not None and now - began >= hours * 3600:
        return f"{hours:g} hours have passed"
    return ""


def _fill(project: Project) -> None:
    try:
        for report in refill(project):
            for warning in report.warnings:
                logger.warning("arm %s: %s", report.arm, warning)
    except DataError as error:  # no corpus yet
        logger.debug("%s", error)


def _take(project: Project) -> int | None:
    """The number of the next job, which is then running."""
    with project.write() as session:
        job = session.scalar(select(Job).where(Job.state == QUEUED).order_by(Job.id).limit(1))
        if job is None:
            return None
        job.state, job.started = RUNNING, project.clock()
        job.sequence = state_of(session).sequence
        return job.id


def _run(project: Project, job: int, *, on_step: Callable[[str], None]) -> None:
    """Do a job; a mistake in it is its result, and the worker goes on."""

    def step(name: str) -> None:
        with project.write() as session:
            session.execute(update(Job).where(Job.id == job).values(step=name))
        on_step(name)

    try:
        with project.read() as session:
            kind = session.get_one(Job, job).kind
        if kind == "train":
            _train(project, job, step=step)
        else:
            _score_history(project, job, step=step)
    except AttarError as error:
        logger.warning("job %d failed: %s", job, error)
        with project.write() as session:
            row = session.get_one(Job, job)
            row.state, row.error, row.ended = FAILED, str(error), project.clock()
    except Exception as error:
        with project.write() as session:
            row = session.get_one(Job, job)
            row.state, row.ended = FAILED, project.clock()
            row.error = f"{type(error).__name__}: {error}"[:2000]
        logger.exception("job %d failed", job)


def _train(project: Project, run: int, *, step: Callable[[str], None]) -> None:
    """A training run, step by step."""
    step("snapshot")
    with project.read() as session:
        state = state_of(session)
        sequence = session.get_one(Job, run).sequence
        study = study_of(session, upto=sequence)
        now_text = guideline_text(session, state.guideline)
    rows = samples(study)
    step("fit")
    models = fit_arms(study, rows=rows)
    if not models:
        raise DataError("expected labelled sentences of an arm; found none: label some, then train")
    step("measure")
    test = test_set(study)
    points = (
        measure(study, models, test=test, rows=rows, refits=state.settings.refits) if test else []
    )
    step("save")
    _save(project, run, models)
    step("score")
    table = _ranking(study, models, run=run)
    _write_scores(project, run, study=study, models=models, table=table)
    step("switch")
    found = _fingerprint(study, models, guideline=f"{state.guideline}\n{now_text}")
    names = [str(row.meta["id"]) for row in test]
    _switch(project, run, study=study, models=models, points=points, test=names, found=found)
    step("draw")
    _fill(project)
    step("clean")
    _clean(project)


def _score_history(project: Project, run: int, *, step: Callable[[str], None]) -> None:
    """All batches so far, scored under the guideline and on the evaluation set of today."""
    step("snapshot")
    with project.read() as session:
        study = study_of(session, upto=session.get_one(Job, run).sequence)
        refits = state_of(session).settings.refits
    test = test_set(study)
    if not test:
        raise DataError("expected labelled evaluation sentences; found none: label some first")
    step("measure")
    points = history(study, test=test, refits=refits)
    step("switch")
    with project.write() as session:
        add_points(session, points, run=run, test=[str(row.meta["id"]) for row in test])
        row = session.get_one(Job, run)
        row.state, row.ended, row.result = ENDED, project.clock(), {"points": len(points)}


def _save(project: Project, run: int, models: dict[str, Segmenter]) -> None:
    """Write the models beside their place and move them into it."""
    final = project.models / str(run)
    partial = project.models / f"{run}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for arm, model in models.items():
        model.save_pretrained(partial / arm)
    partial.rename(final)


def _ranking(study: Study, models: dict[str, Segmenter], *, run: int) -> ScoreTable | None:
    """What the active arm's model thinks of the corpus; None: it has no labels yet."""
    arm = next((name for name, c in study.config.arms.items() if c.strategy != "random"), None)
    if arm is None:
        return None
    config = study.config.arms[arm]
    scorer = arm if config.scorer == "own" else UNION
    if scorer not in models:
        return None
    return score_pool(
        list(study.sentences.values()),
        segmenter=models[scorer],
        model=model_name(run, scorer),
        reserved=study.reserved,
        config=config,
        seed=study.config.seed,
        chunk=CHUNK,
    )


def _write_scores(
    project: Project,
    run: int,
    *,
    study: Study,
    models: dict[str, Segmenter],
    table: ScoreTable | None,
) -> None:
    """Scores and best cuts under the number of the run, some at a time: nobody reads them yet."""
    shown = models.get(UNION) or next(iter(models.values()))
    uids = sorted(study.sentences)
    for start in range(0, len(uids), CHUNK):
        part = uids[start : start + CHUNK]
        cuts = shown.segment([study.sentences[uid].text for uid in part])
        with project.write() as session:
            session.execute(
                Score.__table__.insert(),  # pyright: ignore[reportAttributeAccessIssue]
                [
                    {
                        "run": run,
                        "sentence": uid,
                        "strategy": table.strategy if table else "",
                        "value": table.values.get(uid) if table else None,
                        "cuts": list(of_it),
                    }
                    for uid, of_it in zip(part, cuts, strict=True)
                ],
            )


def _fingerprint(study: Study, models: dict[str, Segmenter], *, guideline: str) -> Fingerprint:
    dictionary = next(iter(models.values())).dictionary
    return Fingerprint.of(
        features=asdict(study.config.segmenter),
        guideline=guideline,
        corpus=study.sentences,
        annotators={label.annotator for label in study.labels},
        dictionary=() if dictionary is None else dictionary.words,
    )


def _switch(
    project: Project,
    run: int,
    *,
    study: Study,
    models: dict[str, Segmenter],
    points: list[Point],
    test: list[str],
    found: Fingerprint,
) -> None:
    """Put a run in force, in one transaction."""
    scores = {point.arm: dict(point.scores) for point in points}
    with project.write() as session:
        job, now = session.get_one(Job, run), project.clock()
        log = events_of(session)
        last = session.scalar(select(ModelRow).order_by(ModelRow.run.desc()).limit(1))
        if last is not None:
            before = session.get_one(Job, last.run).result or {}
            since = [event for event in log if int(event.id) > before.get("event", 0)]
            stored = Fingerprint.from_dict(last.fingerprint)
            for event in detect(stored, found, logged=since, sequence=job.sequence or 0):
                add_event(session, event, now=now)
        session.add_all(
            ModelRow(
                name=model_name(run, arm),
                run=run,
                arm=arm,
                path=f"{run}/{arm}",
                fingerprint=found.to_dict(),
                metrics=scores.get(arm, {}),
                sequence=job.sequence,
                epoch=study.epoch,
                created=now,
            )
            for arm in models
        )
        add_points(session, points, run=run, test=test)
        session.execute(update(ProjectRow).values(ranking=run))
        job.state, job.ended = ENDED, now
        job.result = {
            "event": max((int(event.id) for event in events_of(session)), default=0),
            "test": len(test),
            "scores": scores,
        }


def _clean(project: Project) -> None:
    """Delete the scores of runs that are no longer in force, and the models of all but the last."""
    with project.read() as session:
        state = state_of(session)
        old = session.scalars(select(Score.run).where(Score.run != state.ranking).distinct()).all()
        kept = select(ModelRow.run).distinct().order_by(ModelRow.run.desc())
        recent = set(session.scalars(kept.limit(state.settings.keep_runs)))
    for run in old:
        while True:
            with project.write() as session:
                part = session.scalars(
                    select(Score.sentence).where(Score.run == run).limit(CHUNK)
                ).all()
                session.execute(delete(Score).where(Score.run == run, Score.sentence.in_(part)))
            if len(part) < CHUNK:
                break
    for folder in project.models.iterdir():
        if folder.name.isdigit() and int(folder.name) not in recent:
            shutil.rmtree(folder, ignore_errors=True)


def model_name(run: int, arm: str) -> str:
    """The name of a model in the records."""
    return f"{run}-{arm}"


def _new_job(session: Session, kind: str, *, reason: str, now: float) -> Job:
    job = Job(
        kind=kind,
        state=QUEUED,
        reason=reason,
        step="",
        sequence=None,
        result=None,
        error="",
        asked=now,
        started=None,
        ended=None,
    )
    session.add(job)
    session.flush()
    return job


def _info(row: Job) -> JobInfo:
    return JobInfo(
        id=row.id,
        kind=row.kind,
        state=row.state,
        reason=row.reason,
        step=row.step,
        sequence=row.sequence,
        error=row.error,
        asked=row.asked,
        started=row.started,
        ended=row.ended,
        result=row.result,
    )
