"""Blocks: what one annotator gets next, as much of one arm as of the other, in an order that says
nothing.

The skill of annotators, their tiredness and the time of day then weigh on both arms alike. With the
sentences of the arms come those of evaluation, overlap, control and relabelling.
"""

import math
import random
from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Exists,
    ScalarSelect,
    Select,
    bindparam,
    exists,
    func,
    insert,
    select,
)
from sqlalchemy.orm import Session

from attar.annotate.database import one_at_a_time
from attar.annotate.store import State
from attar.annotate.tables import (
    Annotation,
    Arm,
    Block,
    BlockItem,
    PickRow,
    SentenceRow,
    Task,
    table,
)
from attar.annotate.tasks import DONE, LABELS, OPEN, NewTask, answered, ask, at_work

#: of the lock on PostgreSQL that one annotator at a time holds while a block is put together
_LOCK = 0x61747461


_TASKS, _PICKS, _BLOCKS, _ITEMS, _ACTS, _TEXTS = (
    table(kind) for kind in (Task, PickRow, Block, BlockItem, Annotation, SentenceRow)
)
_ME, _MOST = bindparam("me"), bindparam("most")
_ARMS = select(Arm.name).order_by(Arm.number)
_LAST = select(func.max(_BLOCKS.c.number)).where(_BLOCKS.c.annotator == _ME)
_NEW = insert(_BLOCKS).returning(_BLOCKS.c.id)


def _places() -> ScalarSelect[int]:
    """In how many open blocks a task waits."""
    return (
        select(func.count())
        .select_from(_ITEMS.join(_BLOCKS, _BLOCKS.c.id == _ITEMS.c.block))
        .where(_ITEMS.c.task == _TASKS.c.id, _BLOCKS.c.open)
        .scalar_subquery()
    )


def _in_blocks(*where: ColumnElement[bool]) -> Exists:
    return exists().where(_ITEMS.c.task == _TASKS.c.id, _ITEMS.c.block == _BLOCKS.c.id, *where)


#: order and id of open tasks for anybody which this person has not answered
_NOT_HAD = (
    select(_TASKS.c.order, _TASKS.c.id)
    .where(
        _TASKS.c.state == OPEN,
        (_TASKS.c.only_for.is_(None)) | (_TASKS.c.only_for == _ME),
        ~answered(_TASKS.c.id, by=_ME),
    )
    .order_by(_TASKS.c.order, _TASKS.c.id)
    .limit(_MOST)
)
#: of one kind, those that wait in too few open blocks
_FREE = _NOT_HAD.where(
    _TASKS.c.kind == bindparam("kind"),
    _TASKS.c.id.not_in(bindparam("chosen", expanding=True)),
    _TASKS.c.live < _TASKS.c.needed,
    _places() < _TASKS.c.needed,
    ~_in_blocks(_BLOCKS.c.annotator == _ME, _BLOCKS.c.open),
)
_OF_ARM = _FREE.where(
    exists().where(_PICKS.c.task == _TASKS.c.id, _PICKS.c.arm == bindparam("arm"))
)
_BEGUN = _FREE.where(_in_blocks(_BLOCKS.c.annotator != _ME))
#: tasks that wait in the blocks of others, who may never come back; leases still keep two people
#: from the same one, so what somebody is at now is left out
_LEFT = _NOT_HAD.where(
    _TASKS.c.kind != "adjudicate",
    _TASKS.c.live + at_work(_TASKS.c.id, besides=_ME, now=bindparam("now")) < _TASKS.c.needed,
)
_CONTROL = _TASKS.alias()
#: evaluation sentences that others have labelled
_CONTROLS = (
    select(_TASKS.c.sentence)
    .join(_TEXTS, _TEXTS.c.uid == _TASKS.c.sentence)
    .where(
        _TASKS.c.kind == "evaluation",
        _TASKS.c.state == DONE,
        _TEXTS.c.removed.is_(None),
        ~exists().where(
            _CONTROL.c.sentence == _TASKS.c.sentence,
            _CONTROL.c.kind == "control",
            _CONTROL.c.only_for == _ME,
        ),
        ~exists().where(
            _ACTS.c.sentence == _TASKS.c.sentence,
            _ACTS.c.annotator == _ME,
            _ACTS.c.status.in_(LABELS),
        ),
    )
    .order_by(_TASKS.c.order, _TASKS.c.sentence)
    .limit(_MOST)
)


def new_block(session: Session, state: State, *, annotator: str, now: float) -> bool:
    """Put the next block of an annotator together.

    Returns:
        Whether there was anything to put into it.
    """
    one_at_a_time(session, key=_LOCK)
    settings = state.settings
    arms = list(session.scalars(_ARMS))
    size = settings.per_arm * len(arms)
    chosen: list[str] = []

    def take(wanted: Select[int, str], kinds: Sequence[str], *, count: int, arm: str = "") -> None:
        rows = list[tuple[int, str]]()
        for kind in kinds:  # one at a time, so that an index gives the order
            which = {"me": annotator, "kind": kind, "arm": arm, "most": count, "chosen": chosen}
            rows += [(order, name) for order, name in session.execute(wanted, which)]
        chosen.extend(name for _, name in sorted(rows)[:count])

    for arm in arms:
        take(_OF_ARM, ("arm", "overlap"), count=settings.per_arm, arm=arm)
    take(_FREE, ("evaluation",), count=math.ceil(settings.evaluation_share * size))
    take(_FREE, ("relabel",), count=math.ceil(settings.relabel_share * size))
    # those that somebody else has begun
    take(_BEGUN, ("overlap",), count=math.ceil(settings.overlap_share * size))
    if chosen:
        controls = math.ceil(settings.control_share * size)
        chosen += _controls(session, state, annotator=annotator, count=controls, now=now)
    else:
        which = {"me": annotator, "now": now, "most": size}
        chosen += [name for _, name in session.execute(_LEFT, which)]
    if not chosen:
        return False
    last = session.scalar(_LAST, {"me": annotator})
    number = 0 if last is None else last + 1
    random.Random(f"{state.seed}/{annotator}/{number}").shuffle(chosen)
    block = {"annotator": annotator, "number": number, "open": True, "created": now}
    made = session.execute(_NEW, block).scalar_one()
    session.execute(
        insert(_ITEMS),
        [{"block": made, "position": place, "task": name} for place, name in enumerate(chosen)],
    )
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


def _controls(
    session: Session, state: State, *, annotator: str, count: int, now: float
) -> list[str]:
    """Control items for one annotator: evaluation sentences that others have labelled."""
    if not count:
        return []
    which = {"me": annotator, "most": count}
    tasks = [
        NewTask(uid, "control", only_for=annotator, prefill=False)
        for uid in session.scalars(_CONTROLS, which)
    ]
    return ask(session, tasks, seed=state.seed, now=now)
