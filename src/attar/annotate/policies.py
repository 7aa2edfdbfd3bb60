"""What becomes of the labels before a change of guideline: rewritten by a rule, or asked again.

Both go on where they were cut short: a rewrite that is in the log, and a question that was asked,
are not made twice.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from attar.annotate.accounts import add_account, check_name
from attar.annotate.events import ACCOUNT, add_event
from attar.annotate.loading import study_of
from attar.annotate.refusals import Moved
from attar.annotate.store import Project, next_sequence, state_of
from attar.annotate.tables import Annotation, SentenceRow, Task, User
from attar.annotate.tasks import DONE, MIGRATED, NewTask, ask, settle
from attar.methods.active_segmentation.events import Event, relabelling, revisions
from attar.methods.active_segmentation.labels import Label, answers
from attar.methods.active_segmentation.study import Study, current_labels, resolved

#: annotations in one transaction
CHUNK = 500


@dataclass(frozen=True)
class Applied:
    """What was done: labels that a rule rewrote, sentences that are asked again, and evaluation
    sentences that are."""

    migrated: int
    relabel: int
    evaluation: int


def apply_policy(project: Project) -> Applied:
    """Do what the policies of all changes of guideline ask for and was not done yet.

    The evaluation sentences are always labelled again, unless a rule rewrites their labels: scored
    on the old ones, a model that learns the new guideline seems to stand still.
    """
    with project.read() as session:
        study = study_of(session)
        state = state_of(session)
    texts = {uid: sentence.text for uid, sentence in study.sentences.items()}
    common = {"events": study.events, "texts": texts, "first": study.config.guideline}
    standing = answers(study.labels)
    fresh = revisions(standing, **common)
    for start in range(0, len(fresh), CHUNK):
        _append(project, fresh[start : start + CHUNK])
    wanted = relabelling(standing, **common)
    stale = _stale(study, state.guideline)
    with project.write() as session:
        before = set(session.scalars(select(Task.id)))
        old = [uid for uid in wanted if uid not in study.reserved]
        relabel = [
            NewTask(uid, "relabel", order=place, round=state.guideline)
            for place, uid in enumerate(old)
        ]
        needed = state.settings.evaluation_annotators
        evaluation = [
            NewTask(
                uid,
                "evaluation",
                needed=needed,
                order=place,
                prefill=False,
                round=state.guideline,
            )
            for place, uid in enumerate(stale)
        ]
        now = project.clock()
        asked = [
            len(set(ask(session, tasks, seed=state.seed, now=now)) - before)
            for tasks in (relabel, evaluation)
        ]
    return Applied(len(fresh), *asked)


def ask_reviewers(project: Project) -> int:
    """Ask a reviewer about each sentence on which as many annotators say yes as no somewhere.

    Returns:
        How many questions are new.
    """
    with project.read() as session:
        study = study_of(session)
    tied = {uid: found for uid, found in sorted(resolved(study).items()) if found.ties}
    with project.write() as session:
        state = state_of(session)
        before = set(session.scalars(select(Task.id).where(Task.kind == "adjudicate")))
        tasks = [
            NewTask(
                uid,
                "adjudicate",
                order=place,
                # where single offsets were asked about, nobody has looked at the others
                positions=None if found.decided is None else found.ties,
                prefill=False,
                round=state.guideline,
            )
            for place, (uid, found) in enumerate(tied.items())
        ]
        return len(set(ask(session, tasks, seed=state.seed, now=project.clock())) - before)


def _stale(study: Study, guideline: str) -> list[str]:
    """Labelled evaluation sentences of which no label follows the guideline in force."""
    labelled = {label.uid for label in answers(study.labels)} & study.reserved
    fresh = {label.uid for label in current_labels(study) if label.guideline == guideline}
    return sorted(labelled - fresh)


def _append(project: Project, labels: Sequence[Label]) -> None:
    with project.write() as session:
        now = project.clock()
        rows = {
            row.seq: row
            for row in session.scalars(
                select(Annotation).where(Annotation.seq.in_([label.origin for label in labels]))
            )
        }
        # all tasks before the number of the first annotation, as who answers does
        names = sorted({row.task for row in rows.values() if row.kind == "adjudicate"})
        held = select(Task).where(Task.id.in_(names)).order_by(Task.id)
        ruled = session.scalars(held.with_for_update(key_share=True)).all()
        for label in labels:
            _revise(session, label, old=rows[label.origin], now=now)
        for task in ruled:
            settle(session, task.id)


def _revise(session: Session, label: Label, *, old: Annotation, now: float) -> None:
    """Add the machine revision of an annotation; one that is there stays."""
    # the id follows from what it revises, so it cannot be there twice
    name = str(uuid.uuid5(uuid.UUID(old.root), label.guideline))
    if session.scalar(select(Annotation.id).where(Annotation.id == name)) is not None:
        return
    last = session.scalars(
        select(Annotation).where(Annotation.root == old.root).order_by(Annotation.seq.desc())
    ).first()
    cuts = list(label.cuts)
    decided = None if label.decided is None else list(label.decided)
    session.add(
        Annotation(
            seq=next_sequence(session),
            id=name,
            task=old.task,
            sentence=old.sentence,
            annotator=old.annotator,
            role=old.role,
            root=old.root,
            parent=last.id if last else old.id,
            kind=old.kind,
            status=MIGRATED,
            cuts=cuts,
            decided=decided,
            guideline=label.guideline,
            prefill=None,
            prefill_model=None,
            edits=None,
            active_ms=0,
            note="",
            trace=[],
            digest=hashlib.sha256(json.dumps([name, cuts, decided]).encode()).hexdigest(),
            created=now,
        )
    )
    session.flush()


def import_answers(project: Project, words: Mapping[str, Sequence[int]], *, annotator: str) -> int:
    """Take words as answers of somebody, under the guideline in force: of evaluation sentences for
    the test, of others for the arms that draw them.

    Args:
        project: the project.
        words: uid of a sentence -> offsets before which a word begins; those that are not in the
            corpus are passed over.
        annotator: whose answers they are; a new name becomes an account that is closed.

    Returns:
        How many are new; a sentence that has all the answers it needs gets none.

    Raises:
        ConfigError: the name cannot be that of an account.
    """
    check_name(annotator)
    with project.write() as session:
        if session.get(User, annotator) is None:
            now = project.clock()
            add_account(session, name=annotator, now=now, active=False)
            note = "opened for imported answers"
            event = Event(kind=ACCOUNT, scope=annotator, after="annotator", note=note)
            add_event(session, event, now=now)
    with project.read() as session:
        there = select(SentenceRow.uid, SentenceRow.reserved).where(SentenceRow.removed.is_(None))
        rows = [
            (uid, list(words[uid]), reserved)
            for uid, reserved in session.execute(there.order_by(SentenceRow.uid))
            if uid in words
        ]
    return sum(
        _import_some(project, rows[start : start + CHUNK], annotator=annotator)
        for start in range(0, len(rows), CHUNK)
    )


def _import_some(
    project: Project, rows: Sequence[tuple[str, list[int], bool]], *, annotator: str
) -> int:
    while True:
        try:
            return _import(project, rows, annotator=annotator)
        except Moved:  # once more, under the guideline of now
            continue


def _import(
    project: Project, rows: Sequence[tuple[str, list[int], bool]], *, annotator: str
) -> int:
    new = 0
    with project.write() as session:
        state, now = state_of(session), project.clock()
        tasks = [
            NewTask(uid, "evaluation", needed=state.settings.evaluation_annotators, prefill=False)
            if reserved
            else NewTask(uid, "import")
            for uid, _, reserved in rows
        ]
        names = ask(session, tasks, seed=state.seed, now=now)
        # all tasks before the number of the first annotation, as who answers does
        held = select(Task).where(Task.id.in_(names)).order_by(Task.id)
        session.execute(held.with_for_update(key_share=True))
        for (uid, cuts, _), name in zip(rows, names, strict=True):
            task = session.get_one(Task, name)
            id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {annotator}"))
            there = session.scalar(select(Annotation.id).where(Annotation.id == id)) is not None
            if there or task.state == DONE:
                continue
            new += 1
            session.add(
                Annotation(
                    seq=next_sequence(session, guideline=state.guideline),
                    id=id,
                    task=name,
                    sentence=uid,
                    annotator=annotator,
                    role="annotator",
                    root=id,
                    parent=None,
                    kind=task.kind,
                    status="submitted",
                    cuts=cuts,
                    decided=None,
                    guideline=state.guideline,
                    prefill=None,
                    prefill_model=None,
                    edits=None,
                    active_ms=0,
                    note="imported",
                    trace=[],
                    digest=hashlib.sha256(json.dumps([id, cuts]).encode()).hexdigest(),
                    created=now,
                )
            )
            session.flush()
            settle(session, task.id)
    return new
