"""What is drawn for labelling: sentences, how they are to be drawn, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from attar.errors import ConfigError, check_types, did_you_mean, require
from attar.methods.active_segmentation.arms import RANDOM
from attar.methods.active_segmentation.beliefs import Beliefs
from attar.methods.active_segmentation.scores import SCORES, SIGNED

#: strategies that build a batch as a whole, out of a score or a segmenter's beliefs
BATCHES = ("badge", "coreset", "density", "stochastic", "random")
#: strategies that ask about positions in place of sentences
POSITIONS = ("boundaries", "random_boundaries")
STRATEGIES = (*SCORES, *BATCHES, *POSITIONS)


@dataclass(frozen=True)
class Sentence:
    """A distinct text of a corpus."""

    uid: str
    """`arms.uid` of the text."""
    text: str
    document: str = ""
    """Where it is from; empty where nothing is known."""
    snapshot: str = ""
    """State of the corpus in which it was first seen."""
    occurrences: int = 1
    """Lines of the corpus that read so."""


@dataclass(frozen=True)
class Pick:
    """A sentence that was drawn for an arm, with all that a later analysis needs."""

    uid: str
    arm: str
    batch: int
    rank: int
    """Place in the batch, from 0: the order in which to ask."""
    score: float | None
    """Of the strategy, at the time; none where nothing was scored."""
    strategy: str
    """What picked this sentence: `random` for the share of chance in an active batch, and where a
    ranking was missing."""
    model: str | None
    """Whose scores these are."""
    snapshot: str
    """State of the corpus at the time."""
    pool_size: int
    """Sentences that could have been drawn."""
    probability: float | None
    """Of being drawn, where the strategy leaves it to chance: for `random` to be in the arm by
    the end of this batch, for `stochastic` to be in this batch."""
    positions: tuple[int, ...] | None = None
    """Offsets to decide; none for the whole sentence."""


@dataclass(frozen=True)
class Draw:
    """A batch, and what the person who runs the project should know of it."""

    picks: tuple[Pick, ...]
    spent: int
    """Characters or decisions of the batch, in the unit of the budget."""
    warnings: tuple[str, ...] = ()
    """Sentences to show: that a ranking was missing or too old, or the pool was used up."""
    near_duplicates: int | None = None
    """Sentences skipped because another one reads almost the same; None: nobody looked for any."""


@dataclass(frozen=True)
class ScoreTable:
    """What a model thought of a pool: the ranking in force until the next model is trained."""

    strategy: str
    """Score or strategy that the values are of."""
    model: str
    """Name of the model."""
    values: Mapping[str, float]
    """uid -> score, higher = ask sooner."""
    age: int = 0
    """Annotations submitted since."""
    beliefs: Mapping[str, Beliefs] = field(default_factory=dict)
    """Of the sentences that the strategy may need them for; whatever is missing is computed."""
    uncertainty: float | None = None
    """`monitors.mean_uncertainty` of the pool; None: not measured."""


@dataclass(frozen=True)
class DrawConfig:
    """How batches are drawn. What says nothing about arms holds for the active arm only."""

    strategy: str = "mnlp"
    """One of `SCORES`, `BATCHES` or `POSITIONS`."""
    base: str = "mnlp"
    """Score that `density` and `stochastic` weigh, and by which `badge` and `coreset` choose their
    candidates."""
    beta: float = 1.0
    """Exponent: of the density for `density`, of the score for `stochastic`."""
    unit: Literal["characters", "decisions"] = "characters"
    """What the budget counts, in both arms; a decision is a legal position."""
    budget: int = 6000
    """Of a batch, in either arm. The sentence that crosses it is drawn if at least half fits."""
    strata: int = 1
    """Groups of equal size by length, each with its share of the budget; 1: lengths fall as the
    strategy likes."""
    near_duplicates: float | None = 0.8
    """Skip a sentence whose character 5-grams have at least this Jaccard similarity with those of
    another that is labelled or picked; none: keep them."""
    epsilon: float = 0.0
    """Share of the budget that is spent on random sentences."""
    per_document: int | None = None
    """Sentences of one document in a batch, at most; none: as many as come."""
    shortest: int = 1
    """Characters of a sentence, at least, in both arms."""
    longest: int = 300
    """Characters of a sentence, at most, in both arms."""
    scorer: Literal["own", "union"] = "own"
    """`own`: the active arm's model ranks, and near duplicates are those of the active arm;
    `union`: the model of all labels ranks, and the arms are no longer independent."""
    members: int | None = None
    """Dropout passes or bagged models for `bald` and `vote_entropy`; none: 10 for a network, 5 for
    any other."""
    prefilter: int = 10_000
    """Candidates, by score, that `badge`, `coreset` and `boundaries` look at."""
    stale_after: int | None = None
    """Annotations after which a ranking is too old to be used; none: it is never."""
    per_sentence: int = 3
    """Positions of a sentence that one batch asks about, at most."""
    apart: int = 3
    """Legal positions from one such position to the next, at least."""
    per_window: int = 2
    """Positions with the same five characters around them in one batch, at most."""
    salt: str = RANDOM
    """Of the random order, in both arms; replays with another salt draw another random arm."""

    def __post_init__(self) -> None:
        """Raises ConfigError: a value is out of range, or two do not go together."""
        check_types(self)
        if self.strategy not in STRATEGIES:
            raise ConfigError(
                f"strategy must be one of {', '.join(STRATEGIES)}; found {self.strategy!r}"
                f"{did_you_mean(self.strategy, STRATEGIES)}"
            )
        require(self.base in SCORES, "base", self.base, f"one of {', '.join(SCORES)}")
        require(self.budget >= 1, "budget", self.budget, f"at least 1 of {self.unit}")
        for name in ("strata", "shortest", "prefilter", "per_sentence", "apart", "per_window"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("per_document", "members"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "1 or more, or none")
        stale = self.stale_after
        require(stale is None or stale >= 0, "stale_after", stale, "0 or more, or none")
        near = self.near_duplicates
        require(near is None or 0 < near <= 1, "near_duplicates", near, "above 0 and at most 1")
        require(0 <= self.epsilon <= 1, "epsilon", self.epsilon, "between 0 and 1")
        require(self.beta >= 0, "beta", self.beta, "0 or more")
        require(self.shortest <= self.longest, "longest", self.longest, f"at least {self.shortest}")
        if self.strategy in ("density", "stochastic"):
            positive = [name for name in SCORES if name not in SIGNED]
            require(
                self.base not in SIGNED,
                "base",
                self.base,
                f"a score that is never negative for {self.strategy}: {', '.join(positive)}",
            )
        if self.strategy in POSITIONS:
            require(self.unit == "decisions", "unit", self.unit, f"decisions for {self.strategy}")
            require(self.strata == 1, "strata", self.strata, f"1 for {self.strategy}")
            require(self.epsilon == 0, "epsilon", self.epsilon, f"0 for {self.strategy}")
