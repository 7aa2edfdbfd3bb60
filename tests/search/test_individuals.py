"""Individuals that keep their limits are found where there are any."""

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from attar.budget import Budget, Cost
from attar.errors import BudgetError, ConfigError
from attar.search.individuals import TRIES, Problem, Region, crossed, mutated
from breeding import Knapsack, Towers

SEEDS = st.integers(0, 10**6)
CHOICES = st.lists(st.integers(1, 5), min_size=1, max_size=6).map(tuple)


@st.composite
def knapsacks(draw: st.DrawFn) -> Knapsack:
    choices = draw(CHOICES)
    weight = tuple(draw(st.integers(1, 9)) for _ in choices)
    limit, at_least = draw(st.integers(1, 60)), draw(st.integers(0, 60))
    return Knapsack(choices, (1,) * len(choices), weight, limit=limit, at_least=at_least)


@given(knapsacks(), SEEDS, st.integers(1, 20))
def test_a_start_keeps_the_limits_and_holds_nobody_twice(
    sack: Knapsack, seed: int, wanted: int
) -> None:
    region = Region(sack.problem)
    try:
        found = region.start(wanted, random.Random(seed))
    except BudgetError:
        return
    assert 1 <= len(found) <= wanted
    assert all(sack.feasible(genes) for genes in found)
    assert [*found] == [*found.values()]  # here all genes have an effect
    assert found == Region(sack.problem).start(wanted, random.Random(seed))


@given(knapsacks(), SEEDS)
def test_a_start_is_found_where_single_steps_lead_to_one(sack: Knapsack, seed: int) -> None:
    """With an upper limit alone, where the smallest keeps it; in an interval, where it holds a
    weight and no step leaps over it."""
    wide = sack.limit - sack.at_least >= max(sack.weight)
    assume(sack.at_least == 0 or wide)
    heaviest = sack.weighs(tuple(n - 1 for n in sack.choices))
    exists = heaviest >= sack.at_least
    region = Region(sack.problem)
    if exists:
        assert region.start(5, random.Random(seed))
    else:
        with pytest.raises(BudgetError, match=rf"params {heaviest} "):
            region.start(5, random.Random(seed))


def test_an_interval_that_draws_never_meet_is_reached_by_repair() -> None:
    """Of 10^18 individuals about 10^6 are within the limits: the sum of 30 genes is at most 5."""
    sack = Knapsack((4,) * 30, (1,) * 30, (1,) * 30, limit=5, at_least=4)
    draws = random.Random(0)
    every = (tuple(draws.randrange(4) for _ in range(30)) for _ in range(TRIES * 20))
    assert not any(map(sack.feasible, every))
    found = Region(sack.problem).start(20, random.Random(0))
    assert len(found) == 20
    assert all(map(sack.feasible, found))


def test_limits_out_of_reach_name_the_nearest_size() -> None:
    sack = Knapsack((3, 3), (1, 1), (4, 7), limit=100, at_least=50)
    message = (
        r"no candidate keeps the limits: the nearest of 9 has params 22 and is over by min "
        r"56\.00%; allow as much, or widen the space"
    )
    with pytest.raises(BudgetError, match=message):
        Region(sack.problem).start(5, random.Random(0))
    bare = Problem((2,), score=float, excess=lambda genes: 0.5)
    with pytest.raises(BudgetError, match=r"the nearest of 2 is over by 50\.00%"):
        Region(bare).start(5, random.Random(0))


@given(knapsacks(), SEEDS)
def test_a_repair_never_leads_further_off(sack: Knapsack, seed: int) -> None:
    rng = random.Random(seed)
    genes = tuple(rng.randrange(n) for n in sack.choices)
    region = Region(sack.problem)
    repaired = region.repaired(genes, rng)
    assert region.violation(repaired) <= region.violation(genes)
    assert all(0 <= gene < n for gene, n in zip(repaired, sack.choices, strict=True))
    if sack.feasible(genes):
        assert repaired == genes


@given(CHOICES, SEEDS)
def test_mutation_and_crossover_stay_in_the_space(choices: tuple[int, ...], seed: int) -> None:
    rng = random.Random(seed)
    mother, father = (tuple(rng.randrange(n) for n in choices) for _ in range(2))
    assert mutated(mother, choices, probability=0.0, rng=rng) == mother
    mutant = mutated(mother, choices, probability=0.5, rng=rng)
    assert all(0 <= gene < n for gene, n in zip(mutant, choices, strict=True))
    child = crossed(mother, father, rng=rng)
    assert all(gene in pair for gene, *pair in zip(child, mother, father, strict=True))
    assert crossed(mother, mother, rng=rng) == mother


def test_a_mutation_draws_the_share_of_genes_that_it_should() -> None:
    """A gene of 4 choices that is drawn anew stays as it was once in four."""
    rng, n = random.Random(0), 40_000
    mutant = mutated((0,) * n, (4,) * n, probability=0.3, rng=rng)
    assert sum(gene > 0 for gene in mutant) / n == pytest.approx(0.3 * 3 / 4, abs=0.01)
    child = crossed((0,) * n, (1,) * n, rng=rng)
    assert sum(child) / n == pytest.approx(0.5, abs=0.01)


def test_a_budget_gives_the_excess() -> None:
    budget = Budget.parse("params<=1.2M, bytes<=2MB")
    costs = {n: Cost(n * 10**6, 0, n * 10**6, 0, 0) for n in (1, 2, 3)}
    problem = Problem((3,), score=float, excess=lambda g: budget.excess(costs[g[0] + 1]))
    assert problem.violation((0,)) == 0
    assert problem.violation((1,)) == pytest.approx(2 / 1.2 - 1)
    assert problem.violation((2,)) == pytest.approx((3 / 1.2 - 1) + (3 / 2 - 1))


def test_genes_without_effect_make_nobody_different() -> None:
    towers = Towers()
    problem = Problem.of(
        towers, score=sum, excess=lambda t: sum(t) - 4, cost=lambda t: {"params": sum(t)}
    )
    assert len(problem.all_genes()) == 3 + 9 + 27
    assert problem.canonical((0, 2, 1, 1)) == (0, 2, 0, 0)
    found = Region(problem).start(100, random.Random(0))
    low = {t for t in map(towers.decode, problem.all_genes()) if sum(t) <= 4}
    assert {towers.decode(key) for key in found} == low
    assert all(problem.canonical(genes) == key for key, genes in found.items())
    assert any(genes != key for key, genes in found.items())  # they are inherited all the same


def test_a_problem_without_choices_or_with_nan_is_refused() -> None:
    with pytest.raises(ConfigError, match="choices must be"):
        Problem((3, 0), score=float)
    with pytest.raises(ConfigError, match="excess must be a number"):
        Problem((3,), score=float, excess=lambda genes: float("nan")).violation((0,))
