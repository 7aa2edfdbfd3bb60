"""The protocol: two samples of one corpus, annotated at the same time, one drawn at random and one
by what a model is unsure of, through every change of guideline, corpus and model.

    1. keep    a reserve for evaluation, by key; no arm is ever served from it       `reserved`
    2. seed    the first sentences of the random order belong to every arm           `draw`
    3. draw    the next batch of each arm                                            `draw`
    4. label   people answer; a sentence that two arms drew is answered once
    5. resolve the answers of a sentence, under the policies of the events           `samples`
    6. fit     a model on each arm's sample, and one on their union                  `fit_arms`
    7. measure all of them on the reserve, over what their labels cost               `measure`
    8. go on   with 3, with the new models

The live service and the simulation call these functions and no others. A `Study` is a plain value:
the service reads it from its store, the simulation keeps it.

Kagy et al.: The Practical Challenges of Active Learning, 2019, arXiv 1907.00038.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from attar.data.segments.cuts import Segmented
from attar.errors import ConfigError, DataError, check_types, require
from attar.methods.active_segmentation import arms as keys_of
from attar.methods.active_segmentation import events as log
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import (
    Draw,
    DrawConfig,
    Pick,
    ScoreTable,
    Sentence,
    draw_active,
    draw_random,
)
from attar.methods.active_segmentation.events import Event
from attar.methods.active_segmentation.labels import Label, Resolved, answers, resolve
from attar.methods.active_segmentation.picks import POSITIONS
from attar.methods.active_segmentation.segmenter import Segmenter, fit

#: the name of the model of all arms' labels together
UNION = "union"
ARMS: Mapping[str, DrawConfig] = MappingProxyType(
    {"random": DrawConfig(strategy="random"), "active": DrawConfig(strategy="mnlp")}
)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What a study compares, and with which segmenter.

    Raises:
        ConfigError: an arm has the name of the union, there is none, or an arm asks about single
            boundaries and the segmenter cannot learn from them.
    """

    arms: Mapping[str, DrawConfig] = field(default_factory=lambda: ARMS)
    """Name -> how it draws. The strategy `random` takes the smallest keys; see `arms`."""
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    guideline: str = "g1"
    """The version at the beginning; events name the later ones."""
    seed_sentences: int = 100
    """The first of the random order, which belong to every arm."""
    seed: int = 0
    """Of all chance that does not come from keys."""

    def __post_init__(self) -> None:
        check_types(self)
        fine = bool(self.arms) and UNION not in self.arms
        require(fine, "arms", list(self.arms), f"one arm or more, none of them named {UNION}")
        require(self.seed_sentences >= 0, "seed_sentences", self.seed_sentences, "0 or more")
        asking = [arm for arm, options in self.arms.items() if options.strategy in POSITIONS]
        if asking and self.segmenter.solver == "crfsuite":
            strategy = self.arms[asking[0]].strategy
            raise ConfigError(
                f"expected the solver own for the strategy {strategy}, which asks about single "
                "boundaries, as crfsuite learns from whole sentences alone; change one of them"
            )


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that happened so far."""

    config: StudyConfig = field(default_factory=StudyConfig)
    sentences: Mapping[str, Sentence] = field(default_factory=dict)
    """The corpus as it is now, by `uid`, the reserve with it."""
    reserved: frozenset[str] = frozenset()
    """The sentences that are kept for evaluation."""
    threshold: float = 0.0
    """The key below which a sentence that joins the corpus is reserved, too."""
    picks: tuple[Pick, ...] = ()
    labels: tuple[Label, ...] = ()
    events: tuple[Event, ...] = ()
    snapshot: str = ""
    """The state of the corpus."""

    @property
    def guidelines(self) -> list[str]:
        """All versions, oldest first."""
        return log.guidelines(self.events, first=self.config.guideline)

    @property
    def epoch(self) -> int:
        """The number of the epoch that a label made now would fall into."""
        return log.epochs(self.events)[-1].number

    @property
    def sequence(self) -> int:
        """Of the last label."""
        return max((label.sequence for label in self.labels), default=0)

    def served(self, arm: str) -> list[str]:
        """The sentences of an arm, in the order in which it drew them."""
        return list(dict.fromkeys(pick.uid for pick in self.picks if pick.arm == arm))

    def batches(self, arm: str) -> int:
        """How many batches an arm has drawn."""
        return max((pick.batch + 1 for pick in self.picks if pick.arm == arm), default=0)

    def upto(self, batch: int) -> "Study":
        """The study as if nothing had been drawn after a batch. Labels and events stay as they are
        now, so that its history can be scored under the guideline of today.
        """
        return replace(self, picks=tuple(pick for pick in self.picks if pick.batch <= batch))


def begin(
    sentences: Iterable[Sentence],
    *,
    config: StudyConfig,
    fraction: float = 0.02,
    minimum: int = 1000,
    snapshot: str = "",
) -> Study:
    """Step 1: a study of a corpus, with its reserve.

    Args:
        sentences: of the corpus, each text once.
        config: what is compared.
        fraction: of the corpus that is reserved.
        minimum: sentences that are reserved at least, see `arms.reserve_threshold`.
        snapshot: name of the state of the corpus.
    """
    rows = list(sentences)
    uids = [sentence.uid for sentence in rows]
    threshold = keys_of.reserve_threshold(uids, fraction=fraction, minimum=minimum)
    return grown(Study(config=config, threshold=threshold), rows, snapshot=snapshot)


def grown(study: Study, sentences: Iterable[Sentence], *, snapshot: str) -> Study:
    """A study with more text. What is there already stays as it is."""
    new = {sentence.uid: sentence for sentence in sentences if sentence.uid not in study.sentences}
    kept = keys_of.reserve(list(new), threshold=study.threshold)
    return replace(
        study,
        sentences={**study.sentences, **new},
        reserved=study.reserved | kept,
        snapshot=snapshot,
    )


def draw(
    study: Study,
    arm: str,
    *,
    models: Mapping[str, Segmenter],
    table: ScoreTable | None = None,
    model: str = "",
) -> Draw:
    """Steps 2 and 3: the next batch of an arm.

    Args:
        study: so far.
        arm: its name.
        models: of the last `fit_arms`; the scorer `own` takes the arm's, `union` the union's.
        table: scores of the pool, if there are any already.
        model: the model's name, for the record.

    Raises:
        ConfigError: no such arm.
    """
    require(arm in study.config.arms, "arm", arm, f"one of {', '.join(study.config.arms)}")
    config = study.config.arms[arm]
    pool = list(study.sentences.values())
    batch, drawn = study.batches(arm), frozenset(study.served(arm))
    common = {"reserved": study.reserved, "batch": batch, "arm": arm, "snapshot": study.snapshot}
    if batch == 0 and study.config.seed_sentences:
        return draw_random(pool, drawn=drawn, config=_for_seed(study, config), **common)
    if config.strategy == "random":
        return draw_random(pool, drawn=drawn, config=config, **common)
    return draw_active(
        pool,
        table=table,
        segmenter=models.get(arm if config.scorer == "own" else UNION),
        model=model,
        drawn=drawn,
        labelled=frozenset(pick.uid for pick in study.picks),
        asked={uid: at for uid, at in asked(study, arm).items() if at is not None},
        config=config,
        seed=study.config.seed + batch,
        **common,
    )


def ranked_by(config: StudyConfig) -> tuple[DrawConfig, str] | None:
    """How the arm draws that a model ranks, and the name of that model; None: there is none."""
    found = next((item for item in config.arms.items() if item[1].strategy != "random"), None)
    if found is None:
        return None
    arm, options = found
    return options, arm if options.scorer == "own" else UNION


def asked(study: Study, arm: str) -> dict[str, frozenset[int] | None]:
    """The offsets of each sentence that an arm asked about, in the order of its picks; None: all of
    them. Sentences that left the corpus are not among them.
    """
    found: dict[str, frozenset[int] | None] = {}
    for pick in study.picks:
        if pick.arm == arm and pick.uid in study.sentences:
            before = found.get(pick.uid, frozenset())
            if pick.positions is None or before is None:
                found[pick.uid] = None
            else:
                found[pick.uid] = before | {*pick.positions}
    return found


def current_labels(study: Study) -> list[Label]:
    """The answers that stand, as the policies of the events leave them."""
    return log.under_events(
        answers(study.labels),
        events=study.events,
        texts=_texts(study),
        first=study.config.guideline,
    )


def resolved(study: Study) -> dict[str, Resolved]:
    """Step 5: what the answers to each sentence say together, by uid; see `labels.resolve`."""
    by_uid: dict[str, list[Label]] = defaultdict(list)
    for label in current_labels(study):
        by_uid[label.uid].append(label)
    order = study.guidelines
    return {
        uid: resolve(labels, length=len(study.sentences[uid].text), guidelines=order)
        for uid, labels in by_uid.items()
    }


def samples(study: Study) -> dict[str, list[Segmented]]:
    """Step 5 for each arm, and for their union under `UNION`: what its model learns from.

    A sentence that an arm asked for as a whole counts once it is labelled as a whole, one of which
    it asked positions with these alone: an arm never learns from what another one chose to ask.
    """
    said = resolved(study)
    found = {}
    for arm in study.config.arms:
        wanted = asked(study, arm).items()
        rows = [
            _row(study, uid, found=said[uid], positions=positions)
            for uid, positions in wanted
            if uid in said
        ]
        found[arm] = [row for row in rows if row is not None]
    everything = dict.fromkeys(pick.uid for pick in study.picks)
    found[UNION] = [
        Segmented(
            study.sentences[uid].text, of_it.cuts, of_it.decided, _meta(study, uid, found=of_it)
        )
        for uid in everything
        if (of_it := said.get(uid))
    ]
    return found


def fit_arms(
    study: Study,
    *,
    rows: Mapping[str, Sequence[Segmented]] | None = None,
    config: SegmenterConfig | None = None,
    only: Iterable[str] | None = None,
) -> dict[str, Segmenter]:
    """Step 6: a model of each arm's sample, and of the union; an arm without labels has none.

    Args:
        study: so far.
        rows: its `samples`, if they are at hand.
        config: of another segmenter than the study's, as the transfer check wants.
        only: names of the models to fit; None: all.
    """
    rows = samples(study) if rows is None else rows
    names = list(rows) if only is None else list(only)
    options = segmenter_config(study) if config is None else config
    return {name: fit(rows[name], config=options) for name in names if rows[name]}


def segmenter_config(study: Study) -> SegmenterConfig:
    """The study's options; after a change with the policy `tag`, with guidelines told apart."""
    tagged = any(e.kind == "guideline.change" and e.policy == "tag" for e in study.events)
    options = study.config.segmenter
    return replace(options, tag=study.guidelines[-1]) if tagged else options


