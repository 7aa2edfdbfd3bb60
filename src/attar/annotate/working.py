"""The verbs `annotate draw`, `train` and `worker`."""

from dataclasses import asdict
from pathlib import Path

from sqlalchemy import select

from attar.annotate import drawing, jobs
from attar.annotate.beside import run_worker
from attar.annotate.opening import open_project
from attar.annotate.records import recorded
from attar.annotate.tables import Arm
from attar.errors import AttarError, ConfigError, require
from attar.report.record import Run


def draw(project: str | Path, *, arm: str | None = None) -> Run:
    """Draw the next batch now, by the ranking in force.

    Args:
        project: its folder.
        arm: random or active; None: both.

    Returns:
        The record: `details` has a row of `batches` for each arm, and `warnings`.

    Raises:
        ConfigError: there is no project, or no such arm.
        DataError: the corpus has no sentence to draw from.
        Conflict: somebody else drew the same batch at the same time.
    """
    with recorded("draw", project=project, arm=arm) as run, open_project(project) as opened:
        with opened.read() as session:
            known = session.scalars(select(Arm.name).order_by(Arm.number)).all()
        require(arm is None or arm in known, "arm", arm, f"one of {', '.join(known)}")
        found = [asdict(drawing.draw(opened, arm=name)) for name in known if arm in (None, name)]
        warnings = {line for one in found for line in one.pop("warnings")}
        run.details = {"batches": found, "warnings": sorted(warnings)}
    return run


def train(project: str | Path, *, history: bool = False) -> Run:
    """Train on what is labelled now, measure, rank the corpus anew and draw; where a worker is at
    work it is asked to.

    Args:
        project: its folder.
        history: then also train and measure all batches of the past again, under the guideline and
            with the evaluation labels of today: the past of a new epoch.

    Returns:
        The record: `details` has the `job`, the last one; its `state` is `queued` where a worker
        does it.

    Raises:
        ConfigError: there is no project.
        AttarError: the training failed; says why.
    """
    with (
        recorded("train", project=project, history=history) as run,
        open_project(project) as opened,
    ):
        asked = [jobs.ask_for(opened, kind=kind) for kind in ("train", "history")[: 1 + history]]
        try:
            jobs.work(opened, once=True)
        except ConfigError:  # another worker is there
            run.details = {"job": asdict(asked[-1])}
            return run
        ended = {job.id: job for job in jobs.jobs(opened)}
        for job in (ended[one.id] for one in asked):
            if job.state == jobs.FAILED:
                raise AttarError(f"the training failed: {job.error}")
            run.details = {"job": asdict(job)}
    return run


def worker(project: str | Path, *, once: bool = False) -> Run:
    """Train, score and draw as it becomes due, at low priority, until Ctrl-C.

    Args:
        project: its folder.
        once: do what is waiting, and return.

    Returns:
        The record: `details["jobs"]` says how many were done.

    Raises:
        ConfigError: there is no project, or another worker is at work on it.
    """
    with recorded("worker", project=project, once=once) as run, open_project(project) as opened:
        run.details = {"jobs": run_worker(opened, once=once)}
    return run
