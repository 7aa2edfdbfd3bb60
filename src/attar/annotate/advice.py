"""What the monitors say of a project. Advice only: nothing is stopped."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from attar.annotate.loading import study_of
from attar.annotate.points import points_of
from attar.annotate.store import Project
from attar.annotate.tables import Annotation, Task
from attar.annotate.tasks import LABELS
from attar.data.segments.cuts import Segmented
from attar.methods.active_segmentation import monitors
from attar.methods.active_segmentation.labels import Label, answers, resolve
from attar.methods.active_segmentation.monitors import Advice
from attar.methods.active_segmentation.study import Study


def advice(project: Project) -> list[Advice]:
    """All monitors that have something to look at."""
    with project.read() as session:
        study = study_of(session)
        points = [point for point in points_of(session) if point.epoch == study.epoch]
        asked = set(session.scalars(select(Task.sentence).where(Task.kind == "control")))
        tests = _tests(session)
    labels = answers(study.labels)
    tested = [label for label in labels if label.sequence in tests]
    known = [label for label in labels if label.uid in asked and label.sequence not in tests]
    accuracy = monitors.control_accuracy(tested, _gold(study, known))
    found = [*monitors.controls(accuracy), *_corrections(study, labels)]
    for arm in study.config.arms:
        line = [point for point in points if point.arm == arm and point.costs.characters > 0]
        paid = [float(point.costs.characters) for point in line]
        told = monitors.projection(paid, [point.word_f1 for point in line], arm=arm)
        found += [told] if told else []
        found += _lengths(study, arm)
    return found


def _tests(session: Session) -> set[int]:
    """The answers to control items."""
    wanted = select(Annotation.seq).where(
        Annotation.kind == "control", Annotation.status.in_(LABELS)
    )
    return set(session.scalars(wanted))


def _gold(study: Study, labels: Sequence[Label]) -> list[Segmented]:
    """What is known of sentences that were asked as control items, from the other answers."""
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
            rate = monitors.correction_rate(rows)
            text = f"annotators changed {rate:.1%} of what they judged in the arm {arm}"
            found.append(Advice(f"corrections, {arm}", rate, "fine", text))
    return found


def _lengths(study: Study, arm: str) -> list[Advice]:
    """Whether the last batch of an arm is unlike the corpus in length."""
    corpus = [len(sentence.text) for sentence in study.sentences.values()]
    last = study.batches(arm) - 1
    batch = [
        len(study.sentences[pick.uid].text)
        for pick in study.picks
        if pick.arm == arm and pick.batch == last and pick.uid in study.sentences
    ]
    if not batch or len(set(corpus)) < 2:
        return []
    groups = monitors.length_groups(batch, corpus), monitors.length_groups(corpus, corpus)
    return [monitors.unlike(*groups, of=f"length (arm {arm})")]
