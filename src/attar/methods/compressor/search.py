"""The search for the students of a budget: exact, or by a genetic algorithm."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from attar.errors import require
from attar.methods.compressor.costs import Limits, ShapeCosts, StudentCosts
from attar.methods.compressor.plans import StudentPlan
from attar.methods.compressor.space import EncoderSpace, ShapeArrays
from attar.search.statistics import Array

Objective = Literal["flops", "-flops", "latency", "pareto"]
"""`flops`: the most compute within the limits, as published. `-flops`, `latency`: the least compute
or time among the students that use at least 95% of the budget. `pareto`: students of which no other
has as much compute, takes as little time and reads as much."""
Score = Callable[[ShapeArrays, ShapeCosts], Array]
"""An objective of one's own, on arrays; the higher, the better; minus infinity leaves one out."""
Method = Literal["exact", "ga", "nsga2"]
CostModel = Literal["clean", "paper"]

#: points up to which a space is looked at whole
EXACT_POINTS = 50_000_000
#: the share of the budget that the cheapest students must use
USED = 0.95


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """How students are searched.

    Attributes:
        objective: what is best.
        method: `exact` looks at every point; `ga` is the paper's genetic algorithm; `nsga2` is for
            several objectives. None: exact for spaces below 50 million points, else `nsga2` for
            `pareto` and `ga` for the others.
        cost_model: `clean` counts exactly, look-ups free; `paper` takes the published formulas of
            size and fitness, with the bytes of the limits as the size to aim at.
        hard: no student overruns a limit. False, for `paper` only: as published, one may be larger.
        count: how many students.
        seed: of `ga` and `nsga2`.

    Raises:
        ConfigError: a value is out of its range, or two do not go together.
    """

    objective: Objective | Score = "flops"
    method: Method | None = None
    cost_model: CostModel = "clean"
    hard: bool = True
    count: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.count >= 1, "count", self.count, "1 or more")


def search_shapes(
    space: EncoderSpace,
    limits: Limits,
    *,
    costs: StudentCosts = StudentCosts(),
    config: PlanConfig = PlanConfig(),
) -> list[StudentPlan]:
    """The best students of a space within limits, best first; of `pareto` those of the front,
    spread over it.

    With clean costs and a named objective the number of heads is not searched, as it costs nothing
    and would be a matter of chance: every width has that number of the space whose heads are
    nearest to 32 channels wide. Of students that differ in their vocabulary alone the one that uses
    most of the budget is listed.

    Args:
        space: the students to choose from.
        limits: what they may cost.
        costs: how cost is counted.
        config: how they are searched.

    Raises:
        BudgetError: no student keeps the limits; names the smallest and its bytes.
        ConfigError: milliseconds are needed and nobody can say them.
    """
    raise NotImplementedError
