"""A batch of sentences for an arm, within a budget of characters or decisions.

The random arm is served the smallest hash keys; the active arm what a segmenter is unsure of. What
one arm was served never keeps a sentence from the other: a label that both ask for is shared, and
its cost charged to both.
"""

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from attar.methods.active_segmentation.arms import key, order
from attar.methods.active_segmentation.boundaries import Limits, boundary_queries, random_queries
from attar.methods.active_segmentation.picks import POSITIONS
from attar.methods.active_segmentation.picks import Draw as Draw
from attar.methods.active_segmentation.picks import DrawConfig as DrawConfig
from attar.methods.active_segmentation.picks import Pick as Pick
from attar.methods.active_segmentation.picks import ScoreTable as ScoreTable
from attar.methods.active_segmentation.picks import Sentence as Sentence
from attar.methods.active_segmentation.ranking import (
    Candidates,
    Drawn,
    eligible,
    scored_by,
)
from attar.methods.active_segmentation.ranking import score_pool as score_pool
from attar.methods.active_segmentation.segmenter import Segmenter
from attar.methods.active_segmentation.walk import Walk, walk_of

Places = NDArray[np.intp]


def draw_random(
    pool: Sequence[Sentence],
    *,
    drawn: Set[str],
    reserved: Set[str],
    config: DrawConfig,
    batch: int,
    arm: str = "random",
    snapshot: str = "",
) -> Draw:
    """The next batch of the random order: the smallest keys that the arm has not been served.

    Args:
        pool: the corpus as it is now.
        drawn: uids that this arm has been served, still in the corpus or not.
        reserved: the evaluation reserve.
        config: budget, lengths and salt.
        batch: number of the batch.
        arm: name of the arm; the active arm draws its common seed here.
        snapshot: state of the corpus.

    Raises:
        DataError: the pool holds a sentence twice.
    """
    left = [
        sentence
        for sentence in eligible(pool, reserved=reserved, config=config)
        if sentence.uid not in drawn
    ]
    walk = Walk(left, unit=config.unit)
    after = walk.take(range(len(left)), config.budget, at_least_one=True)
    # The key of the first sentence left out: given it, every other is in the arm with this
    # probability (bottom-k sampling).
    threshold = 1.0 if after is None else key(left[after].uid, config.salt)
    picks = tuple(
        Pick(
            uid=left[place].uid,
            arm=arm,
            batch=batch,
            rank=rank,
            score=None,
            strategy="random",
            model=None,
            snapshot=snapshot,
            pool_size=len(left),
            probability=threshold,
        )
        for rank, place in enumerate(walk.places)
    )
    return Draw(picks, walk.spent, _used_up(walk.spent, config, all_seen=after is None))


def draw_active(
    pool: Sequence[Sentence],
    *,
    table: ScoreTable | None = None,
    segmenter: Segmenter | None = None,
    model: str = "",
    drawn: Set[str],
    reserved: Set[str],
    labelled: Set[str] = frozenset(),
    asked: Mapping[str, Collection[int]] = MappingProxyType({}),
    config: DrawConfig,
    batch: int,
    arm: str = "active",
    snapshot: str = "",
    seed: int = 0,
) -> Draw:
    """The next batch by what a model is unsure of.

    A sentence that the random arm was served may be drawn: its label is shared, and its cost
    charged to both arms. Without scores that can be used the batch is drawn in the random order,
    and a warning says so. The strategy `random` has an order of its own.

    Args:
        pool: the corpus as it is now.
        table: scores of the pool; None: the segmenter scores it now.
        segmenter: needed without a table, and by `badge`, `coreset` and `boundaries`.
        model: name of the segmenter, where there is no table.
        drawn: uids that this arm has been served.
        reserved: the evaluation reserve.
        labelled: uids that are labelled or served in any arm; near duplicates of them are skipped
            under the scorer `union`, in addition to those of `drawn`.
        asked: for positions: offsets that this arm has asked about, by uid; a sentence that was
            drawn and is not here was labelled as a whole.
        config: strategy, budget and limits.
        batch: number of the batch.
        arm: name of the arm.
        snapshot: state of the corpus.
        seed: of all chance in it.

    Raises:
        ConfigError: the strategy needs a segmenter, or members of it, that are not there.
        DataError: the pool holds a sentence twice.
    """
    by_chance = partial(
        draw_random,
        pool,
        drawn=drawn,
        reserved=reserved,
        batch=batch,
        arm=arm,
        snapshot=snapshot,
    )
    if config.strategy == "random":
        return by_chance(config=replace(config, salt=f"{config.salt}/{arm}/{seed}"))
    everything = eligible(pool, reserved=reserved, config=config)
    scored = scored_by(config) is not None
    if table is None and scored and segmenter is not None:
        table = score_pool(
            everything,
            segmenter=segmenter,
            model=model,
            reserved=reserved,
            config=config,
            seed=seed,
        )
    by_position = config.strategy in POSITIONS
    left = [one for one in everything if one.uid not in drawn or (by_position and one.uid in asked)]
    problem = _problem(table, left, config) if scored else None
    if problem:
        draw = by_chance(config=config)
        return replace(
            draw,
            picks=tuple(replace(pick, probability=None) for pick in draw.picks),
            warnings=(f"{problem}: this batch is drawn in the random order", *draw.warnings),
        )
    known = drawn if config.scorer == "own" else drawn | labelled
    candidates = Candidates(
        left,
        table or ScoreTable(config.strategy, "", {}),
        segmenter=segmenter,
        known=[one for one in everything if one.uid in known],
        config=config,
        seed=seed,
        batch=batch,
    )
    pick = partial(Pick, arm=arm, batch=batch, snapshot=snapshot, pool_size=len(left))
    return _positions(candidates, pick, asked) if by_position else _sentences(candidates, pick)


