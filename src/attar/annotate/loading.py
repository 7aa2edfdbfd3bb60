"""What the store holds, as the plain `Study` that the simulation works on, too."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from attar.annotate.corpus import latest_snapshot
from attar.annotate.events import events_of
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Annotation, Arm, Guideline, PickRow, SentenceRow, Task
from attar.annotate.tasks import MIGRATED, VOID
from attar.errors import ConfigError
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.labels import Label
from attar.methods.active_segmentation.picks import DrawConfig, Pick, Sentence
from attar.methods.active_segmentation.study import ARMS, Study, StudyConfig


def load_study(project: Project, *, upto: int | None = None) -> Study:
    """All that happened so far.

    Args:
        project: the project.
        upto: the last annotation to look at; None: all of them.
    """
    with project.read() as session:
        return study_of(session, upto=upto)


def study_of(session: Session, *, upto: int | None = None) -> Study:
    """`load_study` within a transaction."""
    there = (
        select(
            SentenceRow.uid,
            SentenceRow.text,
            SentenceRow.document,
            SentenceRow.first_snapshot,
            SentenceRow.occurrences,
            SentenceRow.reserved,
        )
        .where(SentenceRow.removed.is_(None))
        .order_by(SentenceRow.uid)
    )
    sentences, reserved = dict[str, Sentence](), set[str]()
    for uid, text, document, snapshot, occurrences, kept in session.execute(there):
        sentences[uid] = Sentence(uid, text, document, snapshot, occurrences)
        if kept:
            reserved.add(uid)
    return Study(
        config=study_config(session),
        sentences=sentences,
        reserved=frozenset(reserved),
        picks=tuple(picks_of(session)),
        labels=tuple(labels_of(session, upto=upto)),
        events=events_of(session),
        snapshot=latest_snapshot(session),
    )


def study_config(session: Session) -> StudyConfig:
    """What the project compares.

    Raises:
        ConfigError: the settings name an option that there is not, or that cannot be so.
    """
    state = state_of(session)
    arms = {
        row.name: _options(
            DrawConfig,
            {
                "strategy": ARMS[row.name].strategy if row.name in ARMS else "mnlp",
                "longest": state.settings.longest,
            }
            | dict(state.settings.draw)
            | dict(row.settings or {}),
            what=f"options of the arm {row.name}",
        )
        for row in session.scalars(select(Arm).order_by(Arm.number))
    }
    first = session.scalars(select(Guideline.version).order_by(Guideline.number).limit(1)).one()
    return StudyConfig(
        arms=arms,
        segmenter=_options(SegmenterConfig, state.settings.segmenter, what="segmenter"),
        guideline=first,
        seed_sentences=state.settings.seed_sentences,
        seed=state.seed,
    )


def labels_of(session: Session, *, upto: int | None = None, control: bool = False) -> list[Label]:
    """The annotations as labels, by `sequence`, without the answers to control items, which measure
    people; or, with `control`, those alone of the people who were to be measured."""
    wanted = select(Annotation).where(Annotation.kind != "control").order_by(Annotation.seq)
    if control:
        mine = (Task.id == Annotation.task) & (Task.only_for == Annotation.annotator)
        wanted = select(Annotation).join(Task, mine).where(Annotation.kind == "control")
        wanted = wanted.order_by(Annotation.seq)
    if upto is not None:
        wanted = wanted.where(Annotation.seq <= upto)
    rows = session.scalars(wanted).all()
    first = {row.id: row.seq for row in rows}
    return [_label(row, parent=first[row.root]) for row in rows]


def picks_of(session: Session) -> list[Pick]:
    """What was drawn, in order."""
    return [
        Pick(
            uid=row.sentence,
            arm=row.arm,
            batch=row.batch,
            rank=row.rank,
            score=row.score,
            strategy=row.strategy,
            model=row.model,
            snapshot=row.snapshot,
            pool_size=row.pool_size,
            probability=row.probability,
            positions=None if row.positions is None else tuple(row.positions),
        )
        for row in session.scalars(
            select(PickRow).order_by(PickRow.batch, PickRow.arm, PickRow.rank, PickRow.id)
        )
    ]


def _label(row: Annotation, *, parent: int) -> Label:
    status: Any = row.status
    if row.kind == "adjudicate" and row.status == "submitted":
        status = "adjudicated"
    return Label(
        uid=row.sentence,
        cuts=tuple(row.cuts or ()),
        decided=None if row.decided is None else tuple(row.decided),
        guideline=row.guideline,
        annotator=row.annotator,
        sequence=row.seq,
        seconds=row.active_ms / 1000,
        corrections=row.edits,
        status=status,
        parent=parent if row.status in (VOID, MIGRATED) else None,
        by_reviewer=row.kind == "adjudicate" and row.status == MIGRATED,
    )


def _options(kind: Any, stored: Mapping[str, Any], *, what: str) -> Any:
    try:
        return kind(**stored)
    except TypeError as error:
        raise ConfigError(f"the {what} cannot be used ({error}); correct the settings") from None
