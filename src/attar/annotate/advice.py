"""What the monitors say of a project. Advice only: nothing is stopped."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from attar.annotate.loading import labels_of, study_of
from attar.annotate.points import points_of
from attar.annotate.store import Project
from attar.annotate.tables import BatchRow, Job, PickRow, Task
from attar.annotate.words import Words
from attar.data.segments.cuts import Segmented
from attar.methods.active_segmentation import monitors
from attar.methods.active_segmentation.labels import Label, answers, resolve
from attar.methods.active_segmentation.monitors import Advice
from attar.methods.active_segmentation.study import Study, current_labels

#: folders of a corpus, at most, that are told apart as its sources
_SOURCES = 20


@dataclass(frozen=True)
class Told:
    """What a monitor says, in a language; `about`: the arm or annotator, empty for the project."""

    monitor: str
    about: str
    value: float
    level: str
    text: str


def told(project: Project, words: Words | None = None, *, study: Study | None = None) -> list[Told]:
    """What all monitors say that have something to look at.

    Args:
        project: the project.
        words: of a language; None: English.
        study: what the project holds, if it is at hand.
    """
    words = words or Words("en")
    return [
        Told(one.monitor, one.about, one.value, one.level, sentence_of(one, words))
        for one in advice(project, study=study)
    ]


def advice(project: Project, *, study: Study | None = None) -> list[Advice]:
    """All monitors that have something to look at."""
    with project.read() as session:
        study = study or study_of(session)
        points = [point for point in points_of(session) if point.epoch == study.epoch]
        now = study.guidelines[-1]
        controls = answers(labels_of(session, control=True))
        tested = [label for label in controls if label.guideline == now]
        asked = set(session.scalars(select(Task.sentence).where(Task.kind == "control")))
        found = [*_of_models(session), *_near_duplicates(session)]
    labels = answers(study.labels)
    known = [row for row in current_labels(study) if row.uid in asked and row.guideline == now]
    found += [
        monitors.duplicates(sentence.occurrences for sentence in study.sentences.values()),
        *monitors.controls(monitors.control_accuracy(tested, _gold(study, known))),
        *_corrections(study, labels),
    ]
    for arm in study.config.arms:
        line = [point for point in points if point.arm == arm and point.costs.characters > 0]
        paid = [float(point.costs.characters) for point in line]
        ahead = monitors.projection(paid, [point.word_f1 for point in line], arm=arm)
        found += [*([ahead] if ahead else []), *_lengths(study, arm), *_sources(study, arm)]
    return found


def sentence_of(one: Advice, words: Words) -> str:
    """What a monitor says, in a language."""
    return words(f"monitor.{one.monitor}_{one.level}", value=one.value, about=one.about, **one.more)


def _of_models(session: Session) -> list[Advice]:
    """What the training runs noted."""
    done = select(Job.result).where(Job.kind == "train", Job.state == "done").order_by(Job.id)
    noted = [(result or {}).get("monitors", {}) for result in session.scalars(done)]
    unsure, changed = (
        [one[name] for one in noted if one.get(name) is not None]
        for name in ("uncertainty", "changed")
    )
    return [
        *([monitors.uncertainty(unsure)] if unsure else []),
        *([monitors.stability(changed)] if changed else []),
    ]


def _near_duplicates(session: Session) -> list[Advice]:
    """What the last batch of each arm left out."""
    last = select(BatchRow.arm, func.max(BatchRow.number).label("number")).group_by(BatchRow.arm)
    of_it = last.subquery()
    here = (BatchRow.arm == of_it.c.arm) & (BatchRow.number == of_it.c.number)
    picked = (
        select(func.count())
        .where(PickRow.arm == BatchRow.arm, PickRow.batch == BatchRow.number)
        .scalar_subquery()
    )
    rows = select(BatchRow.arm, BatchRow.near_duplicates, picked).join(of_it, here)
    return [
        monitors.near_duplicates(skipped, count, arm=arm)
        for arm, skipped, count in session.execute(rows.order_by(BatchRow.id))
        if skipped is not None
    ]


def _gold(study: Study, labels: Sequence[Label]) -> list[Segmented]:
    """What is known of sentences that were asked as control items, from the other answers under
    the guideline in force."""
    of_each = defaultdict[str, list[Label]](list)
    for label in labels:
        of_each[label.uid].append(label)
    found = []
    for uid, rows in of_each.items():
        if (sentence := study.sentences.get(uid)) is not None:
            known = resolve(rows, length=len(sentence.text), guidelines=study.guidelines)
            found.append(Segmented(sentence.text, known.cuts, known.decided, {"id": uid}))
    return found


def _corrections(study: Study, labels: Sequence[Label]) -> list[Advice]:
    """How much of what was shown the annotators changed, in the sentences of each arm."""
    found = []
    for arm in study.config.arms:
        served = set(study.served(arm))
        rows = [row for row in labels if row.uid in served and row.corrections is not None]
        if rows:
            found.append(Advice("corrections", monitors.correction_rate(rows), about=arm))
    return found


def _lengths(study: Study, arm: str) -> list[Advice]:
    """Whether the last batch of an arm is unlike the corpus in length."""
    corpus = [len(sentence.text) for sentence in study.sentences.values()]
    batch = [len(study.sentences[uid].text) for uid in _last_batch(study, arm)]
    if not batch or len(set(corpus)) < 2:
        return []
    groups = monitors.length_groups(batch, corpus), monitors.length_groups(corpus, corpus)
    return [monitors.unlike(*groups, of="lengths", arm=arm)]


def _sources(study: Study, arm: str) -> list[Advice]:
    """The same of where it is from: the folders of its documents, such as genres."""
    corpus = {uid: one.document.partition("/") for uid, one in study.sentences.items()}
    folders = {uid: name if slash else "" for uid, (name, slash, _) in corpus.items()}
    batch = [folders[uid] for uid in _last_batch(study, arm)]
    if not batch or not 2 <= len({*folders.values()}) <= _SOURCES:
        return []
    return [monitors.unlike(batch, [*folders.values()], of="sources", arm=arm)]


def _last_batch(study: Study, arm: str) -> list[str]:
    last = study.batches(arm) - 1
    return [
        pick.uid
        for pick in study.picks
        if pick.arm == arm and pick.batch == last and pick.uid in study.sentences
    ]
