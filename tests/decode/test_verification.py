"""What is kept of a draft leaves the target's law as it is: by enumeration, in exact arithmetic."""

import itertools
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attar.decode.verification import BlockRule, Drafts, Rule, TokenRule, verify, verify_greedy

RULES = {"token": TokenRule(), "block": BlockRule()}
Law = dict[tuple[int, ...], float]


class Toy:
    """A language model as a table: the next token's law for every prefix."""

    def __init__(self, size: int, seed: int, *, zeros: bool = False) -> None:
        self.size, self._seed, self._zeros = size, seed, zeros

    def __call__(self, prefix: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self._seed, prefix)) % 2**31)
        law = torch.rand(self.size, generator=generator, dtype=torch.float64) ** 2
        if self._zeros:
            law[torch.randint(self.size, (1,), generator=generator)] = 0
        return law / law.sum()


def law_of(model: Toy, length: int) -> Law:
    """Of all texts of a length."""
    found: Law = {(): 1.0}
    for _ in range(length):
        found = {
            (*text, token): chance * float(p)
            for text, chance in found.items()
            for token, p in enumerate(model(text))
        }
    return found


def block(
    target: Toy,
    prefix: tuple[int, ...],
    drafted: tuple[int, ...],
    q: list[Tensor] | None,
    rule: Rule,
) -> Law:
    """What one verification adds to a prefix, and how likely."""
    texts = [prefix + drafted[:i] for i in range(len(drafted) + 1)]
    drafts = Drafts(
        tokens=torch.tensor([drafted], dtype=torch.long).view(1, -1),
        lengths=torch.tensor([len(drafted)]),
        p=torch.stack([target(text) for text in texts])[None],
        q=None if q is None else torch.stack(q)[None] if q else torch.zeros(1, 0, target.size),
    )
    stay = rule.acceptance(drafts)
    found: Law = defaultdict(float)
    for below in itertools.product([False, True], repeat=len(drafted)):
        chance = 1.0
        for passed, threshold in zip(below, stay[0].tolist(), strict=True):
            chance *= threshold if passed else 1 - threshold
        if not chance:
            continue
        kept = rule.count(torch.tensor([below], dtype=torch.bool).view(1, -1))
        rest = rule.residual(drafts, kept)[0]
        for token, p in enumerate(rest / rest.sum()):
            found[(*drafted[: int(kept)], token)] += chance * float(p)
    return found


Policy = Callable[[tuple[int, ...], int, float], list[tuple[float, bool]]]
"""(prefix, tokens drafted so far, draft's probability of the last) -> (chance, draft on?)."""


def generate(
    target: Toy,
    draft: Toy,
    length: int,
    *,
    rule: Rule,
    policy: Policy,
    most: int,
    discard: bool = False,
    certain: bool = False,
) -> Law:
    """The law of the first tokens of speculative decoding. `discard`: the fault of throwing a drawn
    token away by its own probability. `certain`: the draft proposes its likeliest token."""
    done: Law = defaultdict(float)
    open_: Law = {(): 1.0}
    while open_:
        grown: Law = defaultdict(float)
        for text, chance in open_.items():
            if len(text) >= length:
                done[text[:length]] += chance
                continue
            for drafted, laws, likely in _drafts(
                draft, text, policy, most, discard=discard, certain=certain
            ):
                q = None if certain else laws
                for added, p in block(target, text, drafted, q, rule).items():
                    grown[text + added] += chance * likely * p
        open_ = {text: chance for text, chance in grown.items() if chance > 0}
    return done


def _drafts(
    draft: Toy,
    text: tuple[int, ...],
    policy: Policy,
    most: int,
    *,
    discard: bool,
    certain: bool,
) -> list[tuple[tuple[int, ...], list[Tensor], float]]:
    """All that may be drafted, with the laws it was drawn from and how likely it is."""
    done: list[tuple[tuple[int, ...], list[Tensor], float]] = []
    open_: list[tuple[tuple[int, ...], list[Tensor], float]] = [((), [], 1.0)]
    while open_:
        drafted, laws, likely = open_.pop()
        if len(drafted) == most:
            done.append((drafted, laws, likely))
            continue
        law = draft(text + drafted)
        tokens = [int(law.argmax())] if certain else range(draft.size)
        for token in tokens:
            p = 1.0 if certain else float(law[token])
            if discard and law[token] < 0.3:  # looks at its own value, and goes without it
                done.append((drafted, laws, likely * p))
                continue
            for chance, on in policy(text, len(drafted) + 1, float(law[token])):
                more = ((*drafted, token), [*laws, law], likely * p * chance)
                (open_ if on else done).append(more)
    return done


def constant(text: tuple[int, ...], drafted: int, q: float) -> list[tuple[float, bool]]:
    return [(1.0, True)]


def at_random(text: tuple[int, ...], drafted: int, q: float) -> list[tuple[float, bool]]:
    return [(0.6, True), (0.4, False)]


