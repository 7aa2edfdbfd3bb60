"""Scores of a whole pool, and the orders in which a batch goes through it."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.errors import ConfigError, DataError, require
from attar.methods.active_segmentation import batches
from attar.methods.active_segmentation.arms import order
from attar.methods.active_segmentation.beliefs import Beliefs
from attar.methods.active_segmentation.monitors import mean_uncertainty
from attar.methods.active_segmentation.picks import DrawConfig, ScoreTable, Sentence
from attar.methods.active_segmentation.scores import ENSEMBLE, SCORES
from attar.methods.active_segmentation.segmenter import Segmenter

Array = NDArray[np.float64]
Places = NDArray[np.intp]


def eligible(pool: Sequence[Sentence], *, reserved: Set[str], config: DrawConfig) -> list[Sentence]:
    """The sentences that an arm can be served, in the random order: all but the evaluation reserve
    and those that are too short or too long.

    Raises:
        DataError: two sentences of the pool have the same uid.
    """
    if len({sentence.uid for sentence in pool}) < len(pool):
        raise DataError(
            f"expected each sentence of the pool once, found {len(pool)} of them under fewer uids; "
            "give one with its occurrences"
        )
    kept = [
        sentence
        for sentence in pool
        if config.shortest <= len(sentence.text) <= config.longest and sentence.uid not in reserved
    ]
    return [kept[index] for index in order([one.uid for one in kept], salt=config.salt)]


def scored_by(config: DrawConfig) -> str | None:
    """The strategy that a table of scores must be of; None: no scores are needed."""
    if config.strategy in ("random", "random_boundaries"):
        return None
    if config.strategy in SCORES or config.strategy == "density":
        return config.strategy
    return "min_margin" if config.strategy == "boundaries" else config.base


def score_pool(
    pool: Sequence[Sentence],
    *,
    segmenter: Segmenter,
    model: str,
    reserved: Set[str],
    config: DrawConfig,
    seed: int = 0,
    chunk: int = 500,
) -> ScoreTable:
    """Score all sentences that could be drawn, some at a time.

    Args:
        pool: the corpus as it is now.
        segmenter: the model that ranks.
        model: its name, for the record.
        reserved: the evaluation reserve.
        config: strategy, base score and lengths.
        seed: of dropout passes.
        chunk: sentences at a time; changes nothing but memory.

    Raises:
        ConfigError: the strategy needs no scores; the segmenter has no members and the score needs
            them; the chunk is not positive.
    """
    require(chunk >= 1, "chunk", chunk, "1 or more sentences")
    sentences = eligible(pool, reserved=reserved, config=config)
    strategy = scored_by(config)
    if strategy is None:
        raise ConfigError(
            f"expected a strategy that scores sentences, found {config.strategy}; draw without a "
            "table"
        )
    name = config.base if strategy == "density" else strategy
    score = SCORES[name]
    members = 0
    if name in ENSEMBLE:
        members = config.members or (10 if segmenter.config.kind == "character-cnn" else 5)
    needed = config.prefilter if config.strategy in ("badge", "boundaries") else 0
    values: dict[str, float] = {}
    kept: dict[str, Beliefs] = {}
    unsure, offsets = 0.0, 0
    for start in range(0, len(sentences), chunk):
        some = sentences[start : start + chunk]
        texts = [sentence.text for sentence in some]
        found = segmenter.beliefs(texts, members=members, seed=seed)
        count = sum(len(belief.cut_probabilities) for belief in found)
        unsure, offsets = unsure + mean_uncertainty(found) * count, offsets + count
        for sentence, belief in zip(some, found, strict=True):
            values[sentence.uid] = score(belief)
            if needed:
                kept[sentence.uid] = belief
        if len(kept) > 2 * needed + chunk:
            kept = _highest(kept, values, needed)
    if strategy == "density":
        density = batches.densities([sentence.text for sentence in sentences]) ** config.beta
        values = {
            one.uid: values[one.uid] * float(weight)
            for one, weight in zip(sentences, density, strict=True)
        }
    return ScoreTable(
        strategy,
        model,
        values,
        beliefs=_highest(kept, values, needed),
        uncertainty=unsure / offsets if offsets else None,
    )


def _highest(kept: dict[str, Beliefs], values: dict[str, float], count: int) -> dict[str, Beliefs]:
    """The beliefs of the sentences with the highest scores."""
    best = sorted(kept, key=values.__getitem__, reverse=True)[:count]
    return {name: kept[name] for name in best}


@dataclass(frozen=True)
class Drawn:
    """A sentence of a batch.

    Attributes:
        place: its index among the candidates.
        strategy: what picked it.
        probability: of that, if it is known.
    """

    place: int
    strategy: str
    probability: float | None


class Candidates:
    """The sentences that an active batch is drawn from, and what is known of them.

    Args:
        sentences: N of them, in the random order.
        table: their scores.
        segmenter: to ask for more; None: it is not at hand.
        known: what the arm has.
        config: the strategy.
        seed: of all chance, together with the number of the batch.
        batch: its number.

    Attributes:
        generator: of `badge` and random positions.
        scores: `(N,)`; NaN where there is none, or none that is finite.
        warnings: what to show.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        table: ScoreTable,
        *,
        segmenter: Segmenter | None,
        known: Sequence[Sentence],
        config: DrawConfig,
        seed: int,
        batch: int,
    ) -> None:
        self.sentences, self.table, self.segmenter = sentences, table, segmenter
        self.known, self.config, self.seed, self.batch = known, config, seed, batch
        self.generator = np.random.default_rng((seed, batch))
        scores = np.array([table.values.get(one.uid, np.nan) for one in sentences], np.float64)
        self.scores = np.where(np.isfinite(scores), scores, np.nan)
        missing = int(np.isnan(self.scores).sum()) if scored_by(config) else 0
        self.warnings = (
            (
                f"{missing} of {len(sentences)} sentences have no score yet and come last; score "
                "the pool again",
            )
            if missing
            else ()
        )

    def ranked(self, places: Places, *, picked: Sequence[int]) -> Iterator[int]:
        """Some of the sentences in the order of the strategy, then those without a score.

        Args:
            places: ascending indices of the sentences.
            picked: indices of what the batch has already.
        """
        scored = places[~np.isnan(self.scores[places])]
        ranks = self.scores[scored]
        if self.config.strategy == "stochastic":
            ranks = self._perturbed(scored)
        best = scored[np.argsort(-ranks, kind="stable")]
        if self.config.strategy in ("badge", "coreset"):
            count = max(1, self.config.prefilter // self.config.strata)
            some = np.sort(best[:count])
            yield from (int(some[index]) for index in self._diverse(some, picked))
            best = best[count:]
        yield from best.tolist()
        yield from places[np.isnan(self.scores[places])].tolist()

    def described(self, places: Sequence[int], *, left_out: int | None) -> list[Drawn]:
        """Each pick of one walk with its strategy and its probability.

        Args:
            places: indices of the picks.
            left_out: of the first sentence that was not taken; None: all were.
        """
        chances = np.full(len(places), np.nan)
        if self.config.strategy == "stochastic":
            chances[:] = 1.0
            if left_out is not None and not np.isnan(self.scores[left_out]):
                threshold = float(self._perturbed(np.array([left_out]))[0])
                scores = self.scores[list(places)]
                chances = batches.inclusion(scores, threshold, beta=self.config.beta)
        return [
            Drawn(place, "random", None)
            if np.isnan(self.scores[place])
            else Drawn(place, self.config.strategy, None if np.isnan(chance) else chance)
            for place, chance in zip(places, chances.tolist(), strict=True)
        ]

    def doubtful(self) -> list[Sentence]:
        """The sentences with the highest scores, as many as are looked at, in the random order."""
        scored = np.flatnonzero(~np.isnan(self.scores))
        best = scored[np.argsort(-self.scores[scored], kind="stable")][: self.config.prefilter]
        return [self.sentences[place] for place in np.sort(best)]

    def beliefs(self, sentences: Sequence[Sentence]) -> list[Beliefs]:
        """Of some sentences, from the table as far as it has them."""
        missing = [one for one in sentences if one.uid not in self.table.beliefs]
        found = dict(self.table.beliefs)
        if missing:
            asked = self._asked().beliefs([one.text for one in missing])
            found |= zip((one.uid for one in missing), asked, strict=True)
        return [found[one.uid] for one in sentences]

    def _perturbed(self, places: Places) -> Array:
        """Scores with the noise of `stochastic`."""
        uids = [self.sentences[place].uid for place in places]
        salt = f"{self.config.salt}/stochastic/{self.seed}/{self.batch}"
        return batches.perturbed(self.scores[places], uids, beta=self.config.beta, salt=salt)

    def _diverse(self, places: Places, picked: Sequence[int]) -> Iterator[int]:
        some = [self.sentences[place] for place in places]
        texts = [sentence.text for sentence in some]
        if self.config.strategy == "badge":
            rows = batches.gradients(texts, self.beliefs(some))
            return batches.badge(rows, generator=self.generator)
        known = [*self.known, *(self.sentences[place] for place in picked)]
        centres = self._asked().embed([one.text for one in known]) if known else None
        return batches.k_centre(self._asked().embed(texts), centres=centres)

    def _asked(self) -> Segmenter:
        if self.segmenter is None:
            raise ConfigError(
                "a batch by badge, coreset or boundaries expects the segmenter, found only its "
                "table of scores; load the model and pass it on"
            )
        return self.segmenter
