"""Individuals of an evolutionary search, and those among them that keep the limits.

An individual is its genes: for each decision a whole number, which of its choices is taken. Nothing
here knows what they mean: a problem says what an individual scores, and by how much it overruns its
limits.
"""

import itertools
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from attar.errors import BudgetError, require
from attar.report.units import amount

Genes = tuple[int, ...]
A = TypeVar("A")

#: draws for each individual that is wanted, before those that overrun a limit are repaired
TRIES = 20
#: what a limit may be overrun by, as a share of it: rounding, as in `Budget.admits`
_ROUNDING = 1e-9


class Genome(Protocol[A]):
    """What can be written as genes, such as a space of architectures."""

    @property
    def choices(self) -> Sequence[int]:
        """How many choices each gene has."""
        ...

    def decode(self, genes: Genes) -> A:
        """What the genes mean; genes that have no effect may be anything."""
        ...

    def genes_of(self, individual: A) -> Genes:
        """Its genes, always the same ones; those that have no effect are 0."""
        ...


def _as_they_are(genes: Genes) -> Genes:
    return genes


def _no_limits(genes: Genes) -> float:
    return 0.0


def _not_counted(genes: Genes) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Problem:
    """What is searched. All functions are pure: workers on several machines must agree.

    Attributes:
        choices: how many choices each gene has.
        score: of an individual; the higher, the better (for a loss: the negative loss).
        excess: by how much an individual overruns its limits: one number, or one for each limit as
            from `Budget.excess`; zero or less means that it is kept. For an interval, the larger of
            what is too much and what is too little.
        cost: figures of an individual that are kept with its score, by name.
        canonical: the genes that stand for all those that mean the same.
    """

    choices: Sequence[int]
    score: Callable[[Genes], float]
    excess: Callable[[Genes], float | Mapping[str, float]] = _no_limits
    cost: Callable[[Genes], Mapping[str, float]] = _not_counted
    canonical: Callable[[Genes], Genes] = _as_they_are

    def __post_init__(self) -> None:
        fine = bool(self.choices) and all(choices >= 1 for choices in self.choices)
        require(fine, "choices", list(self.choices), "at least one number of choices, each above 0")

    @classmethod
    def of(
        cls,
        genome: Genome[A],
        score: Callable[[A], float],
        *,
        excess: Callable[[A], float | Mapping[str, float]] = lambda individual: 0.0,
        cost: Callable[[A], Mapping[str, float]] = lambda individual: {},
    ) -> "Problem":
        """The problem of what can be written as genes, with functions of what they mean."""
        return cls(
            choices=tuple(genome.choices),
            score=lambda genes: score(genome.decode(genes)),
            excess=lambda genes: excess(genome.decode(genes)),
            cost=lambda genes: cost(genome.decode(genes)),
            canonical=lambda genes: genome.genes_of(genome.decode(genes)),
        )

    def all_genes(self) -> list[Genes]:
        """Every individual once, by its canonical genes, small ones first."""
        every = itertools.product(*map(range, self.choices))
        return list(dict.fromkeys(map(self.canonical, every)))

    def violation(self, genes: Genes) -> float:
        """The sum of what the limits are overrun by; 0 for a feasible individual.

        Raises:
            ConfigError: an excess is not a number.
        """
        excess = self.excess(genes)
        values = list(excess.values()) if isinstance(excess, Mapping) else [excess]
        require(not any(map(math.isnan, values)), "excess", excess, "a number for each limit")
        return sum(float(value) for value in values if value > _ROUNDING)


