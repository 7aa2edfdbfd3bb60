"""The genetic algorithm of the paper, for spaces that are too large to look at every encoder."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attar.arch import Genes
from attar.errors import check_types, require
from attar.methods.compressor.space import EncoderShape, EncoderSpace
from attar.search.statistics import Array

Fitness = Callable[[Sequence[EncoderShape]], tuple[Array, Array]]
"""Of many encoders: their fitness `(N,)`, the higher, the better; and by how much each overruns its
limits, `(N,)`, where zero or less means that it keeps them."""

#: a child that is somebody else's twin is mutated so often at most before the space is taken for
#: too small
_TRIES = 10_000


@dataclass(frozen=True, kw_only=True)
class GeneticConfig:
    """How the genetic algorithm goes; the defaults are those of the official code.

    Attributes:
        population: encoders that live.
        generations: how often children are made.
        crossover: the probability that two parents are crossed; otherwise both are mutated.
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
class Individual:
    """An encoder of a population.

    Attributes:
        genes: places of its values on the axes of the space.
        sorted_keys: the order in which its genes are crossed out: that of the space, or, after a
            crossover, that of their sorted names.
    """

    genes: Genes
    sorted_keys: bool = False


@dataclass(frozen=True)
class GeneticResult:
    """What the genetic algorithm found.

    Attributes:
        population: the last one, best first.
        best_fitness: the best fitness after the first population and after each generation; among
            encoders that keep the limits it never falls.
        evaluated: how many encoders were scored.
    """

    population: tuple[EncoderShape, ...]
    best_fitness: tuple[float, ...]
    evaluated: int


def genetic_search(
    space: EncoderSpace, fitness: Fitness, *, config: GeneticConfig = GeneticConfig()
) -> GeneticResult:
    """Search a space by the paper's genetic algorithm.

    Args:
        space: what is searched.
        fitness: of many encoders at once.
        config: how.

    Raises:
        ConfigError: the space has too few encoders for a population and its children.
    """
    raise NotImplementedError
