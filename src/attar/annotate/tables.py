"""The tables of a project.

`Annotation` and `Event` are append-only: rows are added, never changed. What the queue keeps on a
task (`state`, `live`) and the adjudications follow from the annotations and can be rebuilt from
them (`tasks.replay`). Times are seconds since 1970, UTC. Offsets are code points.
"""

from typing import Annotated, Any, cast

from sqlalchemy import JSON, Double, ForeignKey, Index, MetaData, Table, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = Annotated[Any, mapped_column(JSON(none_as_null=True), nullable=True)]
Uid = Annotated[str, mapped_column(ForeignKey("sentence.uid"), index=True)]
TaskId = Annotated[str, mapped_column(ForeignKey("task.id"), index=True)]
Name = Annotated[str, mapped_column(ForeignKey("user.name"), index=True)]


class Base(DeclarativeBase):
    """What all tables share; the names of constraints are fixed so that migrations can refer to
    them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {float: Double}  # noqa: RUF012 - as SQLAlchemy declares it


class ProjectRow(Base):
    """The project: one row.

    `revision` counts changes of settings and guideline, so that of two administrators who change
    them at once the second is told. `sequence` is the number of the last annotation. `ranking`
    is the training run whose scores are in force, `reserve` the key below which a sentence is kept
    for evaluation.
    """

    __tablename__ = "project"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    seed: Mapped[int]
    settings: Mapped[Json]
    revision: Mapped[int]
    guideline: Mapped[str]
    sequence: Mapped[int]
    ranking: Mapped[int | None]
    reserve: Mapped[float | None]
    paused: Mapped[bool]
    created: Mapped[float]


class Guideline(Base):
    """One version of what annotators are told."""

    __tablename__ = "guideline"
    version: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    text: Mapped[str]
    rules: Mapped[Json]
    author: Mapped[str]
    created: Mapped[float]


class Snapshot(Base):
    """One state of the corpus: what an import or a removal left."""

    __tablename__ = "snapshot"
    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    source: Mapped[str]
    report: Mapped[Json]
    created: Mapped[float]


class SentenceRow(Base):
    """One distinct text; `n` is its length in code points, `key_*` its places in the hash orders.

    `removed` is the snapshot that took it out of the corpus; its labels stay.
    """

    __tablename__ = "sentence"
    uid: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    n: Mapped[int]
    occurrences: Mapped[int]
    document: Mapped[str]
    first_snapshot: Mapped[str] = mapped_column(ForeignKey("snapshot.name"))
    last_snapshot: Mapped[str] = mapped_column(ForeignKey("snapshot.name"))
    removed: Mapped[str | None] = mapped_column(ForeignKey("snapshot.name"))
    key_random: Mapped[float] = mapped_column(index=True)
    key_eval: Mapped[float]
    reserved: Mapped[bool] = mapped_column(index=True)
    gold: Mapped[Json]
    meta: Mapped[Json]


class Arm(Base):
    """One way of choosing sentences."""

    __tablename__ = "arm"
    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    settings: Mapped[Json]


class BatchRow(Base):
    """What was drawn for an arm at one time; `near_duplicates` were left out of it (None: nobody
    looked for any)."""

    __tablename__ = "batch"
    id: Mapped[int] = mapped_column(primary_key=True)
    arm: Mapped[str] = mapped_column(ForeignKey("arm.name"))
    number: Mapped[int]
    strategy: Mapped[str]
    model: Mapped[str | None]
    snapshot: Mapped[str]
    settings: Mapped[Json]
    pool_size: Mapped[int]
    near_duplicates: Mapped[int | None]
    sequence: Mapped[int]
    created: Mapped[float]
    __table_args__ = (UniqueConstraint("arm", "number"),)


class PickRow(Base):
    """A sentence that an arm chose, and why; `task` asks people about it."""

    __tablename__ = "pick"
    id: Mapped[int] = mapped_column(primary_key=True)
    arm: Mapped[str] = mapped_column(ForeignKey("arm.name"))
    batch: Mapped[int]
    rank: Mapped[int]
    sentence: Mapped[Uid]
    task: Mapped[str | None] = mapped_column(ForeignKey("task.id"), index=True)
    score: Mapped[float | None]
    strategy: Mapped[str]
    model: Mapped[str | None]
    snapshot: Mapped[str]
    pool_size: Mapped[int]
    probability: Mapped[float | None]
    positions: Mapped[Json]
    __table_args__ = (UniqueConstraint("arm", "batch", "sentence"),)


class Task(Base):
    """A question about one sentence. `state` is open, done, flagged or cancelled; `live` counts its
    answers in force. The id says nothing of the arm."""

    __tablename__ = "task"
    id: Mapped[str] = mapped_column(primary_key=True)
    sentence: Mapped[Uid]
    kind: Mapped[str]
    needed: Mapped[int]
    positions: Mapped[Json]
    only_for: Mapped[str | None] = mapped_column(ForeignKey("user.name"))
    prefill: Mapped[bool]
    state: Mapped[str]
    live: Mapped[int]
    order: Mapped[int]
    round: Mapped[str]
    created: Mapped[float]
    __table_args__ = (Index("ix_task_queue", "kind", "state", "order", "id"),)


class Block(Base):
    """Tasks for one annotator in shuffled order: as many of one arm as of the other."""

    __tablename__ = "block"
    id: Mapped[int] = mapped_column(primary_key=True)
    annotator: Mapped[Name]
    number: Mapped[int]
    open: Mapped[bool]
    created: Mapped[float]
    __table_args__ = (UniqueConstraint("annotator", "number"),)


class BlockItem(Base):
    """The place of a task in a block."""

    __tablename__ = "block_item"
    block: Mapped[int] = mapped_column(ForeignKey("block.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    task: Mapped[TaskId]


class Lease(Base):
    """Somebody is at work on a task, until `expires`."""

    __tablename__ = "lease"
    id: Mapped[str] = mapped_column(primary_key=True)
    task: Mapped[TaskId]
    annotator: Mapped[Name]
    taken: Mapped[float]
    expires: Mapped[float] = mapped_column(index=True)
    __table_args__ = (UniqueConstraint("task", "annotator"),)


class Draft(Base):
    """What somebody was offered for a task, and what they have made of it so far."""

    __tablename__ = "draft"
    task: Mapped[str] = mapped_column(ForeignKey("task.id"), primary_key=True)
    annotator: Mapped[str] = mapped_column(ForeignKey("user.name"), primary_key=True)
    cuts: Mapped[Json]
    decided: Mapped[Json]
    caret: Mapped[int | None]
    active_ms: Mapped[int]
    prefill: Mapped[Json]
    prefill_model: Mapped[str | None]
    saved: Mapped[float]


class Annotation(Base):
    """One act of one person, in the `role` that they had then: append-only. `status` is submitted,
    skipped, flagged, migrated (a rule rewrote its `parent`) or void (undoes all of its `root`, the
    first of its line). `seq` has no gaps and follows the order of commits, so a snapshot is a
    number."""

    __tablename__ = "annotation"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(unique=True)
    task: Mapped[TaskId]
    sentence: Mapped[Uid]
    annotator: Mapped[str] = mapped_column(ForeignKey("user.name"))
    role: Mapped[str] = mapped_column(server_default="annotator")
    root: Mapped[str] = mapped_column(index=True)
    parent: Mapped[str | None]
    kind: Mapped[str]
    status: Mapped[str]
    cuts: Mapped[Json]
    decided: Mapped[Json]
    guideline: Mapped[str] = mapped_column(ForeignKey("guideline.version"))
    prefill: Mapped[Json]
    prefill_model: Mapped[str | None]
    edits: Mapped[int | None]
    active_ms: Mapped[int]
    note: Mapped[str]
    trace: Mapped[Json]
    digest: Mapped[str]
    created: Mapped[float]
    __table_args__ = (Index("ix_annotation_annotator_status", "annotator", "status"),)


class Adjudication(Base):
    """The answer of a reviewer, which wins over all others under its guideline."""

    __tablename__ = "adjudication"
    sentence: Mapped[str] = mapped_column(ForeignKey("sentence.uid"), primary_key=True)
    guideline: Mapped[str] = mapped_column(ForeignKey("guideline.version"), primary_key=True)
    annotation: Mapped[str]
    reviewer: Mapped[Name]


class EventRow(Base):
    """Something changed around the annotators: append-only."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[float]
    kind: Mapped[str] = mapped_column(index=True)
    scope: Mapped[str]
    before: Mapped[str]
    after: Mapped[str]
    author: Mapped[str]
    note: Mapped[str]
    effective_seq: Mapped[int]
    policy: Mapped[str]
    settings: Mapped[Json]
    detected: Mapped[bool]


