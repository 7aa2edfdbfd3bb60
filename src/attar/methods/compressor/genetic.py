"""The genetic algorithm of the paper, for spaces that are too large to look at every encoder."""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from attar.arch import Genes
from attar.errors import check_types, require
from attar.methods.compressor.space import EncoderShape, EncoderSpace, ShapeArrays
from attar.search.statistics import Array

Fitness = Callable[[ShapeArrays], tuple[Array, Array]]
"""Of `(N,)` encoders: their fitness, the higher, the better; and by how much each overruns its
limits, where zero or less means that it keeps them."""

#: places of the genes in the order of their published names: attention_heads, hidden_dim,
#: intermediate_size, n_layers, vocab_size
_SORTED = (1, 2, 3, 4, 0)


@dataclass(frozen=True, kw_only=True)
class GeneticConfig:
    """How the genetic algorithm goes; the defaults are those of the official code.

    Attributes:
        population: encoders of a generation.
        generations: how often children are made.
        crossover: the probability that two parents are crossed; otherwise each is mutated.
        seed: of all draws.

    Raises:
        ConfigError: a value is out of its range.
    """

    population: int = 50
    generations: int = 100
    crossover: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        require(self.population >= 2, "population", self.population, "2 or more")
        require(self.generations >= 0, "generations", self.generations, "0 or more")
        require(0 <= self.crossover <= 1, "crossover", self.crossover, "between 0 and 1")

    @property
    def evaluations(self) -> int:
        """How many encoders are scored."""
        return self.population * (1 + self.generations)


@dataclass(frozen=True)
class GeneticResult:
    """What the genetic algorithm found.

    Attributes:
        population: the last one, best first.
        best_fitness: the best fitness after the first population and after each generation; from
            the first encoder that keeps the limits on it never falls.
        evaluated: how many encoders were scored.
    """

    population: tuple[EncoderShape, ...]
    best_fitness: tuple[float, ...]
    evaluated: int


@dataclass(frozen=True)
class _Individual:
    """Genes, and the order in which they follow each other: that of the space, or, after a
    crossover, that of their sorted names."""

    genes: Genes
    order: Genes = (0, 1, 2, 3, 4)


def genetic_search(
    space: EncoderSpace, fitness: Fitness, *, config: GeneticConfig = GeneticConfig()
) -> GeneticResult:
    """Search a space by the paper's genetic algorithm, section 3.3 and the official code.

    The code takes no limits. Here an encoder that keeps them is better than one that does not, and
    of two that do not the one that overruns them by less.

    Args:
        space: what is searched.
        fitness: of many encoders at once.
        config: how.

    Raises:
        ConfigError: the space has too few encoders for a population and its children.
    """
    size, least = space.size, 4 * config.population
    expected = f"{least} encoders or more; look at all of a smaller one with method exact"
    require(size >= least, "the space of a genetic search", size, expected)
    rng, best = random.Random(config.seed), []

    def ranked(individuals: list[_Individual]) -> list[_Individual]:
        scores, excess = fitness(_arrays(space, [one.genes for one in individuals]))
        overrun = np.maximum(excess, 0.0)
        order = np.lexsort((-scores, overrun))  # stable: of equal ones the older is first
        best.append(float(scores[order[0]]))
        return [individuals[at] for at in order]

    # 1. Random encoders; a duplicate is mutated until it is new.
    population: list[_Individual] = []
    for _ in range(config.population):
        drawn = _Individual(space.canonical(tuple(map(rng.randrange, space.choices))))
        population.append(_new(drawn, {one.genes for one in population}, space=space, rng=rng))
    population = ranked(population)
    for _ in range(config.generations):
        # 2. Any two parents, however fit, have two children: by crossover, or else by mutation.
        children, genes = list[_Individual](), {one.genes for one in population}
        while len(children) < config.population:
            pair = rng.sample(population, 2)
            if rng.random() < config.crossover:
                pair = _crossed(pair[0], pair[1], space=space, rng=rng)
            else:
                # 3. In a mutant every gene from a random place on is drawn anew.
                pair = [_mutated(one, space=space, rng=rng) for one in pair]
            # 4. A child that is in the population already is mutated until it is new.
            for child in pair[: config.population - len(children)]:
                children.append(_new(child, genes, space=space, rng=rng))
                genes.add(children[-1].genes)
        # 5. The best of parents and children survive.
        population = ranked(population + children)[: config.population]
    return GeneticResult(
        population=tuple(space.decode(one.genes) for one in population),
        best_fitness=tuple(best),
        evaluated=config.evaluations,
    )


def _crossed(
    mother: _Individual, father: _Individual, *, space: EncoderSpace, rng: random.Random
) -> list[_Individual]:
    """Two children that swap all genes behind a cut, in the order of their sorted names."""
    tail = _SORTED[rng.randrange(1, len(_SORTED)) :]
    children = []
    for one, other in ((mother, father), (father, mother)):
        genes = tuple((other if at in tail else one).genes[at] for at in range(len(_SORTED)))
        children.append(_Individual(space.canonical(genes), _SORTED))
    return children


def _mutated(one: _Individual, *, space: EncoderSpace, rng: random.Random) -> _Individual:
    """From a random place on every gene becomes another, uniformly; one without others stays."""
    genes = list(one.genes)
    for at in one.order[rng.randrange(len(one.order)) :]:
        if space.choices[at] > 1:
            other = rng.randrange(space.choices[at] - 1)
            genes[at] = other + (other >= genes[at])
    return _Individual(space.canonical(tuple(genes)), one.order)


def _new(
    one: _Individual, others: Collection[Genes], *, space: EncoderSpace, rng: random.Random
) -> _Individual:
    while one.genes in others:
        one = _mutated(one, space=space, rng=rng)
    return one


def _arrays(space: EncoderSpace, genes: list[Genes]) -> ShapeArrays:
    places = np.array(genes, dtype=np.int64).T
    return ShapeArrays(*(np.asarray(a)[at] for a, at in zip(space.axes, places, strict=True)))
