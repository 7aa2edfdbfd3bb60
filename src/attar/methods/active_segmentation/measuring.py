"""Step 7 of the protocol: what the models of a study score, over what their labels cost."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from attar.data.segments.cuts import Segmented
from attar.data.segments.legal import legal
from attar.evaluation import segmentation
from attar.methods.active_segmentation.arms import keys
from attar.methods.active_segmentation.arms import uid as uid_of
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.labels import Label, answers
from attar.methods.active_segmentation.points import Costs, Point
from attar.methods.active_segmentation.rules import Rule
from attar.methods.active_segmentation.segmenter import Segmenter, fit
from attar.methods.active_segmentation.study import (
    UNION,
    Study,
    asked,
    fit_arms,
    samples,
    segmenter_config,
)

METRICS: Mapping[str, Callable[[segmentation.Counts], float]] = MappingProxyType(
    {
        "word_f1": segmentation.word_f1,
        "boundary_f1": segmentation.boundary_f1,
        "boundary_precision": segmentation.boundary_precision,
        "boundary_recall": segmentation.boundary_recall,
        "exact_match": segmentation.exact_match,
        "oov_recall": segmentation.oov_recall,
    }
)


def costs(study: Study) -> dict[str, Costs]:
    """What the labels of each arm cost so far, and those of their union; a sentence that two arms
    drew is charged to both, and once to the union.

    All work counts, also where a policy no longer uses it. Where several people labelled a
    sentence, their mean counts, so that overlap makes no arm dearer; work under another guideline
    is added. Characters are those of the sentences that were shown; words are those of whole
    answers, and the cuts that were found at single positions.
    """
    of_each: dict[str, list[Label]] = defaultdict(list)
    for label in answers(study.labels):
        if label.status == "submitted" and label.uid in study.sentences:
            of_each[label.uid].append(label)
    wanted = {arm: asked(study, arm) for arm in study.config.arms}
    found = {
        arm: _total(
            _work(study.sentences[uid].text, of_each.get(uid, ()), positions)
            for uid, positions in of_arm.items()
        )
        for arm, of_arm in wanted.items()
    }
    together = dict.fromkeys(uid for of_arm in wanted.values() for uid in of_arm)
    whole = {uid for a in wanted.values() for uid, positions in a.items() if positions is None}
    found[UNION] = _total(
        _work(
            study.sentences[uid].text,
            of_each.get(uid, ()),
            None if uid in whole else frozenset(range(len(study.sentences[uid].text))),
        )
        for uid in together
    )
    return found


def measure(
    study: Study,
    models: Mapping[str, Segmenter],
    *,
    test: Sequence[Segmented],
    rows: Mapping[str, Sequence[Segmented]] | None = None,
    refits: int = 0,
    by: str | None = None,
    config: SegmenterConfig | None = None,
) -> list[Point]:
    """A point of each model's learning curve, with the scores of `METRICS`, word F1 without spaces,
    and after a change of guideline by a rule the recall of the words that the rule is about.

    Args:
        study: so far.
        models: of `fit_arms`.
        test: labelled sentences that no arm was served, as `study.test_set` gives them; the
            `document` in their `meta`, where there is one, says which belong together.
        rows: the study's `samples`, if they are at hand.
        refits: models fitted to resamples of each arm's sentences, for the training interval; 0:
            none. Five to eight give an idea of it, and cost as many trainings.
        by: a key of the test sentences' `meta`, such as `genre`, by which scores are given apart.
        config: of the segmenter, where it is not the study's.
    """
    rows = samples(study) if rows is None else rows
    paid = costs(study)
    options = segmenter_config(study) if config is None else config
    rule = next((e.rule for e in reversed(study.events) if e.rule is not None), None)
    uids = tuple(uid_of(row.text) for row in test)
    documents = tuple(str(row.meta.get("document") or "") for row in test)
    points = []
    for name, model in models.items():
        known = frozenset(token for row in rows[name] for token in row.tokens)
        predicted = model.segment([row.text for row in test])
        pairs = list(zip(test, predicted, strict=True))
        counts = [segmentation.count(row, cuts, known=known) for row, cuts in pairs]
        dense = [segmentation.count(row, cuts, whitespace=False) for row, cuts in pairs]
        scores = _scores(counts)
        scores["word_f1_without_spaces"] = segmentation.word_f1(segmentation.total(dense))
        if rule is not None:
            scores["changed_words_recall"] = changed_words_recall(test, predicted, rule=rule)
        groups = [str(row.meta.get(by, "")) for row in test] if by else []
        for value in sorted(set(groups)):
            part = [one for one, group in zip(counts, groups, strict=True) if group == value]
            scores[f"word_f1[{value}]"] = segmentation.word_f1(segmentation.total(part))
        points.append(
            Point(
                arm=name,
                costs=paid[name],
                scores=scores,
                epoch=study.epoch,
                batch=max((pick.batch for pick in study.picks), default=0),
                counts=np.array([(c.tp, c.predicted, c.gold) for c in counts], float),
                documents=documents if any(documents) else (),
                test=uids,
                refits=refitted(rows[name], test=test, config=options, count=refits)
                if name != UNION
                else (),
            )
        )
    return points


def changed_words_recall(
    test: Sequence[Segmented], predicted: Sequence[Sequence[int]], *, rule: Rule
) -> float:
    """Share of the words found among those that a change of guideline is about: words with an
    offset, inside or at an end, that its rule touches. 0 where there is none.
    """
    found = wanted = 0
    for row, cuts in zip(test, predicted, strict=True):
        touched = rule.touched(row.text)
        spans = {s for s in _spans(row.cuts, len(row.text)) if touched & {*range(s[0], s[1] + 1)}}
        found += len(spans & set(_spans(cuts, len(row.text))))
        wanted += len(spans)
    return found / wanted if wanted else 0.0


def _spans(cuts: Sequence[int], length: int) -> list[tuple[int, int]]:
    """Where words begin and end."""
    return list(pairwise([0, *cuts, length]))


def refitted(
    rows: Sequence[Segmented], *, test: Sequence[Segmented], config: SegmenterConfig, count: int
) -> tuple[float, ...]:
    """Word F1 of models that are fitted to resamples of labelled sentences.

    Each sentence counts Poisson(1) times, which is the bootstrap for samples that grow (Oza &
    Russell 2001). The number depends on the sentence and on the resample alone, so that a sample
    and its continuation, and two arms that share sentences, are resampled alike.
    """
    found = []
    for number in range(count):
        weights = poisson([row.meta["id"] for row in rows], salt=f"resample {number}")
        kept = [(row, weight) for row, weight in zip(rows, weights, strict=True) if weight]
        if kept:
            model = fit([row for row, _ in kept], config=config, weights=[w for _, w in kept])
            predicted = model.segment([row.text for row in test])
            counts = map(segmentation.count, test, predicted)
            found.append(segmentation.word_f1(segmentation.total(counts)))
    return tuple(found)


def poisson(uids: Sequence[str], *, salt: str) -> list[float]:
    """A draw from Poisson(1) for each sentence, from its key."""
    levels = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 20)]))
    return np.searchsorted(levels, keys(uids, salt), side="right").astype(float).tolist()


def history(
    study: Study,
    *,
    test: Sequence[Segmented],
    refits: int = 0,
    config: SegmenterConfig | None = None,
) -> list[Point]:
    """Both arms from their first batch on, trained and scored anew with the labels, policies and
    test set of today: what a new epoch asks for, so that its curves have a past.
    """
    points = []
    for batch in sorted({pick.batch for pick in study.picks}):
        past = study.upto(batch)
        rows = samples(past)
        models = fit_arms(past, rows=rows, config=config)
        points += measure(past, models, test=test, rows=rows, refits=refits, config=config)
    return points


def transfer_check(
    study: Study, config: SegmenterConfig, *, test: Sequence[Segmented], refits: int = 0
) -> list[Point]:
    """What another kind of model learns from each arm. A sample that one model chose need not suit
    its successor (Lowell et al. 2019, arXiv 1807.04801): look before you replace it.
    """
    rows = samples(study)
    models = fit_arms(study, rows=rows, config=config)
    return measure(study, models, test=test, rows=rows, refits=refits, config=config)


def _scores(counts: Sequence[segmentation.Counts]) -> dict[str, float]:
    """By name."""
    all_of_them = segmentation.total(counts)
    return {name: rate(all_of_them) for name, rate in METRICS.items()}


def _work(text: str, labels: Sequence[Label], positions: frozenset[int] | None) -> Costs:
    """What the answers to what was asked of one sentence cost.

    An answer to the whole sentence that another arm asked for answers single positions, too; then
    their share of its time is charged.
    """
    by_guideline: dict[str, dict[str, list[Label]]] = defaultdict(lambda: defaultdict(list))
    for label in labels:
        if positions is not None or label.decided is None:
            by_guideline[label.guideline][label.annotator].append(label)
    every = len(legal(text))
    found: list[Costs] = []
    for by_annotator in by_guideline.values():
        of_each = [_answered(of_one, positions, every) for of_one in by_annotator.values()]
        decisions, words, corrections, seconds = np.mean(of_each, axis=0).tolist()
        found.append(Costs(1, len(text), decisions, words, corrections, seconds))
    return _total(found)


def _answered(
    labels: Sequence[Label], positions: frozenset[int] | None, every: int
) -> tuple[float, float, float, float]:
    """Decisions, words, corrections and seconds of one annotator's answers under one guideline."""
    if positions is None:
        last = labels[-1]
        words = len(last.cuts) + 1
        seconds = sum(label.seconds or 0 for label in labels)
        return every, words, sum(label.corrections or 0 for label in labels), seconds
    decided, cuts, corrections, seconds = set[int](), set[int](), 0.0, 0.0
    for label in labels:
        new = positions if label.decided is None else positions & {*label.decided}
        whole = every if label.decided is None else len(label.decided)
        share = min(len(new) / max(whole, 1), 1.0)
        decided |= new
        cuts |= new & {*label.cuts}
        corrections += share * (label.corrections or 0)
        seconds += share * (label.seconds or 0)
    return min(len(decided), every), len(cuts), corrections, seconds


def _total(parts: Iterable[Costs]) -> Costs:
    """Their sum."""
    rows = [astuple(part) for part in parts]
    return Costs(*np.sum(rows, axis=0).tolist()) if rows else Costs()
