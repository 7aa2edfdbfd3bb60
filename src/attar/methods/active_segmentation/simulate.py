"""A study replayed with gold labels in place of people, by the functions that a live one calls.

What a replay cannot show is what live studies found to matter: that people differ, tire, learn, and
that the task changes. Errors, time and changes can be put in, but are then as good as the guess.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from attar.data.segments.cuts import Segmented, cuts_of, tokens_of
from attar.errors import DataError
from attar.methods.active_segmentation.annotators import Annotator
from attar.methods.active_segmentation.arms import uid as uid_of
from attar.methods.active_segmentation.drawing import Pick, Sentence
from attar.methods.active_segmentation.events import Event, relabelling
from attar.methods.active_segmentation.labels import Label, answers
from attar.methods.active_segmentation.measuring import measure
from attar.methods.active_segmentation.points import Point
from attar.methods.active_segmentation.rules import Rule
from attar.methods.active_segmentation.segmenter import Segmenter
from attar.methods.active_segmentation.study import (
    UNION,
    Study,
    StudyConfig,
    begin,
    draw,
    fit_arms,
    grown,
    samples,
    test_set,
)


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something that changes while the replayed study runs."""

    batch: int
    """Before the batch of this number is drawn; 0 is the seed."""
    event: Event
    """What is logged, with its policy; its `sequence` is filled in."""
    add: Sequence[Segmented] = ()
    """Sentences that join the corpus."""
    rule: Rule | None = None
    """How the truth changes, of a new guideline."""
    relabel_test: bool = True
    """Whether the test set follows; if not, it goes stale."""


@dataclass(kw_only=True)
class Replay:
    """A replayed study as it stands. `study` is all that a live one would have."""

    study: Study
    gold: dict[str, tuple[int, ...]]
    """The truth by `uid`, under the guideline in force."""
    annotators: Sequence[Annotator] = (Annotator(),)
    prefill: bool = True
    """Whether annotators see the cuts of the model of all labels, or else of their arm."""
    union: bool = True
    """Whether that model is trained."""
    refits: int = 0
    """For the training interval of each point."""
    by: str | None = None
    """Key of the sentences' `meta` by which scores are given apart."""
    meta: dict[str, Mapping[str, object]] = field(default_factory=dict)
    models: dict[str, Segmenter] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        rows: Sequence[Segmented],
        *,
        config: StudyConfig,
        fraction: float = 0.02,
        minimum: int = 1000,
        annotators: Sequence[Annotator] = (Annotator(),),
        prefill: bool = True,
        union: bool = True,
        refits: int = 0,
        by: str | None = None,
    ) -> "Replay":
        """Step 1: a corpus of which all is known, with its reserve labelled.

        Args:
            rows: segmented sentences; of equal texts the first counts.
            config: of the study.
            fraction: see `study.begin`.
            minimum: see `study.begin`.
            annotators: people who take turns.
            prefill: see `Replay`.
            union: see `Replay`.
            refits: see `Replay`.
            by: see `Replay`.

        Raises:
            DataError: no sentence is segmented as a whole.
        """
        known = _by_uid(rows)
        if not known:
            raise DataError(
                "expected sentences that are segmented as a whole, found none; give a file of gold "
                "segmentations"
            )
        study = begin(
            (_sentence(uid, row) for uid, row in known.items()),
            config=config,
            fraction=fraction,
            minimum=minimum,
            snapshot="s1",
        )
        made = cls(
            study=study,
            gold={uid: row.cuts for uid, row in known.items()},
            meta={uid: row.meta for uid, row in known.items()},
            annotators=annotators,
            prefill=prefill,
            union=union,
            refits=refits,
            by=by,
        )
        made.label_test()
        return made

    @property
    def guideline(self) -> str:
        """In force."""
        return self.study.guidelines[-1]

    def label_test(self) -> None:
        """The whole reserve is labelled under the guideline in force."""
        first = self.study.sequence + 1
        labels = [
            Label(
                uid=uid,
                cuts=self.gold[uid],
                guideline=self.guideline,
                annotator="gold",
                sequence=first + place,
                status="adjudicated",
            )
            for place, uid in enumerate(sorted(self.study.reserved))
        ]
        self.study = replace(self.study, labels=(*self.study.labels, *labels))

    def test(self) -> list[Segmented]:
        """The labelled reserve; `meta` as it came."""
        return [
            replace(row, meta={**self.meta[row.meta["id"]], **row.meta})
            for row in test_set(self.study)
        ]

    def happen(self, happening: Happening) -> None:
        """Log an event and do what it says."""
        event = replace(happening.event, sequence=self.study.sequence)
        if event.kind == "guideline.change":
            event = replace(event, before=self.guideline)
        self.study = replace(self.study, events=(*self.study.events, event))
        if happening.add:
            new = _by_uid(happening.add)
            self.gold = {uid: row.cuts for uid, row in new.items()} | self.gold
            self.meta = {uid: row.meta for uid, row in new.items()} | self.meta
            self.study = grown(
                self.study,
                (_sentence(uid, row) for uid, row in new.items()),
                snapshot=event.after or self.study.snapshot,
            )
        if happening.rule is not None:
            self.gold = {
                uid: cuts_of(happening.rule.rewrite(_tokens(self.study, uid, cuts)))
                for uid, cuts in self.gold.items()
            }
        if happening.relabel_test and (happening.rule is not None or happening.add):
            self.label_test()

    def batch(self, arms: Sequence[str] | None = None) -> dict[str, int]:
        """Steps 2 to 4 for some arms, or all: draw a batch of each, and label what is new.

        Returns:
            What each arm spent, in the unit of its budget.
        """
        self._relabel()
        spent = {}
        before = self.study  # all arms draw before anybody answers
        for arm in self.study.config.arms if arms is None else arms:
            drawn = draw(before, arm, models=self.models)
            self.study = replace(self.study, picks=(*self.study.picks, *drawn.picks))
            said = [f"{arm}: {warning}" for warning in drawn.warnings]
            self.warnings += [line for line in said if line not in self.warnings]
            spent[arm] = drawn.spent if drawn.picks else 0
        self._answer(self.study.picks[len(before.picks) :])
        return spent

    def train(
        self, arms: Sequence[str] | None = None, *, test: Sequence[Segmented] | None = None
    ) -> list[Point]:
        """Steps 5 to 7: fit the models, and measure them; returns the new points.

        Args:
            arms: those that have learned something, and the union with them; None: all.
            test: other test sentences than the labelled reserve.
        """
        rows = samples(self.study)
        names = [*(arms or self.study.config.arms), *([UNION] if self.union else [])]
        fitted = fit_arms(self.study, rows=rows, only=names)
        self.models |= fitted
        found = measure(
            self.study,
            fitted,
            test=self.test() if test is None else test,
            rows=rows,
            refits=self.refits,
            by=self.by,
        )
        self.points += found
        return found

    def _relabel(self) -> None:
        """Whole answers to what a policy asks for again, which come before anything new."""
        wanted = relabelling(
            answers(self.study.labels),
            events=self.study.events,
            texts={uid: sentence.text for uid, sentence in self.study.sentences.items()},
            first=self.study.config.guideline,
        )
        picks = {pick.uid: pick for pick in reversed(self.study.picks)}
        self._answer([replace(picks[uid], positions=None) for uid in wanted if uid in picks])

    def _answer(self, picks: Sequence[Pick]) -> None:
        """Step 4: answers to what nobody has answered under the guideline in force."""
        said = {
            (label.uid, offset)
            for label in self.study.labels
            if label.guideline == self.guideline
            for offset in (label.decided if label.decided is not None else (0,))
        }
        shown = self._shown(picks)
        labels, sequence = [], self.study.sequence
        for pick in picks:
            asked = (0,) if pick.positions is None else pick.positions
            new = [at for at in asked if not {(pick.uid, at), (pick.uid, 0)} & said]
            if not new:
                continue
            said.update((pick.uid, at) for at in new)
            sequence += 1
            annotator = self.annotators[sequence % len(self.annotators)]
            labels.append(
                annotator.label(
                    pick.uid,
                    self.study.sentences[pick.uid].text,
                    gold=self.gold[pick.uid],
                    prefill=shown.get((pick.arm, pick.uid)),
                    positions=None if pick.positions is None else new,
                    guideline=self.guideline,
                    sequence=sequence,
                    seed=self.study.config.seed,
                )
            )
        self.study = replace(self.study, labels=(*self.study.labels, *labels))

    def _shown(self, picks: Sequence[Pick]) -> dict[tuple[str, str], tuple[int, ...]]:
        """What the annotators see at first, by arm and sentence."""
        found: dict[tuple[str, str], tuple[int, ...]] = {}
        for arm in dict.fromkeys(pick.arm for pick in picks) if self.prefill else ():
            model = self.models.get(UNION) or self.models.get(arm)
            uids = [pick.uid for pick in picks if pick.arm == arm]
            if model is not None:
                texts = [self.study.sentences[uid].text for uid in uids]
                for uid, cuts in zip(uids, model.segment(texts), strict=True):
                    found[arm, uid] = tuple(cuts)
        return found


