"""How the students of a budget are searched."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from attar.errors import require
from attar.methods.compressor.costs import ShapeCosts
from attar.methods.compressor.space import EncoderShape, ShapeArrays
from attar.search.statistics import Array

Objective = Literal["flops", "uniform", "-flops", "latency", "pareto"]
"""`flops`: the most compute within the limits, as published. `uniform`: the teacher's shape with
layers, widths and vocabulary shrunk alike, as little as the limits allow. `-flops`, `latency`: the
least compute or time among the students that use at least 95% of the budget. `pareto`: students of
which no other has as much compute, takes as little time and reads as much."""
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
            size and operations, for limits on bytes alone.
        hard: no student overruns a limit. False, for `paper` only: the published fitness, which
            aims at a size and may end above it.
        count: how many students.
        seed: of `ga` and `nsga2`.
        teacher: the shape that `uniform` shrinks.

    Raises:
        ConfigError: a value is out of its range, or two do not go together.
    """

    objective: Objective | Score = "flops"
    method: Method | None = None
    cost_model: CostModel = "clean"
    hard: bool = True
    count: int = 5
    seed: int = 0
    teacher: EncoderShape | None = None

    def __post_init__(self) -> None:
        objective = self.objective
        fine = callable(objective) or objective in get_args(Objective)
        expected = f"one of {', '.join(get_args(Objective))}, or a function"
        require(fine, "objective", objective, expected)
        methods = (*get_args(Method), None)
        require(self.method in methods, "method", self.method, "exact, ga, nsga2 or None")
        require(
            self.cost_model in get_args(CostModel),
            "cost_model",
            self.cost_model,
            f"one of {', '.join(get_args(CostModel))}",
        )
        require(self.count >= 1, "count", self.count, "1 or more")
        published = self.cost_model == "paper"
        fine = not published or objective == "flops"
        require(fine, "objective", objective, "flops with cost_model paper")
        require(self.hard or published, "hard", self.hard, "true unless cost_model is paper")
        fine = objective != "uniform" or self.teacher is not None
        require(fine, "teacher", None, "a shape for the objective uniform")
        fine = self.method != "ga" or objective != "pareto"
        require(fine, "method", self.method, "exact or nsga2 for the objective pareto")
