"""The step of Superposed Decoding: against a slow reference, and its laws."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import characters
import tiny
from attar.errors import ConfigError
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder
from attar.methods.superposed.core import (
    Draft,
    Row,
    interpolated,
    likeliest,
    mixing_weights,
    ngram_mixture,
    step,
    superposed_embedding,
)
from counted import Counted

PLAIN = SuperposedConfig(heal=False, min_hit_rate=0, temperature=0.5)
TEXTS = [tiny.ids(1, 400, seed=seed)[0].tolist() for seed in range(3)]


def run(
    model: Any,
    prompt: Sequence[int],
    *,
    config: SuperposedConfig,
    store: Any = None,
    ends: Sequence[int] = (),
) -> list[Row]:
    """The row before every step, and behind the last."""
    decoder = SuperposedDecoder(model, characters.letters(), config=config, store=store)
    decoder._stops = frozenset(ends)
    seen: list[Row] = []
    read = [decoder.prompt(list(prompt))]
    rows, _ = decoder.search(
        decoder.reader(1), read, config=config, watch=lambda rows: seen.append(rows[0])
    )
    return [*seen, rows[0]]


# ------------------------------------------------------------------------------------- reference


Scored = tuple[list[int], float]
"""Tokens and score of a draft."""


def reference(
    model: Any,
    prompt: list[int],
    *,
    config: SuperposedConfig,
    store: Counted | None,
    steps: int,
    end: int | None = None,
) -> list[tuple[list[Scored], list[Scored]]]:
    """Superposed Decoding by its description alone, without a cache and in plain Python: the drafts
    behind every step, and those that have ended by then."""
    table = model.get_input_embeddings().weight
    read = [table[token] for token in prompt]
    drafts: list[Scored] = [([], 0.0)]
    finished: list[Scored] = []
    trace = []
    for t in range(steps):
        if t:
            best = max(score for _, score in drafts)
            shares = [math.exp((score - best) / config.weight_temperature) for _, score in drafts]
            mixed = 0 * table[0]
            for (tokens, _), share in zip(drafts, shares, strict=True):
                mixed = mixed + share / math.fsum(shares) * table[tokens[-1]]
            read.append(mixed)
        with torch.no_grad():
            logits = model(inputs_embeds=torch.stack(read)[None]).logits[0, -1].tolist()
        every = sorted((x / config.temperature, v) for v, x in enumerate(logits))
        kept = every[::-1][: config.pool]
        norm = kept[0][0] + math.log(math.fsum(math.exp(x - kept[0][0]) for x, _ in kept))
        kept = [(x - norm, v) for x, v in kept]
        pool: list[tuple[bool, float, list[int]]] = []
        for tokens, score in drafts:
            text = prompt + tokens
            known = {v: _mixture(store, text, v, config.lambdas) for _, v in kept} if store else {}
            for ell, v in kept:
                longer = [*tokens, v]
                alone = score + (1 - config.alpha) * ell
                if store is None:
                    pool.append((False, score + ell, longer))
                elif known[v] > 0:
                    pool.append((False, alone + config.alpha * math.log(known[v]), longer))
                elif any(known.values()):  # only where fewer than k others are left
                    pool.append((True, alone - config.penalty, longer))
                else:
                    pool.append((False, alone - config.penalty * bool(t), longer))
        pool.sort(key=lambda one: (one[0], -one[1]))
        drafts = []
        for rank, (_, score, tokens) in enumerate(pool):
            if len(drafts) == config.k:
                break
            if tokens[-1] != end:
                drafts.append((tokens, score))
            elif rank < config.k:
                finished.append((tokens, score))
        trace.append((drafts, [*finished]))
    return trace


def _mixture(store: Counted, text: list[int], v: int, lambdas: Sequence[float]) -> float:
    total = 0.0
    for n, weight in enumerate(lambdas, 2):
        context = tuple(text[-(n - 1) :])
        if len(text) >= n - 1 and store.contexts[context]:
            total += weight * store.counts[(*context, v)] / store.contexts[context]
    return total


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("options", [{"candidates": tiny.VOCAB}, {"weight_temperature": 3.0}])
def test_drafts_and_scores_are_those_of_a_slow_reference(
    options: dict[str, Any], k: int, stored: bool
) -> None:
    """With all tokens as candidates or with 3k, with and without a token that ends drafts."""
    model, prompt = tiny.model().double(), tiny.ids(1, 15)[0].tolist()
    store = Counted([*TEXTS, prompt * 2]) if stored else None
    config = replace(PLAIN, k=k, max_new_tokens=6, penalty=20.0, **options)
    wanted: dict[str, Any] = {"config": config, "store": store}
    plain = reference(model, prompt, steps=6, **wanted)
    (ending, _) = plain[2][0][-1]  # the last token of a draft of three
    for end in (None, ending[-1]):
        expected = reference(model, prompt, steps=6, end=end, **wanted)
        traced = run(model, prompt, ends=() if end is None else [end], **wanted)[1:]
        for row, (alive, finished) in zip(traced, expected, strict=True):
            for ours, theirs in ((row.alive, alive), (row.finished, finished)):
                assert [list(draft.tokens) for draft in ours] == [tokens for tokens, _ in theirs]
                scores = [score for _, score in theirs]
                assert [draft.score for draft in ours] == pytest.approx(scores, abs=1e-9)
        assert bool(traced[-1].finished) == (end is not None)


def test_a_model_that_is_linear_in_its_input_ranks_all_tokens_as_brute_force_does() -> None:
    size, k = 20, 3
    draw = torch.Generator().manual_seed(0)
    table, head = (torch.randn(size, 6, generator=draw, dtype=torch.float64) for _ in range(2))
    config = replace(PLAIN, k=k, candidates=size)
    row = Row(context=(), width=k, ends=lambda tokens: False)

    def read(rows: Sequence[Row]) -> torch.Tensor:
        alive = rows[0].alive
        if rows[0].exact:
            return (table[4] @ head.T)[None]
        gamma = mixing_weights([draft.score for draft in alive])
        return (superposed_embedding(table[[d.tokens[-1] for d in alive]], gamma) @ head.T)[None]

    for _ in range(4):
        ell = (read([row])[0] / config.temperature).log_softmax(-1).tolist()
        every = [(d.score + ell[v], (*d.tokens, v)) for d in row.alive for v in range(size)]
        (row,) = step([row], read=read, config=config)
        best = sorted(every, reverse=True)[:k]
        assert [draft.tokens for draft in row.alive] == [tokens for _, tokens in best]
        assert [draft.score for draft in row.alive] == pytest.approx([score for score, _ in best])


# ------------------------------------------------------------------------------------------ laws

logits_of = st.lists(st.floats(-60, 60), min_size=12, max_size=12)


@given(logits_of, st.permutations([0, 1, 2]), st.integers(0, 100))
def test_laws_of_a_step(logits: list[float], order: list[int], seed: int) -> None:
    """Drafts differ, scores never rise, weights add up to one; the order of drafts is nothing."""
    store = Counted([np.random.default_rng(seed).integers(0, 12, 200).tolist()])
    drafts = [Draft((n, 5), -float(n) / 3) for n in range(3)]

    def after(alive: Sequence[Draft]) -> tuple[Draft, ...]:
        row = Row((1, 2), 3, lambda tokens: False, tuple(alive), exact=False, store=store)
        read = torch.tensor([logits], dtype=torch.float64)
        return step([row], read=lambda rows: read.clone(), config=PLAIN)[0].alive

    ours = after(drafts)
    assert len({draft.tokens for draft in ours}) == len(ours) == 3
    before = {draft.tokens: draft.score for draft in drafts}
    assert all(draft.score <= before[draft.tokens[:-1]] + 1e-12 for draft in ours)
    assert mixing_weights([draft.score for draft in ours]).sum() == pytest.approx(1)
    if len({*logits}) == 12:
        assert sorted(after([drafts[n] for n in order]), key=str) == sorted(ours, key=str)


def test_no_candidate_is_lost_at_a_low_temperature() -> None:
    logits = torch.tensor([[0.0, -7.0, -30.0]])  # a softmax in float32 has zeros there at 0.06
    ids, log_probs = likeliest(logits, count=3, temperature=0.06)
    assert ids.tolist() == [[0, 1, 2]]
    assert log_probs[0].tolist() == pytest.approx([0, -7 / 0.06, -500])


def test_only_drafts_of_which_the_store_knows_nothing_pay_the_penalty() -> None:
    store = Counted([[7, 1, 2], [7, 1, 3]])  # behind 7 1 come 2 and 3; of 9 nothing is known
    logits = torch.log(torch.tensor([[0.1, 0.1, 0.4, 0.3, 0.1]], dtype=torch.float64))
    config = replace(PLAIN, k=4, candidates=5, temperature=1.0)
    alive = (Draft((1,), -1.0), Draft((9,), -5.0))
    row = Row((7,), 4, lambda tokens: False, alive, exact=False, store=store)
    drafts = step([row], read=lambda rows: logits, config=config)[0].alive
    assert [draft.tokens for draft in drafts] == [(1, 2), (1, 3), (9, 2), (9, 3)]
    known = 0.46 * math.log(0.4) + 0.54 * math.log(0.01 * 0.5 + 0.04 * 0.5)
    assert drafts[0].score == pytest.approx(-1 + known)
    # though other tokens behind 7 1, unknown as well, would score higher
    assert drafts[2].score == pytest.approx(-5 + 0.46 * math.log(0.4) - 200)


def test_the_first_step_pays_no_penalty_and_too_few_known_tokens_are_filled_up() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.4, 0.3]], dtype=torch.float64))
    config = replace(PLAIN, k=3, candidates=4, temperature=1.0)
    unknown = Row((9,), 3, lambda tokens: False, store=Counted([[7, 1]]))
    (row,) = step([unknown], read=lambda rows: logits, config=config)
    assert [draft.tokens for draft in row.alive] == [(2,), (3,), (1,)]
    assert row.alive[0].score == pytest.approx(0.46 * math.log(0.4))
    known = replace(unknown, context=(7,))
    (row,) = step([known], read=lambda rows: logits, config=config)
    assert [draft.tokens for draft in row.alive] == [(1,), (2,), (3,)]
    assert row.alive[1].score == pytest.approx(0.46 * math.log(0.4) - 200)
    (row,) = step(
        [known], read=lambda rows: logits, config=replace(config, first_token_ngrams=False)
    )
    assert [draft.tokens for draft in row.alive] == [(2,), (3,), (1,)]
    assert row.alive[0].score == pytest.approx(math.log(0.4))


def test_where_few_tokens_may_come_there_are_fewer_drafts() -> None:
    allowed = torch.tensor([False, True, False, True])
    row = Row((), 3, lambda tokens: False, allowed=allowed)
    config = replace(PLAIN, k=3, candidates=4)
    (row,) = step([row], read=lambda rows: torch.zeros(1, 4, dtype=torch.float64), config=config)
    assert {draft.tokens for draft in row.alive} == {(1,), (3,)}
    (row,) = step([row], read=lambda rows: torch.zeros(1, 4, dtype=torch.float64), config=config)
    assert len(row.alive) == 3  # and then as ever


def test_only_ends_among_the_k_best_are_kept() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.4, 0.3]], dtype=torch.float64))
    config = replace(PLAIN, k=1, candidates=4)
    start = Row((), 1, lambda tokens: tokens[-1] in (2, 3))
    (row,) = step([start], read=lambda rows: logits, config=config)
    assert [draft.tokens for draft in row.finished] == [(2,)]  # and not 3, the second best
    assert [draft.tokens for draft in row.alive] == [(1,)]
    (row,) = step([start], read=lambda rows: logits, config=replace(config, refill=False))
    assert (len(row.finished), row.alive, row.width) == (1, (), 0)


def test_an_anchored_first_token_keeps_its_draft_when_another_ends() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.4, 0.3]], dtype=torch.float64))
    config = replace(PLAIN, k=2, candidates=4, anchor_first=True)
    alive = (Draft((0,), -1.0), Draft((1,), -9.0))
    row = Row((), 2, lambda tokens: tokens == (0, 2), alive, exact=False)
    (row,) = step([row], read=lambda rows: logits, config=config)
    assert [draft.tokens for draft in row.finished] == [(0, 2)]
    assert [draft.tokens for draft in row.alive] == [(0, 3), (1, 2)]


def test_alpha_is_the_share_of_the_n_grams() -> None:
    model, prompt = tiny.model(), tiny.ids(1, 15)[0].tolist()
    store = Counted([*TEXTS, prompt * 2])
    config = replace(PLAIN, max_new_tokens=4)

    def drafts(config: SuperposedConfig, store: Any = None) -> list[Any]:
        return [row.alive for row in run(model, prompt, config=config, store=store)]

    none = drafts(config)
    assert drafts(replace(config, alpha=0.0), store) == none
    assert drafts(config, store) != none
    # alone, they rank the model's candidates
    only = replace(config, alpha=1.0, max_new_tokens=1, candidates=60, lambdas=(1.0,))
    first = run(model, prompt, config=only, store=store)[-1].alive
    order = store.probabilities(prompt, range(tiny.VOCAB))[0]
    assert math.exp(first[0].score) == pytest.approx(order.max())


def test_two_drafts_with_the_same_last_token_add_their_weights() -> None:
    vectors = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    gamma = np.array([0.5, 0.2, 0.3])
    both = superposed_embedding(vectors[[0, 0, 2]], gamma)
    assert torch.allclose(both, superposed_embedding(vectors[[0, 2]], np.array([0.7, 0.3])))
    half = superposed_embedding(vectors.bfloat16(), gamma)
    exact = (torch.tensor(gamma)[:, None] * vectors.bfloat16().double()).sum(0)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, exact.float().bfloat16())  # mixed in more than bfloat16


def test_orders_beyond_those_of_a_store_or_of_the_weights_are_left_out() -> None:
    assert ngram_mixture(np.array([[0.5], [0.25]]), (0.1, 0.2, 0.3)) == pytest.approx([0.1])
    assert ngram_mixture(np.array([[0.5], [0.25]]), (0.1,)) == pytest.approx([0.05])
    assert interpolated(np.array([-1.0]), np.array([0.0]), alpha=0.5)[0] == -np.inf


def test_weights_are_more_even_at_a_higher_temperature() -> None:
    scores = [-1.0, -3.0]
    assert mixing_weights(scores, temperature=1e9) == pytest.approx([0.5, 0.5])
    assert mixing_weights(scores, temperature=1e-3) == pytest.approx([1, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"temperature": 0.0},
        {"alpha": 1.5},
        {"lambdas": (0.7, 0.7)},
        {"candidates": 2},
        {"reset_every": 0},
        {"stop": ("",)},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SuperposedConfig(**wrong)
