"""A batch holds what its strategy ranks highest, within its budget and limits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pools
from attar.data.segments.legal import legal
from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation import arms, batches
from attar.methods.active_segmentation.drawing import (
    Draw,
    DrawConfig,
    ScoreTable,
    Sentence,
    draw_active,
    draw_random,
    score_pool,
)
from attar.methods.active_segmentation.near_duplicates import NearDuplicates
from attar.methods.active_segmentation.picks import POSITIONS, STRATEGIES
from attar.methods.active_segmentation.scores import SCORES

POOL = pools.pool(150, words=8, documents=30)
TEXT = {one.uid: one.text for one in POOL}
RESERVE = arms.reserve(list(TEXT), threshold=0.1)
LEFT = [one for one in POOL if one.uid not in RESERVE]
READER = pools.Reader()


def configured(strategy: str, **options) -> DrawConfig:
    unit = {"unit": "decisions", "budget": 40} if strategy in POSITIONS else {"budget": 400}
    return DrawConfig(strategy=strategy, **(unit | options))


def drawn_by(config: DrawConfig, **options) -> Draw:
    given = {"segmenter": READER, "drawn": set(), "reserved": RESERVE, "batch": 3}
    return draw_active(options.pop("pool", POOL), **(given | options), config=config)


def uids(draw: Draw) -> list[str]:
    return [pick.uid for pick in draw.picks]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_neither_the_order_of_the_pool_nor_the_chunks_matter(strategy: str) -> None:
    config = configured(strategy)
    expected = drawn_by(config, model="m")
    assert expected == drawn_by(config, model="m", pool=POOL[::-1])
    assert expected == drawn_by(config, model="m", pool=sorted(POOL, key=lambda one: one.text))
    if strategy not in ("random", "random_boundaries"):
        tables = [
            score_pool(
                pool, segmenter=READER, model="m", reserved=RESERVE, config=config, chunk=chunk
            )
            for pool, chunk in ((POOL, 500), (POOL[::-1], 7), (POOL, 1))
        ]
        assert tables[0].values == tables[1].values == tables[2].values
        assert expected == drawn_by(config, table=tables[1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_batch_holds_each_sentence_once_and_says_all_about_it(strategy: str) -> None:
    have = {one.uid for one in LEFT[:20]}
    draw = drawn_by(configured(strategy), drawn=have, snapshot="w2", model="m")
    assert not draw.warnings
    assert len(set(uids(draw))) == len(draw.picks) > 3
    assert not set(uids(draw)) & (RESERVE | have)
    for rank, pick in enumerate(draw.picks):
        assert (pick.rank, pick.batch, pick.arm, pick.snapshot) == (rank, 3, "active", "w2")
        assert (pick.strategy, pick.pool_size) == (strategy, len(LEFT) - 20)
        assert (pick.score is None) == ("random" in strategy) == (pick.model is None)
        assert (pick.probability is None) == (strategy not in ("random", "stochastic"))
        assert (pick.positions is None) == (strategy not in POSITIONS)
    if strategy in POSITIONS:
        assert draw.spent == sum(len(pick.positions) for pick in draw.picks) == 40
    else:
        assert draw.spent == sum(len(TEXT[pick.uid]) for pick in draw.picks)
        assert abs(draw.spent - 400) <= max(map(len, TEXT.values())) / 2


@pytest.mark.parametrize("strategy", sorted(SCORES))
def test_scores_are_walked_from_the_highest(strategy: str) -> None:
    draw = drawn_by(configured(strategy, near_duplicates=None))
    beliefs = READER.beliefs([one.text for one in LEFT], members=5)
    scores = [SCORES[strategy](belief) for belief in beliefs]
    keys = arms.keys([one.uid for one in LEFT], arms.RANDOM)
    order = np.lexsort((keys, -np.array(scores)))
    assert uids(draw) == [LEFT[place].uid for place in order[: len(draw.picks)]]
    assert [pick.score for pick in draw.picks] == [scores[n] for n in order[: len(draw.picks)]]


def test_equal_scores_are_told_apart_by_key() -> None:
    table = ScoreTable("mnlp", "m", {one.uid: 0.25 for one in LEFT})
    draw = drawn_by(configured("mnlp", near_duplicates=None), table=table)
    order = arms.random_order([one.uid for one in LEFT])
    assert uids(draw) == order[: len(draw.picks)]


@pytest.mark.parametrize("strategy", ["badge", "stochastic", "random", "random_boundaries"])
def test_chance_comes_from_the_seed_and_the_batch(strategy: str) -> None:
    config = configured(strategy)
    first = drawn_by(config, seed=1)
    assert drawn_by(config, seed=1) == first
    assert uids(drawn_by(config, seed=2)) != uids(first)
    if strategy != "random":  # one order for all of its batches
        assert uids(drawn_by(config, seed=1, batch=4)) != uids(first)


def test_what_the_random_arm_was_served_may_be_drawn_again_and_costs_both() -> None:
    config = configured("mnlp")
    served = draw_random(POOL, drawn=set(), reserved=RESERVE, config=config, batch=0)
    values = {one.uid: float(one.uid in uids(served)) for one in LEFT}
    for scorer in ("own", "union"):
        draw = drawn_by(
            replace(config, scorer=scorer, near_duplicates=1.0),
            table=ScoreTable("mnlp", "m", values),
            labelled=set(uids(served)),
        )
        assert set(uids(served)) <= set(uids(draw)) | {draw.picks[-1].uid}
        assert draw.spent >= served.spent
    again = draw_random(POOL, drawn=set(), reserved=RESERVE, config=config, batch=0)
    assert again == served


def test_both_arms_share_a_seed() -> None:
    config = configured("mnlp")
    both = [
        draw_random(POOL, drawn=set(), reserved=RESERVE, config=config, batch=0, arm=arm)
        for arm in ("random", "active")
    ]
    assert uids(both[0]) == uids(both[1])
    assert both[1].picks[0].arm == "active"
    own = drawn_by(configured("random"))
    assert uids(own) != uids(both[0])


def _of(table: ScoreTable | None, words: str):
    return pytest.param(table, words, id=words.split()[0])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        _of(None, "train one"),
        _of(ScoreTable("mnlp", "m", {}), "none of the"),
        _of(ScoreTable("mnlp", "m", {one.uid: np.nan for one in LEFT}), "score the pool again"),
        _of(ScoreTable("margin", "m", {one.uid: 1.0 for one in LEFT}), "by margin and not by mnlp"),
        _of(ScoreTable("mnlp", "m", {one.uid: 1.0 for one in LEFT}, age=51), "51 annotations old"),
    ],
)
def test_without_usable_scores_the_random_order_serves_with_a_warning(table, words: str) -> None:
    config = configured("mnlp", stale_after=50)
    have = {one.uid for one in LEFT[:30]}
    draw = drawn_by(config, table=table, segmenter=None, drawn=have)
    random = draw_random(POOL, drawn=have, reserved=RESERVE, config=config, batch=3)
    assert uids(draw) == uids(random)
    assert draw.spent == random.spent
    assert words in draw.warnings[0]
    assert "drawn in the random order" in draw.warnings[0]
    assert {(p.arm, p.strategy, p.score, p.probability) for p in draw.picks} == {
        ("active", "random", None, None)
    }


def test_sentences_without_a_score_come_last_with_a_warning() -> None:
    scored = LEFT[:3]
    table = ScoreTable("mnlp", "m", {one.uid: 0.5 for one in scored})
    config = configured("mnlp", near_duplicates=None)
    draw = drawn_by(config, table=table)
    assert set(uids(draw)[:3]) == {one.uid for one in scored}
    rest = arms.random_order([one.uid for one in LEFT[3:]])
    assert uids(draw)[3:] == rest[: len(draw.picks) - 3]
    assert f"{len(LEFT) - 3} of {len(LEFT)} sentences have no score yet" in draw.warnings[0]
    assert [pick.strategy for pick in draw.picks[2:4]] == ["mnlp", "random"]


@given(st.integers(1, 500), st.sampled_from(("characters", "decisions")))
def test_the_sentence_that_crosses_the_budget_is_drawn_if_half_of_it_fits(
    budget: int, unit
) -> None:
    draw = draw_random(
        POOL, drawn=set(), reserved=RESERVE, config=DrawConfig(budget=budget, unit=unit), batch=0
    )
    order = arms.random_order([one.uid for one in LEFT])
    costs = [len(TEXT[uid]) if unit == "characters" else len(legal(TEXT[uid])) for uid in order]
    count, spent = 0, 0
    while count == 0 or spent + costs[count] / 2 <= budget:
        spent += costs[count]
        count += 1
    assert uids(draw) == order[:count]
    assert draw.spent == spent
    assert draw.picks[0].probability == arms.key(order[count], arms.RANDOM)


def test_weights_by_the_random_arms_probability_estimate_the_corpus() -> None:
    estimates = []
    for salt in range(200):
        config = DrawConfig(budget=400, salt=str(salt))
        draw = draw_random(POOL, drawn=set(), reserved=set(), config=config, batch=0)
        estimates.append(sum(1 / pick.probability for pick in draw.picks if pick.probability))
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - len(POOL)) < 4 * error


def test_strata_have_the_shares_of_characters_that_the_pool_has() -> None:
    pool = pools.pool(600, words=14)
    lengths = np.array([len(one.text) for one in pool])
    values = {one.uid: float(len(one.text)) for one in pool}  # prefers long ones
    table = ScoreTable("mnlp", "m", values)
    options = {"pool": pool, "table": table, "reserved": set()}
    plain = drawn_by(configured("mnlp", budget=2000), **options)
    even = drawn_by(configured("mnlp", budget=2000, strata=4), **options)
    text = {one.uid: one.text for one in pool}
    means = [np.mean([len(text[uid]) for uid in uids(draw)]) for draw in (plain, even)]
    assert means[0] > 1.3 * means[1]
    assert abs(even.spent - 2000) <= lengths.max() / 2
    keys = arms.keys([one.uid for one in pool], arms.RANDOM)
    groups = np.array_split(np.lexsort((keys, lengths)), 4)
    found = [
        sum(lengths[place] for place in group if pool[place].uid in uids(even)) / even.spent
        for group in groups
    ]
    expected = [lengths[group].sum() / lengths.sum() for group in groups]
    np.testing.assert_allclose(found, expected, atol=0.02)
    # Mixed, so that no annotator meets one length after the other.
    first = [len(text[uid]) for uid in uids(even)[: len(even.picks) // 2]]
    assert 0.7 < np.mean(first) / means[1] < 1.4


@pytest.mark.parametrize("strategy", ["mnlp", "badge", "coreset", "stochastic"])
def test_strata_go_with_every_strategy_and_with_small_pools(strategy: str) -> None:
    for count in (0, 1, 3, 40):
        draw = drawn_by(configured(strategy, strata=5, near_duplicates=None), pool=LEFT[:count])
        total = sum(len(one.text) for one in LEFT[:count])
        assert draw.spent == total if total < 380 else draw.spent > 300
        assert bool(draw.warnings) == (draw.spent < 400 and len(draw.picks) == count)


def test_near_duplicates_are_skipped() -> None:
    long = "".join(pools.texts(3, seed=9, words=20))
    pool = [Sentence(arms.uid(text), text) for text in (long, long + "ก", long[1:], "ไม่เหมือน")]
    values = {one.uid: 4.0 - place for place, one in enumerate(pool)}
    table = ScoreTable("mnlp", "m", values)
    options = {"pool": pool, "table": table, "reserved": set()}
    config = configured("mnlp", budget=9999)
    draw = drawn_by(config, **options)
    assert uids(draw) == [pool[0].uid, pool[3].uid]
    assert draw.near_duplicates == 2
    assert len(drawn_by(replace(config, near_duplicates=None), **options).picks) == 4
    # Of what this arm has; of what any arm has only where one model serves both.
    had = drawn_by(config, drawn={pool[0].uid}, **options)
    assert uids(had) == [pool[3].uid]
    other = drawn_by(config, labelled={pool[2].uid}, **options)
    assert uids(other) == uids(draw)
    union = drawn_by(replace(config, scorer="union"), labelled={pool[2].uid}, **options)
    assert uids(union) == [pool[2].uid, pool[3].uid]


@pytest.mark.parametrize("strategy", ["mnlp", "badge", "coreset"])
def test_no_two_of_a_batch_are_near_duplicates(strategy: str) -> None:
    draw = drawn_by(configured(strategy, near_duplicates=0.15, strata=2))
    assert draw.near_duplicates or strategy == "coreset"
    near = NearDuplicates(0.15)
    for uid in uids(draw):
        assert near.match(TEXT[uid]) is None
        near.add([uid], [TEXT[uid]])


def test_a_document_has_only_so_many_sentences_in_a_batch() -> None:
    documents = {one.uid: one.document for one in POOL}
    draw = drawn_by(configured("mnlp", per_document=1))
    found = [documents[uid] for uid in uids(draw)]
    assert len(set(found)) == len(found)
    nowhere = [replace(one, document="") for one in POOL]
    free = drawn_by(configured("mnlp", per_document=1), pool=nowhere)
    assert len(free.picks) > 3


def test_a_share_of_the_budget_goes_to_chance() -> None:
    pool = pools.pool(400)
    options = {"pool": pool, "reserved": set()}
    config = configured("mnlp", budget=1500, epsilon=0.3, near_duplicates=None)
    draw = drawn_by(config, **options)
    text = {one.uid: one.text for one in pool}
    chance = [pick for pick in draw.picks if pick.strategy == "random"]
    assert sum(len(text[pick.uid]) for pick in chance) == pytest.approx(450, abs=40)
    assert draw.spent == pytest.approx(1500, abs=40)
    assert all(pick.score is None and pick.probability == chance[0].probability for pick in chance)
    assert chance[0].probability == pytest.approx(len(chance) / len(pool), rel=0.5)
    # Not the first of the random arm, which are labelled anyway.
    served = draw_random(pool, drawn=set(), reserved=set(), config=config, batch=0)
    assert {pick.uid for pick in chance} != set(uids(served)[: len(chance)])
    ranks = [pick.rank for pick in chance]
    assert np.mean(ranks) == pytest.approx(len(draw.picks) / 2, abs=3)
    assert {pick.strategy for pick in drawn_by(replace(config, epsilon=1.0), **options).picks} == {
        "random"
    }


def test_lengths_hold_for_both_arms() -> None:
    config = configured("mnlp", shortest=10, longest=20)
    draws = [
        drawn_by(config),
        draw_random(POOL, drawn=set(), reserved=RESERVE, config=config, batch=0),
    ]
    for draw in draws:
        assert {10 <= len(TEXT[uid]) <= 20 for uid in uids(draw)} == {True}
        assert draw.picks[0].pool_size == sum(10 <= len(one.text) <= 20 for one in LEFT)


def test_density_weighs_the_base_score() -> None:
    config = configured("density", base="topk_entropy", beta=2.0)
    options = {"segmenter": READER, "model": "m", "reserved": RESERVE}
    table = score_pool(POOL, config=config, **options)
    base = score_pool(POOL, config=configured("topk_entropy"), **options)
    density = batches.densities([one.text for one in LEFT])
    for one, weight in zip(LEFT, density, strict=True):
        assert table.values[one.uid] == pytest.approx(base.values[one.uid] * weight**2, rel=1e-5)


@pytest.mark.parametrize("strategy", ["badge", "coreset"])
def test_diversity_is_sought_among_the_most_doubtful(strategy: str) -> None:
    table = score_pool(
        POOL, segmenter=READER, model="m", reserved=RESERVE, config=configured(strategy)
    )
    config = configured(strategy, prefilter=12, near_duplicates=None, budget=200)
    draw = drawn_by(config, table=table)
    best = sorted(table.values, key=table.values.__getitem__, reverse=True)[:12]
    count = min(12, len(draw.picks))
    assert set(uids(draw)[:count]) <= set(best)
    assert uids(draw)[:count] != best[:count]


def test_core_sets_keep_away_from_what_is_labelled() -> None:
    have = {one.uid for one in LEFT[:40]}
    draw = drawn_by(configured("coreset", near_duplicates=None), drawn=have)
    rest = [one for one in LEFT if one.uid not in have]
    rest.sort(key=lambda one: arms.key(one.uid, arms.RANDOM))
    centres = READER.embed([one.text for one in LEFT[:40]])
    points = READER.embed([one.text for one in rest])
    taken = list(batches.k_centre(points, centres=centres))
    assert uids(draw) == [rest[place].uid for place in taken[: len(draw.picks)]]


def test_beliefs_that_the_table_has_are_not_asked_for_again() -> None:
    for strategy in ("boundaries", "badge"):
        config = configured(strategy)
        reader = pools.Reader()
        table = score_pool(
            POOL, segmenter=reader, model="m", reserved=RESERVE, config=config, chunk=50
        )
        assert reader.asked == [50, 50, len(LEFT) - 100]
        assert drawn_by(config, table=table, segmenter=None) == drawn_by(config, model="m")
        bare = replace(table, beliefs={})
        assert drawn_by(config, table=bare) == drawn_by(config, model="m")
        with pytest.raises(ConfigError, match="expects the segmenter"):
            drawn_by(config, table=bare, segmenter=None)


def test_only_the_beliefs_of_candidates_are_kept() -> None:
    config = configured("boundaries", prefilter=10)
    table = score_pool(POOL, segmenter=READER, model="m", reserved=RESERVE, config=config, chunk=7)
    best = sorted(table.values.values(), reverse=True)[:10]
    assert sorted((table.values[uid] for uid in table.beliefs), reverse=True) == best


@pytest.mark.parametrize("strategy", POSITIONS)
def test_positions_are_not_asked_twice_and_labelled_sentences_not_at_all(strategy: str) -> None:
    config = configured(strategy)
    first = drawn_by(config)
    asked = {pick.uid: pick.positions for pick in first.picks}
    whole = {one.uid for one in LEFT[:20]}
    had = set(asked) | whole
    asked = {uid: positions for uid, positions in asked.items() if uid not in whole}
    second = drawn_by(config, drawn=had, asked=asked, batch=4)
    assert not set(uids(second)) & whole
    assert set(uids(second)) & set(asked)
    for pick in second.picks:
        assert not set(pick.positions or ()) & set(asked.get(pick.uid, ()))


def test_a_pool_that_is_used_up_says_so() -> None:
    draw = drawn_by(configured("mnlp", budget=10**6, near_duplicates=None))
    assert len(draw.picks) == len(LEFT)
    assert "of 1000000 characters" in draw.warnings[0]
    random = draw_random(
        POOL, drawn=set(), reserved=RESERVE, config=DrawConfig(budget=10**6), batch=0
    )
    assert random.picks[0].probability == 1
    assert random.warnings == draw.warnings
    empty = drawn_by(configured("mnlp"), drawn={one.uid for one in LEFT})
    assert not empty.picks
    assert empty.warnings


def test_a_pool_with_a_sentence_twice_is_refused() -> None:
    with pytest.raises(DataError, match="each sentence of the pool once"):
        drawn_by(configured("mnlp"), pool=[*POOL, POOL[0]])


def test_scores_of_nothing_are_refused() -> None:
    options = {"segmenter": READER, "model": "m", "reserved": RESERVE}
    with pytest.raises(ConfigError, match="found random_boundaries"):
        score_pool(POOL, config=configured("random_boundaries"), **options)
    with pytest.raises(ConfigError, match="chunk"):
        score_pool(POOL, config=configured("mnlp"), chunk=0, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "mnpl"}, "did you mean 'mnlp'"),
        ({"base": "badge"}, "base must be one of"),
        ({"budget": 0}, "budget must be at least 1 of characters"),
        ({"strata": 0}, "strata"),
        ({"near_duplicates": 0.0}, "near_duplicates"),
        ({"epsilon": 1.5}, "epsilon"),
        ({"per_document": 0}, "per_document"),
        ({"shortest": 9, "longest": 8}, "longest must be at least 9"),
        ({"beta": -1.0}, "beta"),
        ({"stale_after": -1}, "stale_after"),
        ({"strategy": "stochastic", "base": "margin"}, "never negative for stochastic"),
        ({"strategy": "boundaries"}, "unit must be decisions for boundaries"),
        ({"strategy": "boundaries", "unit": "decisions", "strata": 2}, "strata must be 1"),
        ({"strategy": "boundaries", "unit": "decisions", "epsilon": 0.1}, "epsilon must be 0"),
        ({"unit": "words"}, "unit"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DrawConfig(**options)
