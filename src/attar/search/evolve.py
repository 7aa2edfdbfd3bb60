"""The evolutionary search of HAT (Wang et al., 2020, arXiv 2005.14187), within limits.

Deviations: an individual is scored once, however often it comes up; a population holds nobody
twice; where limits are too tight for draws to meet them, individuals are moved towards them, and
an iteration may have fewer mutants and children than asked for; scores are shared by any number of
workers.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attar.errors import check_types, require
from attar.runtime import Bar
from attar.search.evaluations import Evaluation, Evaluations
from attar.search.individuals import Genes, Problem, Region, crossed, mutated


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """How an evolutionary search goes; the defaults are HAT's.

    Attributes:
        population: individuals of the first iteration.
        parents: the best of an iteration, which live on.
        mutations: mutants that an iteration adds.
        crossovers: children of two parents that it adds.
        mutation_probability: of each gene of a mutant to be drawn anew.
        iterations: how many populations are scored; a search may be given more later.
        seed: of all draws.

    Raises:
        ConfigError: a value is out of its range.
    """

    population: int = 125
    parents: int = 25
    mutations: int = 50
    crossovers: int = 50
    mutation_probability: float = 0.3
    iterations: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("population", "parents", "iterations"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("mutations", "crossovers"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        p = self.mutation_probability
        require(0 <= p <= 1, "mutation_probability", p, "between 0 and 1")


@dataclass(frozen=True)
class Evolution:
    """What a search found.

    Attributes:
        history: every individual that was scored, in the order in which it was asked for.
        best_scores: the best score after each iteration; it never falls.
    """

    history: tuple[Evaluation, ...]
    best_scores: tuple[float, ...]

    @property
    def best(self) -> Evaluation:
        """The individual with the highest score."""
        return ranked(self.history)[0]


def ranked(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those that have a score, best first; of equal ones that with the smaller genes."""
    scored = [(-one.score, one.genes, one) for one in evaluations if one.score is not None]
    return [one for _, _, one in sorted(scored, key=lambda row: row[:2])]


def evolve(
    problem: Problem,
    config: EvolutionConfig = EvolutionConfig(),
    *,
    folder: str | Path,
    storage: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Evolution:
    """Search for the individual with the highest score among those that keep the limits.

    A population depends on nothing but the seed, its iteration and the scores of the one before. So
    all workers go through the same ones, and a search that was killed goes on to the same end.

    Args:
        problem: what is searched.
        config: how.
        folder: of the search; many workers may share it, and the same call again continues.
        storage: URL of a database that many machines share; None: a file in the folder.
        settings: what scores and limits depend on, such as the space, the model, the data and the
            budget; another search in the same folder is told by them, and refused.

    Raises:
        BudgetError: no individual that keeps the limits was found; names the nearest.
        ConfigError: the folder holds a search with other settings, or the storage cannot be opened.
        AttarError: nobody of the first population could be scored.
    """
    options = {name: v for name, v in asdict(config).items() if name not in ("iterations", "seed")}
    region, best_scores = Region(problem), list[float]()
    population = region.start(config.population, _rng(config, 0))
    with Evaluations.open(
        problem,
        Path(folder),
        storage=storage,
        settings={"evolution": options, **(settings or {})},
        seed=config.seed,
    ) as evaluations:
        for iteration in Bar(range(config.iterations), desc="evolving", unit="iteration"):
            # 1. Score the population. 2. The best are the parents of the next one,
            scored = ranked(evaluations.of(list(population), iteration=iteration))
            best_scores.append(scored[0].row()["score"])
            parents = {one.genes: population[one.genes] for one in scored[: config.parents]}
            # 3. which is these, their mutants and their children.
            if iteration + 1 < config.iterations:
                rng = _rng(config, iteration + 1)
                population = _offspring(parents, region, config=config, rng=rng)
        return Evolution(tuple(evaluations.history.values()), tuple(best_scores))


def _offspring(
    parents: Mapping[Genes, Genes], region: Region, *, config: EvolutionConfig, rng: random.Random
) -> dict[Genes, Genes]:
    """Parents, mutants and children, all feasible and different."""
    pool, choices = list(parents.values()), region.problem.choices

    def mutant() -> Genes:
        p = config.mutation_probability
        return mutated(rng.choice(pool), choices, probability=p, rng=rng)

    def child() -> Genes:
        mother, father = rng.sample(pool, 2) if len(pool) > 1 else pool * 2
        return crossed(mother, father, rng=rng)

    family = {**parents, **region.drawn(mutant, config.mutations, rng=rng, besides=parents)}
    return family | region.drawn(child, config.crossovers, rng=rng, besides=family)


def _rng(config: EvolutionConfig, iteration: int) -> random.Random:
    return random.Random(f"{config.seed}/{iteration}")


def score_all(
    problem: Problem,
    *,
    folder: str | Path,
    storage: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Evolution:
    """Score every individual that keeps the limits, where there are few enough to list them all.

    Args:
        problem: what is searched.
        folder: as for `evolve`, and so for what follows.
        storage: likewise.
        settings: likewise.
        seed: of the scores; it is kept with them.

    Raises:
        BudgetError: no individual keeps the limits; names the nearest.
        ConfigError: the folder holds a search with other settings, or the storage cannot be opened.
        AttarError: nobody could be scored.
    """
    region = Region(problem)
    listed = Bar(problem.all_genes(), desc="counting", unit="network", leave=False)
    feasible = [genes for genes in listed if region.violation(genes) == 0]
    if not feasible:
        raise region.error()
    with Evaluations.open(
        problem,
        Path(folder),
        storage=storage,
        settings={"evolution": None, **(settings or {})},
        seed=seed,
    ) as evaluations:
        best = ranked(evaluations.of(feasible))[0]
        return Evolution(tuple(evaluations.history.values()), (best.row()["score"],))