class Job(Base):
    """Work for the worker; `state` is queued, running, done, failed or abandoned. A `train` job
    is one training run."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str]
    step: Mapped[str]
    sequence: Mapped[int | None]
    result: Mapped[Json]
    error: Mapped[str]
    asked: Mapped[float]
    started: Mapped[float | None]
    ended: Mapped[float | None]


class ModelRow(Base):
    """A trained segmenter; `path` is below the project's `models/`."""

    __tablename__ = "model"
    name: Mapped[str] = mapped_column(primary_key=True)
    run: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    arm: Mapped[str]
    path: Mapped[str]
    fingerprint: Mapped[Json]
    metrics: Mapped[Json]
    sequence: Mapped[int]
    epoch: Mapped[int]
    created: Mapped[float]


class Score(Base):
    """What a run's model thinks of a sentence: how much it wants it asked, its best cuts, and the
    offsets where it is unsure (None: not noted)."""

    __tablename__ = "score"
    run: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    sentence: Mapped[str] = mapped_column(ForeignKey("sentence.uid"), primary_key=True)
    strategy: Mapped[str]
    value: Mapped[float | None]
    cuts: Mapped[Json]
    doubts: Mapped[Json]


class MetricPoint(Base):
    """A point of a learning curve: `counts` of each sentence of `test`, `(N, 3)`, make its
    interval."""

    __tablename__ = "metric_point"
    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    epoch: Mapped[int]
    arm: Mapped[str]
    batch: Mapped[int]
    costs: Mapped[Json]
    scores: Mapped[Json]
    counts: Mapped[Json]
    refits: Mapped[Json]
    test: Mapped[Json]