class Region:
    """The feasible individuals of a problem, and how they are reached."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._violations: dict[Genes, float] = {}

    def violation(self, genes: Genes) -> float:
        """As `Problem.violation`; each individual is looked at once."""
        key = self.problem.canonical(genes)
        if key not in self._violations:
            self._violations[key] = self.problem.violation(key)
        return self._violations[key]

    def drawn(
        self,
        draw: Callable[[], Genes],
        wanted: int,
        *,
        rng: random.Random,
        besides: Collection[Genes] = (),
    ) -> dict[Genes, Genes]:
        """Up to so many different feasible individuals, by their canonical genes.

        Draws are rejected while they overrun a limit. Where that gives too few, the rejected ones
        are repaired, the nearest first. There may be fewer all the same, such as in a small space.

        Args:
            draw: makes an individual.
            wanted: how many.
            rng: for repairs.
            besides: canonical genes of individuals that are there already.
        """
        found: dict[Genes, Genes] = {}
        rejected: dict[Genes, Genes] = {}

        def keep(genes: Genes) -> None:
            key = self.problem.canonical(genes)
            if self.violation(genes) > 0:
                rejected.setdefault(key, genes)
            elif key not in besides:
                found.setdefault(key, genes)

        for _ in range(TRIES * wanted):
            if len(found) == wanted:
                return found
            keep(draw())
        for genes in sorted(rejected.values(), key=self.violation)[: 2 * wanted]:
            if len(found) == wanted:
                break
            keep(self.repaired(genes, rng))
        return found

    def start(self, wanted: int, rng: random.Random) -> dict[Genes, Genes]:
        """The same of individuals that are drawn uniformly; at least one.

        Raises:
            BudgetError: none was found; names the nearest.
        """
        choices = self.problem.choices
        found = self.drawn(lambda: tuple(map(rng.randrange, choices)), wanted, rng=rng)
        if not found:
            # Most limits are on a size: the smallest and the largest network are the way out.
            for corner in ((0,) * len(choices), tuple(n - 1 for n in choices)):
                genes = self.repaired(corner, rng)
                if self.violation(genes) == 0:
                    found[self.problem.canonical(genes)] = genes
        if not found:
            raise self.error()
        return found

    def repaired(self, genes: Genes, rng: random.Random) -> Genes:
        """Move genes by one choice each, as long as that brings the individual nearer to its
        limits: the genes where that ends, which may still overrun them."""
        here = self.violation(genes)
        while here > 0:
            for moved in _neighbours(genes, self.problem.choices, rng=rng):
                if self.violation(moved) < here:
                    genes, here = moved, self.violation(moved)
                    break
            else:
                break
        return genes

    def error(self) -> BudgetError:
        """That no individual of those seen so far is feasible; names the nearest."""
        nearest = min(self._violations, key=self._violations.__getitem__)
        excess = self.problem.excess(nearest)
        limits = excess if isinstance(excess, Mapping) else {"": excess}
        over = [f"{key} {value:.2%}".strip() for key, value in limits.items() if value > _ROUNDING]
        cost = self.problem.cost(nearest)
        sizes = ", ".join(f"{key} {amount(key, value)}" for key, value in cost.items())
        return BudgetError(
            f"no candidate keeps the limits: the nearest of {len(self._violations)} "
            f"{f'has {sizes} and ' if sizes else ''}is over by {', '.join(over)}; allow as much, "
            "or widen the space"
        )


def _neighbours(genes: Genes, choices: Sequence[int], *, rng: random.Random) -> list[Genes]:
    """All that differ by one step of one gene, in random order."""
    steps = [
        (at, gene + step)
        for at, gene in enumerate(genes)
        for step in (-1, 1)
        if 0 <= gene + step < choices[at]
    ]
    rng.shuffle(steps)
    return [(*genes[:at], gene, *genes[at + 1 :]) for at, gene in steps]


def mutated(
    genes: Genes, choices: Sequence[int], *, probability: float, rng: random.Random
) -> Genes:
    """Each gene is drawn anew, uniformly, with this probability."""
    return tuple(
        rng.randrange(n) if rng.random() < probability else gene
        for gene, n in zip(genes, choices, strict=True)
    )


def crossed(mother: Genes, father: Genes, *, rng: random.Random) -> Genes:
    """Each gene is that of one of the two, with equal chances (uniform crossover)."""
    return tuple(rng.choice(pair) for pair in zip(mother, father, strict=True))


def as_genes(stored: Sequence[Any]) -> Genes:
    """Genes as they were read from JSON."""
    return tuple(int(gene) for gene in stored)