def replay(
    made: Replay,
    *,
    budgets: Mapping[str, int],
    happenings: Sequence[Happening] = (),
    most: int = 1000,
    report: Callable[[Replay, list[Point]], None] | None = None,
) -> Replay:
    """The whole study: seed, and batches until each arm has spent its budget or the corpus is used
    up.

    Args:
        made: of `Replay.of`.
        budgets: of each arm after the seed, in its own unit.
        happenings: what changes, by batch.
        most: batches, at most.
        report: called after each batch with the new points.
    """
    left = dict(budgets)
    for batch in range(most):
        for happening in happenings:
            if happening.batch == batch:
                made.happen(happening)
        arms = [arm for arm, budget in left.items() if budget > 0] if batch else list(left)
        if not arms:
            break
        spent = made.batch(arms)
        if batch or not made.study.config.seed_sentences:
            for arm in arms:
                left[arm] = left[arm] - spent[arm] if spent[arm] else 0
            if not any(spent.values()):
                break
        points = made.train(arms)
        if report:
            report(made, points)
    return made


def _by_uid(rows: Sequence[Segmented]) -> dict[str, Segmented]:
    found: dict[str, Segmented] = {}
    for row in rows:
        if row.decided is None and row.text:
            found.setdefault(uid_of(row.text), row)
    return found


def _sentence(uid: str, row: Segmented) -> Sentence:
    document = str(row.meta.get("document", ""))
    return Sentence(uid, row.text, document, str(row.meta.get("snapshot", "")))


def _tokens(study: Study, uid: str, cuts: Sequence[int]) -> list[str]:
    return list(tokens_of(study.sentences[uid].text, cuts))