class User(Base):
    """Somebody who may log in; `role` is admin, reviewer or annotator. `acknowledged` is the
    guideline that they have read; `language` is empty where they want that of their browser."""

    __tablename__ = "user"
    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    password: Mapped[str | None]
    active: Mapped[bool]
    acknowledged: Mapped[str | None]
    language: Mapped[str]
    created: Mapped[float]


class SessionRow(Base):
    """A login; only the hash of its secret is kept."""

    __tablename__ = "session"
    digest: Mapped[str] = mapped_column(primary_key=True)
    user: Mapped[Name]
    csrf: Mapped[str]
    created: Mapped[float]
    expires: Mapped[float]


class Token(Base):
    """A key for scripts; only its hash is kept."""

    __tablename__ = "token"
    digest: Mapped[str] = mapped_column(primary_key=True)
    user: Mapped[Name]
    label: Mapped[str]
    created: Mapped[float]
    expires: Mapped[float | None]
    revoked: Mapped[bool]


class LoginFailure(Base):
    """A failed login, for throttling."""

    __tablename__ = "login_failure"
    id: Mapped[int] = mapped_column(primary_key=True)
    who: Mapped[str] = mapped_column(index=True)
    at: Mapped[float]


def table(kind: type[Base]) -> Table:
    """The table of a class, for statements that are made once and run for every request."""
    return cast(Table, kind.__table__)
