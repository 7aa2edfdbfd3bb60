"""Problems for evolution whose best individual is known; scoring takes no time."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attar.search.evaluations import HISTORY_FILE
from attar.search.individuals import Genes, Problem


@dataclass
class Knapsack:
    """Genes are how many of each thing are packed: worth what they are worth, up to a weight.

    `scored` collects who was scored; of two things the second counts only where there is the first.
    """

    choices: tuple[int, ...] = (4, 4, 4, 4, 4, 4)
    worth: tuple[int, ...] = (5, 4, 3, 7, 1, 6)
    weight: tuple[int, ...] = (4, 3, 1, 6, 2, 5)
    limit: int = 30
    at_least: int = 0
    before: Callable[[Genes], object] = lambda genes: None
    scored: list[Genes] = field(default_factory=list)

    def weighs(self, genes: Genes) -> int:
        return sum(w * gene for w, gene in zip(self.weight, genes, strict=True))

    def value(self, genes: Genes) -> float:
        # things of one kind are worth less and less
        return float(sum(v * gene**0.5 for v, gene in zip(self.worth, genes, strict=True)))

    def score(self, genes: Genes) -> float:
        self.before(genes)
        self.scored.append(genes)
        return self.value(genes)

    def excess(self, genes: Genes) -> dict[str, float]:
        weight = self.weighs(genes)
        return {"max": weight / self.limit - 1, "min": 1 - weight / max(self.at_least, 1)}

    def feasible(self, genes: Genes) -> bool:
        return self.at_least <= self.weighs(genes) <= self.limit

    @property
    def problem(self) -> Problem:
        return Problem(
            self.choices,
            score=self.score,
            excess=lambda g: self.excess(g) if self.at_least else self.excess(g)["max"],
            cost=lambda g: {"params": self.weighs(g)},
        )

    def all_feasible(self) -> list[Genes]:
        return [g for g in itertools.product(*map(range, self.choices)) if self.feasible(g)]


@dataclass(frozen=True)
class Towers:
    """A space of towers: how many storeys, and the height of each; there are as many heights."""

    storeys: int = 3
    heights: Sequence[int] = (1, 2, 3)

    @property
    def choices(self) -> tuple[int, ...]:
        return (self.storeys, *(len(self.heights),) * self.storeys)

    def decode(self, genes: Genes) -> tuple[int, ...]:
        return tuple(self.heights[gene] for gene in genes[1 : genes[0] + 2])

    def genes_of(self, individual: tuple[int, ...]) -> Genes:
        genes = tuple(self.heights.index(height) for height in individual)
        return (len(individual) - 1, *genes, *(0,) * (self.storeys - len(individual)))


def history(folder: Path) -> str:
    return (folder / HISTORY_FILE).read_text()
