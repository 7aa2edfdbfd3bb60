"""The corpus: texts come in, are kept for evaluation by their keys, and go out again.

One row stands for one distinct text. Imports are written in small transactions, so that people can
work meanwhile; one that was cut short is repeated under the same name and goes on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from attar.annotate.events import add_event
from attar.annotate.refusals import Conflict
from attar.annotate.store import Project, State, state_of
from attar.annotate.tables import ProjectRow, SentenceRow, Snapshot, Task
from attar.annotate.tasks import CANCELLED, OPEN, NewTask, ask, settle
from attar.data.segments.cuts import Segmented
from attar.data.segments.formats import read_segments
from attar.data.segments.streams import Offsets, Report
from attar.errors import DataError
from attar.methods.active_segmentation.arms import (
    EVALUATION,
    RANDOM,
    keys,
    reserve_threshold,
    uid,
)
from attar.methods.active_segmentation.events import Event

T = TypeVar("T")
#: rows in one transaction
CHUNK = 500


@dataclass(frozen=True)
class AddReport:
    """What an import brought: distinct texts that are new, lines that were there before, lines that
    are too long or cannot be stored, and what was tolerated in the files."""

    snapshot: str
    new: int
    duplicate: int
    too_long: int
    refused: int
    reserved: int
    warnings: tuple[str, ...] = ()


@dataclass
class _Seen:
    """What the files hold."""

    rows: dict[str, Segmented] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    too_long: int = 0
    refused: int = 0


def add(
    project: Project,
    source: str | Path | Iterable[Segmented],
    *,
    format: str | None = None,
    snapshot: str | None = None,
    offsets: Offsets = "auto",
    author: str = "",
) -> AddReport:
    """Import texts. The first import sets the share that is kept for evaluation; later ones follow
    the same keys, so the reserve grows with the corpus and never takes what an arm was served.

    Args:
        project: the project.
        source: files as `read_segments` takes them, or sentences. Where words are known already,
            they are kept as gold, for simulated annotators.
        format: of the files; None: told by names and contents.
        snapshot: name for the state of the corpus after it; None: s1, s2, ...
        offsets: what offsets in the files count.
        author: who imports.

    Raises:
        DataError: the files cannot be read, or hold no sentence that can be used.
        Conflict: there is a finished snapshot of that name.
    """
    report = Report()
    rows = _rows(source, format=format, offsets=offsets, report=report)
    with project.read() as session:
        state = state_of(session)
    seen = _seen(rows, longest=state.settings.longest)
    if not seen.rows:
        advice = "cut them into sentences first" if seen.too_long else "give a file with text"
        raise DataError(
            f"expected sentences of 1 to {state.settings.longest} characters; found "
            f"{seen.too_long} longer ones and {seen.refused} that are blank or hold U+0000: "
            f"{advice}"
        )
    name = _begin(project, snapshot, source="" if not isinstance(source, str | Path) else source)
    for part in _parts(list(seen.rows)):
        _write(project, part, seen=seen, snapshot=name)
    return _finish(project, name, seen=seen, report=report, author=author)


def remove(
    project: Project,
    *,
    snapshot: str | None = None,
    document: str | None = None,
    uids: Sequence[str] = (),
    author: str = "",
    note: str = "",
) -> int:
    """Take sentences out of the corpus; their labels stay, open questions about them are withdrawn.

    Args:
        project: the project.
        snapshot: those that came with it.
        document: those of it.
        uids: these.
        author: who removes.
        note: why.

    Returns:
        How many.

    Raises:
        DataError: there are none.
    """
    with project.write() as session:
        wanted = select(SentenceRow).where(SentenceRow.removed.is_(None))
        if snapshot is not None:
            wanted = wanted.where(SentenceRow.first_snapshot == snapshot)
        if document is not None:
            wanted = wanted.where(SentenceRow.document == document)
        if uids or (snapshot is None and document is None):
            wanted = wanted.where(SentenceRow.uid.in_(uids))
        rows = session.scalars(wanted).all()
        if not rows:
            raise DataError("expected sentences to remove; none of the corpus fits")
        now, before = project.clock(), latest_snapshot(session)
        name = _next_name(session)
        source = f"removed {len(rows)} sentences"
        session.add(_snapshot(session, name, source=source, now=now, report={"removed": len(rows)}))
        session.flush()
        for row in rows:
            row.removed = name
        for part in _parts([row.uid for row in rows]):
            session.execute(
                update(Task)
                .where(Task.sentence.in_(part), Task.state != "done")
                .values(state=CANCELLED)
            )
        event = Event(kind="corpus.remove", before=before, after=name, author=author, note=note)
        add_event(session, event, now=now)
        return len(rows)


def latest_snapshot(session: Session) -> str:
    """The name of the state of the corpus; empty before the first import."""
    finished = select(Snapshot.name).where(Snapshot.report.is_not(None))
    return session.scalar(finished.order_by(Snapshot.number.desc()).limit(1)) or ""


def words_of(
    source: str | Path | Iterable[Segmented],
    *,
    format: str | None = None,
    offsets: Offsets = "auto",
) -> dict[str, tuple[int, ...]]:
    """The words that come with texts: uid -> offsets before which a word begins. Of several lines
    with the same text the first counts; texts without words are left out. Takes and raises what
    `add` does.
    """
    found = dict[str, tuple[int, ...]]()
    for row in _rows(source, format=format, offsets=offsets, report=Report()):
        if row.decided is None:
            found.setdefault(uid(row.text), row.cuts)
    return found


def _rows(
    source: str | Path | Iterable[Segmented],
    *,
    format: str | None,
    offsets: Offsets,
    report: Report,
) -> Iterable[Segmented]:
    if isinstance(source, str | Path):
        return read_segments(source, format=format, offsets=offsets, report=report)
    return source


def _seen(rows: Iterable[Segmented], *, longest: int) -> _Seen:
    seen = _Seen()
    for row in rows:
        if len(row.text) > longest:
            seen.too_long += 1
        elif not row.text.strip() or "\0" in row.text:  # which no text of PostgreSQL may hold
            seen.refused += 1
        else:
            name = uid(row.text)
            seen.rows.setdefault(name, row)
            seen.lines[name] = seen.lines.get(name, 0) + 1
    return seen


def _begin(project: Project, snapshot: str | None, *, source: str | Path) -> str:
    with project.write() as session:
        name = snapshot or _unfinished(session, str(source)) or _next_name(session)
        found = session.get(Snapshot, name)
        if found is not None and found.report is not None:
            raise Conflict(f"there is a snapshot {name!r} already; give this import another name")
        if found is None:
            now = project.clock()
            session.add(_snapshot(session, name, source=str(source), now=now, report=None))
        return name


def _unfinished(session: Session, source: str) -> str | None:
    """The import of the same files that was cut short."""
    wanted = select(Snapshot.name).where(Snapshot.report.is_(None), Snapshot.source == source)
    return session.scalar(wanted.order_by(Snapshot.number.desc()).limit(1)) if source else None


def _write(project: Project, names: list[str], *, seen: _Seen, snapshot: str) -> None:
    """Store some of the texts; what this import has stored before stays as it is."""
    random, evaluation = keys(names, RANDOM).tolist(), keys(names, EVALUATION).tolist()
    with project.write() as session:
        reserve = state_of(session).reserve  # another import may have set it meanwhile
        there = {
            row.uid: row
            for row in session.scalars(select(SentenceRow).where(SentenceRow.uid.in_(names)))
        }
        for name, by_random, by_evaluation in zip(names, random, evaluation, strict=True):
            row = seen.rows[name]
            old = there.get(name)
            if old is None:
                session.add(
                    SentenceRow(
                        uid=name,
                        text=row.text,
                        n=len(row.text),
                        occurrences=seen.lines[name],
                        document=str(row.meta.get("document", "")),
                        first_snapshot=snapshot,
                        last_snapshot=snapshot,
                        removed=None,
                        key_random=by_random,
                        key_eval=by_evaluation,
                        reserved=reserve is not None and by_evaluation < reserve,
                        gold=list(row.cuts) if row.decided is None else None,
                        meta={k: v for k, v in row.meta.items() if k != "document"},
                    )
                )
            elif old.last_snapshot != snapshot:
                old.occurrences += seen.lines[name]
                old.last_snapshot = snapshot
                if old.gold is None and row.decided is None:
                    old.gold = list(row.cuts)
                if old.removed is not None:
                    old.removed = None
                    _ask_again(session, name)


def _ask_again(session: Session, sentence: str) -> None:
    """Open the tasks of a sentence that came back."""
    back = select(Task).where(Task.sentence == sentence, Task.state == CANCELLED)
    for task in session.scalars(back).all():
        task.state = OPEN
        settle(session, task.id)


def _finish(project: Project, name: str, *, seen: _Seen, report: Report, author: str) -> AddReport:
    with project.write() as session:
        state, now = state_of(session), project.clock()
        before = latest_snapshot(session)
        if state.reserve is None:
            _reserve(session, state)
        new = session.scalar(select(func.count()).where(SentenceRow.first_snapshot == name))
        reserved = session.scalar(
            select(func.count()).where(SentenceRow.reserved, SentenceRow.first_snapshot == name)
        )
        _ask_evaluation(session, state, snapshot=name, now=now)
        result = AddReport(
            snapshot=name,
            new=new or 0,
            duplicate=sum(seen.lines.values()) - (new or 0),
            too_long=seen.too_long,
            refused=seen.refused,
            reserved=reserved or 0,
            warnings=_warnings(seen, report, longest=state.settings.longest),
        )
        session.get_one(Snapshot, name).report = asdict(result) | {
            "warnings": list(result.warnings)
        }
        event = Event(kind="corpus.add", before=before, after=name, author=author)
        add_event(session, event, now=now)
        return result


def _reserve(session: Session, state: State) -> None:
    """Set the share that is kept for evaluation, once."""
    settings = state.settings
    threshold = reserve_threshold(
        list(session.scalars(select(SentenceRow.uid))),
        fraction=settings.reserve_fraction,
        minimum=settings.reserve_minimum,
    )
    session.execute(update(ProjectRow).values(reserve=threshold))
    session.execute(update(SentenceRow).values(reserved=SentenceRow.key_eval < threshold))


def _ask_evaluation(session: Session, state: State, *, snapshot: str, now: float) -> None:
    """Questions about the reserved sentences of a snapshot, in the order of their keys. They begin
    without cuts: a test set that was corrected from a model's output flatters that model."""
    fresh = (
        select(SentenceRow.uid, SentenceRow.key_eval)
        .where(SentenceRow.reserved, SentenceRow.first_snapshot == snapshot)
        .order_by(SentenceRow.key_eval, SentenceRow.uid)
    )
    needed = state.settings.evaluation_annotators
    tasks = [
        NewTask(name, "evaluation", needed=needed, order=int(key * 2**30), prefill=False)
        for name, key in session.execute(fresh)
    ]
    ask(session, tasks, seed=state.seed, now=now)


def _warnings(seen: _Seen, report: Report, *, longest: int) -> tuple[str, ...]:
    found = [f"{count} {what}" for what, count in report.counts.items()]
    if seen.too_long:
        found.append(f"{seen.too_long} lines of more than {longest} characters were left out")
    if seen.refused:
        found.append(f"{seen.refused} lines that are empty or hold U+0000 were left out")
    return tuple(found)


def _snapshot(
    session: Session, name: str, *, source: str, now: float, report: dict[str, int] | None
) -> Snapshot:
    last = session.scalar(select(func.max(Snapshot.number))) or 0
    return Snapshot(name=name, number=last + 1, source=source, report=report, created=now)


def _next_name(session: Session) -> str:
    names = set(session.scalars(select(Snapshot.name)))
    number = len(names) + 1
    while f"s{number}" in names:
        number += 1
    return f"s{number}"


def _parts(rows: Sequence[T]) -> Iterator[list[T]]:
    ahead = iter(rows)
    while part := list(islice(ahead, CHUNK)):
        yield part