def confident(text: tuple[int, ...], drafted: int, q: float) -> list[tuple[float, bool]]:
    """Keeps what was drawn, and then stops if it was unlikely."""
    return [(1.0, q >= 0.4)]


def apart(one: Law, other: Law) -> float:
    """Total variation."""
    return sum(abs(one.get(t, 0.0) - other.get(t, 0.0)) for t in {*one, *other}) / 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("policy", [constant, at_random, confident])
@pytest.mark.parametrize(("size", "most", "zeros"), [(3, 2, False), (4, 1, True), (3, 3, True)])
def test_the_law_of_the_text_is_the_target_s(
    rule: str, policy: Policy, size: int, most: int, zeros: bool
) -> None:
    target, draft = Toy(size, 1, zeros=zeros), Toy(size, 2, zeros=zeros)
    found = generate(target, draft, 3, rule=RULES[rule], policy=policy, most=most)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)
    assert apart(found, law_of(target, 3)) < 1e-12


@pytest.mark.parametrize("rule", RULES)
def test_a_draft_without_chance_leaves_the_law_too(rule: str) -> None:
    target, draft = Toy(3, 1), Toy(3, 2)
    found = generate(target, draft, 3, rule=RULES[rule], policy=constant, most=2, certain=True)
    assert apart(found, law_of(target, 3)) < 1e-12


def test_throwing_away_by_its_own_value_is_seen() -> None:
    """The test above can fail: this fault is the usual one."""
    target, draft = Toy(3, 1), Toy(3, 2)
    found = generate(target, draft, 3, rule=TokenRule(), policy=constant, most=2, discard=True)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)
    assert apart(found, law_of(target, 3)) > 1e-3


def test_a_block_keeps_at_least_as_much() -> None:
    """Example of a small size: two drafted tokens of three."""

    def kept(rule: Rule, seed: int) -> float:
        target, draft = Toy(3, seed), Toy(3, seed + 1)
        total = 0.0
        for drafted, laws, likely in _drafts(draft, (), constant, 2, discard=False, certain=False):
            added = block(target, (), drafted, laws, rule)
            total += likely * sum(p * (len(text) - 1) for text, p in added.items())
        return total

    gains = [kept(BlockRule(), seed) - kept(TokenRule(), seed) for seed in range(20)]
    assert min(gains) > -1e-12
    assert max(gains) > 0.01


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_rows_of_different_lengths_are_judged_as_alone(rows: int, most: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def laws(*shape: int) -> Tensor:
        found = torch.rand(*shape, 5, generator=generator, dtype=torch.float64)
        return found / found.sum(-1, keepdim=True)

    tokens = torch.randint(5, (rows, most), generator=generator)
    lengths = torch.randint(most + 1, (rows,), generator=generator)
    p, q = laws(rows, most + 1), laws(rows, most)
    uniforms = torch.rand(rows, most + 1, generator=generator)
    for rule in RULES.values():
        kept, following = verify(Drafts(tokens, lengths, p, q), uniforms, rule=rule)
        for r, n in enumerate(lengths.tolist()):
            own = torch.cat([uniforms[r : r + 1, :n], uniforms[r : r + 1, -1:]], 1)
            alone = Drafts(
                tokens[r : r + 1, :n], lengths[r : r + 1], p[r : r + 1, : n + 1], q[r : r + 1, :n]
            )
            one, token = verify(alone, own, rule=rule)
            assert (int(one), int(token)) == (int(kept[r]), int(following[r]))


def test_what_cannot_be_is_never_kept() -> None:
    """A random number of exactly 0 does not let a token of probability 0 pass."""
    p = torch.tensor([[[0.0, 0.5, 0.5], [0.2, 0.3, 0.5]]])
    q = torch.tensor([[[1.0, 0.0, 0.0]]])
    drafts = Drafts(torch.tensor([[0]]), torch.tensor([1]), p, q)
    for rule in RULES.values():
        kept, token = verify(drafts, torch.zeros(1, 2), rule=rule)
        assert (int(kept), int(token)) == (0, 1)


def test_greedy_drafts_are_compared() -> None:
    best = torch.tensor([[4, 5, 6], [4, 5, 6], [4, 5, 6]])
    tokens, lengths = torch.tensor([[4, 5], [4, 9], [4, 5]]), torch.tensor([2, 2, 1])
    kept, token = verify_greedy(tokens, lengths=lengths, best=best)
    assert kept.tolist() == [2, 1, 1]
    assert token.tolist() == [6, 5, 5]
    empty = torch.zeros(3, 0, dtype=torch.long)
    kept, token = verify_greedy(empty, lengths=torch.zeros(3, dtype=torch.long), best=best[:, :1])
    assert (kept.tolist(), token.tolist()) == ([0, 0, 0], [4, 4, 4])
