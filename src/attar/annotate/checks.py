"""Whether what a project holds fits together."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from attar.annotate.events import events_of
from attar.annotate.loading import study_config
from attar.annotate.store import Project, state_of
from attar.annotate.tables import (
    Annotation,
    BatchRow,
    Job,
    Lease,
    MetricPoint,
    ModelRow,
    PickRow,
    Score,
    SentenceRow,
    Snapshot,
    Task,
)
from attar.annotate.tasks import CANCELLED, DONE, in_force, standing
from attar.annotate.wordlists import check_word_list
from attar.data.segments.cuts import check
from attar.errors import AttarError, DataError, MissingExtraError
from attar.methods.active_segmentation.arms import key, keys, uid
from attar.methods.active_segmentation.events import epochs
from attar.methods.active_segmentation.segmenter import Segmenter

#: below this probability the keys of the random arm are called uneven
_UNLIKELY = 1e-4


@dataclass(frozen=True)
class Finding:
    """One check: `fine` or not, and what was found."""

    check: str
    fine: bool
    text: str


def examine(project: Project) -> list[Finding]:
    """All checks; nothing is changed."""
    with project.read() as session:
        return [
            _texts(session),
            _cuts(session),
            _random_arm(session),
            _keys(session),
            _tasks(session),
            _sequence(session),
            _leases(session, project.clock()),
            _words(project, session),
            _models(project, session),
            _epochs(session),
        ]


def _texts(session: Session) -> Finding:
    """Names and lengths are those of the texts."""
    wrong = sum(
        uid(text) != name or len(text) != n
        for name, text, n in session.execute(
            select(SentenceRow.uid, SentenceRow.text, SentenceRow.n)
        )
    )
    return _finding(
        "texts", "sentences whose hash or length is not that of their text", wrong=wrong
    )


def _cuts(session: Session) -> Finding:
    """Every annotation fits its text."""
    wrong = 0
    stored = select(Annotation.cuts, Annotation.decided, SentenceRow.text).join(
        SentenceRow, SentenceRow.uid == Annotation.sentence
    )
    for cuts, decided, text in session.execute(stored):
        try:
            check(text, cuts or ())
            check(text, decided or ())
            wrong += decided is not None and not {*(cuts or ())} <= {*decided}
        except DataError:
            wrong += 1
    return _finding("cuts", "annotations whose cuts do not fit their text", wrong=wrong)


def _random_arm(session: Session) -> Finding:
    """Every batch of the random arm took the smallest keys: no sentence that was there at the time
    and was never served has a smaller one, but for those that were too long or too short."""
    config = study_config(session)
    numbers = {name: n for name, n in session.execute(select(Snapshot.name, Snapshot.number))}
    there = session.execute(
        select(SentenceRow.uid, SentenceRow.n, SentenceRow.last_snapshot).where(
            ~SentenceRow.reserved, SentenceRow.removed.is_(None)
        )
    ).all()
    wrong = list[str]()
    for arm, options in config.arms.items():
        if options.strategy != "random":
            continue
        batches = {
            row.number: row for row in session.scalars(select(BatchRow).where(BatchRow.arm == arm))
        }
        last = dict[int, float]()
        served = set[str]()
        picks = select(PickRow.batch, PickRow.sentence).where(PickRow.arm == arm)
        for batch, name in session.execute(picks).all():
            served.add(name)
            last[batch] = max(last.get(batch, 0.0), key(name, options.salt))
        left = [row for row in there if row.uid not in served]
        for row, own in zip(left, keys([row.uid for row in left], options.salt), strict=True):
            passed = [
                batches[batch]
                for batch, largest in last.items()
                if own < largest and numbers[row.last_snapshot] <= numbers[batches[batch].snapshot]
            ]
            if any(b.settings["shortest"] <= row.n <= b.settings["longest"] for b in passed):
                wrong.append(arm)
                break
    text = f"not the smallest keys: {', '.join(wrong)}" if wrong else "the smallest keys"
    return Finding("random arm", not wrong, text)


def _keys(session: Session) -> Finding:
    """Keys are uniform (Kolmogorov-Smirnov)."""
    found = np.sort(keys(list(session.scalars(select(SentenceRow.uid))), "random"))
    n = len(found)
    if n < 10:
        return Finding("keys", True, "too few sentences to tell")
    steps = np.arange(n + 1) / n
    distance = float(max((steps[1:] - found).max(), (found - steps[:-1]).max()))
    chance = min(1.0, 2 * math.exp(-2 * n * distance * distance))
    return Finding(
        "keys",
        chance > _UNLIKELY,
        f"distance {distance:.4f} from uniform, probability {chance:.3f}",
    )


def _tasks(session: Session) -> Finding:
    """What the queue keeps on each task is what its annotations say."""
    by_task: dict[str, list[Annotation]] = {}
    for row in session.scalars(select(Annotation)):
        by_task.setdefault(row.task, []).append(row)
    wrong = sum(
        not _right(task, by_task.get(task.id, [])) for task in session.scalars(select(Task))
    )
    return _finding("tasks", "tasks whose state is not what their annotations say", wrong=wrong)


def _right(task: Task, rows: list[Annotation]) -> bool:
    people = Counter(act.annotator for act in in_force(rows))
    live, state = standing(rows, needed=task.needed)
    fine = task.state in (state, CANCELLED) and task.live == live <= task.needed
    return fine and all(count == 1 for count in people.values())


def _sequence(session: Session) -> Finding:
    """Annotations are numbered without gaps, and the project knows the last."""
    numbers = list(session.scalars(select(Annotation.seq).order_by(Annotation.seq)))
    fine = numbers == list(range(1, len(numbers) + 1)) and state_of(session).sequence == len(
        numbers
    )
    return Finding("sequence", fine, f"{len(numbers)} annotations{'' if fine else ', with gaps'}")


def _leases(session: Session, now: float) -> Finding:
    """No lease on what is done, and none of somebody who has answered."""
    gone = (
        select(func.count())
        .select_from(Lease)
        .join(Task, Task.id == Lease.task)
        .where(Lease.expires > now, Task.state.in_((DONE, CANCELLED)))
    )
    wrong = session.scalar(gone) or 0
    return _finding("leases", "leases on tasks that are done", wrong=wrong)


def _words(project: Project, session: Session) -> Finding:
    """The word list of the segmenter is what it was."""
    try:
        check_word_list(project.folder, state_of(session).settings.segmenter.get("dictionary"))
    except AttarError as error:
        return Finding("words", False, str(error))
    return Finding("words", True, "fine")


def _models(project: Project, session: Session) -> Finding:
    """The models in force can be read, and have scored the corpus."""
    run = state_of(session).ranking
    if run is None:
        return Finding("models", True, "none trained yet")
    paths = session.scalars(select(ModelRow.path).where(ModelRow.run == run))
    for path in paths:
        if not (project.models / path).is_dir():
            return Finding("models", False, f"missing folder: {path}; train again")
        try:
            Segmenter.from_pretrained(project.models / path)
        except MissingExtraError as error:
            return Finding("models", False, str(error))
        except AttarError as error:
            why = f"the model {path} cannot be used, so train again: {error}"
            return Finding("models", False, why)
    scores = session.scalar(select(func.count()).where(Score.run == run))
    return Finding("models", bool(scores), f"run {run}, {scores} sentences scored")


def _epochs(session: Session) -> Finding:
    """The points of curves lie in epochs that the log knows."""
    known = {epoch.number for epoch in epochs(events_of(session))}
    points = select(MetricPoint.epoch).join(Job, Job.id == MetricPoint.run).distinct()
    lost = sorted(set(session.scalars(points)) - known)
    return _finding("epochs", "epochs of points that no event began", wrong=len(lost))


def _finding(check: str, what: str, *, wrong: int) -> Finding:
    return Finding(check, not wrong, f"{wrong} {what}" if wrong else "fine")


def problems(findings: list[Finding]) -> Iterator[Finding]:
    """Those that are not fine."""
    return (finding for finding in findings if not finding.fine)