def test_set(study: Study) -> list[Segmented]:
    """The labelled sentences of the reserve. `meta` has the guideline of each, which tells stale
    ones: until they are relabelled they measure yesterday's task; and its document.
    """
    return [
        Segmented(study.sentences[uid].text, found.cuts, None, _meta(study, uid, found=found))
        for uid, found in resolved(study).items()
        if uid in study.reserved and found.decided is None
    ]


test_set.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def _for_seed(study: Study, config: DrawConfig) -> DrawConfig:
    """Options that draw as many sentences as the seed has."""
    fitting = [
        uid
        for uid, sentence in study.sentences.items()
        if uid not in study.reserved and config.shortest <= len(sentence.text) <= config.longest
    ]
    first = keys_of.random_order(fitting, salt=config.salt)[: study.config.seed_sentences]
    characters = sum(len(study.sentences[uid].text) for uid in first)
    if not characters:
        raise DataError(
            f"expected sentences of {config.shortest} to {config.longest} characters outside the "
            "reserve, found none; import text first"
        )
    return replace(
        config, strategy="random", unit="characters", budget=characters, strata=1, epsilon=0.0
    )


def _row(
    study: Study, uid: str, *, found: Resolved, positions: frozenset[int] | None
) -> Segmented | None:
    """What an arm learns from a sentence; None: nothing yet."""
    text, meta = study.sentences[uid].text, _meta(study, uid, found=found)
    if positions is None:
        return Segmented(text, found.cuts, None, meta) if found.decided is None else None
    known = positions if found.decided is None else positions & {*found.decided}
    if not known:
        return None
    cuts = tuple(cut for cut in found.cuts if cut in known)
    return Segmented(text, cuts, tuple(sorted(known)), meta)


def _meta(study: Study, uid: str, *, found: Resolved) -> dict[str, str]:
    document = study.sentences[uid].document
    return {"id": uid, "guideline": found.guideline, "document": document}


def _texts(study: Study) -> dict[str, str]:
    return {uid: sentence.text for uid, sentence in study.sentences.items()}
