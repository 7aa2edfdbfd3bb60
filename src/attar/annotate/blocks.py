"""Blocks: what one annotator gets next, as much of one arm as of the other, in an order that says
nothing.

The skill of annotators, their tiredness and the time of day then weigh on both arms alike. With the
sentences of the arms come those of evaluation, overlap, control and relabelling.
"""

import math
import random
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Exists, Select, exists, func, select, text
from sqlalchemy.orm import Session, aliased

from attar.annotate.store import State
from attar.annotate.tables import (
    Annotation,
    Arm,
    Block,
    BlockItem,
    Lease,
    PickRow,
    SentenceRow,
    Task,
)
from attar.annotate.tasks import DONE, LABELS, OPEN, VOID, NewTask, ask

#: of the lock on PostgreSQL that one annotator at a time holds while a block is put together
_LOCK = 0x61747461


def new_block(session: Session, state: State, *, annotator: str, now: float) -> bool:
    """Put the next block of an annotator together.

    Returns:
        Whether there was anything to put into it.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    settings = state.settings
    arms = list(session.scalars(select(Arm.name).order_by(Arm.number)))
    size = settings.per_arm * len(arms)
    chosen: list[str] = []

    def take(kinds: Sequence[str], count: int, *where: ColumnElement[bool] | Exists) -> None:
        rows = list[tuple[int, str]]()
        for kind in kinds:  # one at a time, so that an index gives the order
            wanted = free.where(Task.kind == kind, Task.id.not_in(chosen), *where)
            rows += [(order, name) for order, name in session.execute(wanted.limit(count))]
        chosen.extend(name for _, name in sorted(rows)[:count])

    free = _free(annotator)
    for arm in arms:
        of_arm = exists().where(PickRow.task == Task.id, PickRow.arm == arm)
        take(("arm", "overlap"), settings.per_arm, of_arm)
    take(("evaluation",), math.ceil(settings.evaluation_share * size))
    take(("relabel",), math.ceil(settings.relabel_share * size))
    # those that somebody else has begun
    take(("overlap",), math.ceil(settings.overlap_share * size), _in_other_blocks(annotator))
    if chosen:
        controls = math.ceil(settings.control_share * size)
        chosen += _controls(session, state, annotator=annotator, count=controls, now=now)
    else:
        chosen += _left_by_others(session, annotator=annotator, count=size, now=now)
    if not chosen:
        return False
    last = session.scalar(select(func.max(Block.number)).where(Block.annotator == annotator))
    number = 0 if last is None else last + 1
    random.Random(f"{state.seed}/{annotator}/{number}").shuffle(chosen)
    block = Block(annotator=annotator, number=number, open=True, created=now)
    session.add(block)
    session.flush()
    session.add_all(
        BlockItem(block=block.id, position=place, task=name) for place, name in enumerate(chosen)
    )
    session.flush()
    return True


def warnings(session: Session, state: State) -> list[str]:
    """What an administrator should know of the queue."""
    found = []
    for arm in session.scalars(select(Arm.name).order_by(Arm.number)):
        of_arm = exists().where(PickRow.task == Task.id, PickRow.arm == arm)
        left = session.scalar(
            select(func.count()).select_from(Task).where(of_arm, Task.state == OPEN)
        )
        if not left:
            found.append(
                f"the arm {arm} has no open task, so blocks hold only the others'; draw a batch "
                "(attar annotate draw), or start the worker"
            )
    if state.ranking is None:
        found.append(
            "no model has scored the corpus yet, so every arm is served in the random order; train "
            "one (attar annotate train), or start the worker"
        )
    return found


def _free(annotator: str) -> Select[int, str]:
    """Order and id of open tasks that this annotator has not had, and that wait in too few open
    blocks."""
    places = (
        select(func.count())
        .select_from(BlockItem)
        .join(Block, Block.id == BlockItem.block)
        .where(BlockItem.task == Task.id, Block.open)
        .scalar_subquery()
    )
    mine = (
        exists()
        .where(BlockItem.task == Task.id, BlockItem.block == Block.id)
        .where(Block.annotator == annotator, Block.open)
    )
    return (
        _not_had(annotator)
        .where(Task.live < Task.needed, places < Task.needed, ~mine)
        .order_by(Task.order, Task.id)
    )


def _not_had(annotator: str) -> Select[int, str]:
    """Open tasks for anybody, which this annotator has not answered."""
    mine, voided = aliased(Annotation), aliased(Annotation)
    undone = exists().where(voided.root == mine.root, voided.status == VOID)
    answered = exists().where(mine.task == Task.id, mine.annotator == annotator, ~undone)
    return select(Task.order, Task.id).where(
        Task.state == OPEN,
        Task.kind != "adjudicate",
        (Task.only_for.is_(None)) | (Task.only_for == annotator),
        ~answered,
    )


def _in_other_blocks(annotator: str) -> Exists:
    return (
        exists()
        .where(BlockItem.task == Task.id, BlockItem.block == Block.id)
        .where(Block.annotator != annotator)
    )


def _left_by_others(session: Session, *, annotator: str, count: int, now: float) -> Sequence[str]:
    """Tasks that wait in the blocks of others, who may never come back; leases still keep two
    people from the same one, so what somebody is at now is left out."""
    at_work = (
        select(func.count())
        .select_from(Lease)
        .where(Lease.task == Task.id, Lease.annotator != annotator, Lease.expires > now)
        .scalar_subquery()
    )
    order = _not_had(annotator).where(Task.live + at_work < Task.needed)
    order = order.order_by(Task.order, Task.id)
    return [name for _, name in session.execute(order.limit(count))]


def _controls(
    session: Session, state: State, *, annotator: str, count: int, now: float
) -> list[str]:
    """Control items for one annotator: evaluation sentences that others have labelled."""
    if not count:
        return []
    asked, mine = aliased(Task), aliased(Annotation)
    known = (
        select(Task.sentence)
        .join(SentenceRow, SentenceRow.uid == Task.sentence)
        .where(
            Task.kind == "evaluation",
            Task.state == DONE,
            SentenceRow.removed.is_(None),
            ~exists().where(
                asked.sentence == Task.sentence,
                asked.kind == "control",
                asked.only_for == annotator,
            ),
            ~exists().where(
                mine.sentence == Task.sentence,
                mine.annotator == annotator,
                mine.status.in_(LABELS),
            ),
        )
        .order_by(Task.order, Task.sentence)
        .limit(count)
    )
    tasks = [
        NewTask(uid, "control", only_for=annotator, prefill=False) for uid in session.scalars(known)
    ]
    return ask(session, tasks, seed=state.seed, now=now)