def _sentences(candidates: Candidates, pick: Callable[..., Pick]) -> Draw:
    """Whole sentences: the share of chance, then a share for each stratum of lengths."""
    config, left = candidates.config, candidates.sentences
    walk = walk_of(left, known=candidates.known, config=config)
    salt = f"{config.salt}/epsilon/{candidates.seed}/{candidates.batch}"
    chance = order([one.uid for one in left], salt=salt) if config.epsilon else ()
    after = walk.take(chance, config.epsilon * config.budget)
    threshold = 1.0 if after is None else key(left[after].uid, salt)
    groups = [[Drawn(place, "random", threshold) for place in walk.places]]
    start, rest = walk.spent, config.budget - walk.spent

    def go(places: Places, share: float) -> int | None:
        first = len(walk.places)
        after = walk.take(
            candidates.ranked(places, picked=walk.places[:]),
            # What the strata before have spent too much or too little is settled here.
            share * rest - (walk.spent - start),
            at_least_one=share == 1.0,
        )
        groups.append(candidates.described(walk.places[first:], left_out=after))
        return after

    strata = _strata([len(one.text) for one in left], config.strata)
    after = None
    for places, share in strata:
        after = go(places, share)
    if after is None and len(strata) > 1:  # the last could not spend what was left to it
        after = go(np.arange(len(left)), 1.0)
    picks = tuple(
        pick(
            uid=left[one.place].uid,
            rank=rank,
            score=None if one.strategy == "random" else float(candidates.scores[one.place]),
            strategy=one.strategy,
            model=None if one.strategy == "random" else candidates.table.model,
            probability=one.probability,
        )
        for rank, one in enumerate(_mixed(groups))
    )
    warnings = (*candidates.warnings, *_used_up(walk.spent, config, all_seen=after is None))
    skipped = None if config.near_duplicates is None else walk.skipped
    return Draw(picks, walk.spent, warnings, skipped)


def _mixed(groups: Sequence[Sequence[Drawn]]) -> list[Drawn]:
    """All of them, each group in its order and spread evenly: annotators meet no stretch of one
    length.
    """
    spread = (
        ((index + 0.5) / len(group), number, one)
        for number, group in enumerate(groups)
        for index, one in enumerate(group)
    )
    return [one for _, _, one in sorted(spread, key=lambda each: each[:2])]


def _strata(lengths: Sequence[int], count: int) -> list[tuple[Places, float]]:
    """Groups of equally many sentences by length, each with the share of all characters that lies
    in it and in those of shorter sentences.
    """
    sizes = np.array(lengths, np.int64)
    by_length = np.argsort(sizes, kind="stable")
    groups = np.array_split(by_length, max(1, min(count, len(sizes))))
    ends = np.cumsum([sizes[group].sum() for group in groups])
    return [
        (np.sort(group), int(end) / max(1, int(ends[-1])) if len(sizes) else 1.0)
        for group, end in zip(groups, ends, strict=True)
    ]


def _positions(
    candidates: Candidates, pick: Callable[..., Pick], asked: Mapping[str, Collection[int]]
) -> Draw:
    """Single positions."""
    config = candidates.config
    limits = Limits(config.per_sentence, config.apart, config.per_window)
    doubtful = config.strategy == "boundaries"
    if doubtful:
        some = candidates.doubtful()
        queries = boundary_queries(
            [one.text for one in some],
            candidates.beliefs(some),
            budget=config.budget,
            limits=limits,
            asked=asked,
        )
    else:
        queries = random_queries(
            [one.text for one in candidates.sentences],
            budget=config.budget,
            generator=candidates.generator,
            limits=limits,
            asked=asked,
        )
    picks = tuple(
        pick(
            uid=query.uid,
            rank=rank,
            score=query.score if doubtful else None,
            strategy=config.strategy,
            model=candidates.table.model if doubtful else None,
            probability=None,
            positions=query.positions,
        )
        for rank, query in enumerate(queries)
    )
    spent = sum(len(query.positions) for query in queries)
    return Draw(picks, spent, (*candidates.warnings, *_used_up(spent, config, all_seen=True)))


def _problem(table: ScoreTable | None, left: Sequence[Sentence], config: DrawConfig) -> str | None:
    """Why scores cannot be used, if so."""
    wanted = scored_by(config)
    if table is None:
        return "no model has scored the pool yet; train one"
    if table.strategy != wanted:
        return f"the ranking is by {table.strategy} and not by {wanted}; score the pool again"
    if config.stale_after is not None and table.age > config.stale_after:
        return (
            f"the ranking is {table.age} annotations old, more than {config.stale_after}; "
            "train again"
        )
    if left and not any(np.isfinite(table.values.get(one.uid, np.nan)) for one in left):
        return f"the ranking has none of the {len(left)} sentences left; score the pool again"
    return None


def _used_up(spent: int, config: DrawConfig, *, all_seen: bool) -> tuple[str, ...]:
    if not all_seen or spent >= config.budget:
        return ()
    return (
        f"nothing more of the pool is within the limits: the batch has {spent} of {config.budget} "
        f"{config.unit}; add text, or end here",
    )
