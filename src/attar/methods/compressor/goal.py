"""What a search of students looks for, as functions of arrays of shapes."""

import functools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attar.errors import require
from attar.methods.compressor.config import USED, Method, PlanConfig
from attar.methods.compressor.costs import Limits, ShapeCosts, StudentCosts
from attar.methods.compressor.published import (
    published_fitness,
    published_flops,
    published_megabytes,
)
from attar.methods.compressor.space import EncoderShape, EncoderSpace, ShapeArrays
from attar.search.grid import Mesh, best_points
from attar.search.statistics import Array

#: objectives in which the least is best, so that the budget would be left unused
_CHEAP = ("-flops", "latency", "pareto")


@dataclass(frozen=True)
class Goal:
    """One search: what is asked for.

    Attributes:
        space: the students to choose from.
        limits: what they may cost.
        costs: how cost is counted.
        config: what is best.
        floor: the bytes (or parameters, where no bytes are limited) that a student must have; None:
            any.

    Raises:
        ConfigError: the objective needs a figure that nobody can say, or the limits are not those
            of the published formulas.
    """

    space: EncoderSpace
    limits: Limits
    costs: StudentCosts
    config: PlanConfig
    floor: float | None = None

    def __post_init__(self) -> None:
        objective, costs = self.config.objective, self.costs
        if self.published:
            fine = set(self.limits.given()) == {"bytes"}
            require(fine, "limits", str(self.limits), "on bytes alone with cost_model paper")
        if objective == "latency":
            expected = "a function of shapes for the objective latency"
            require(costs.milliseconds is not None, "costs.milliseconds", None, expected)
        if objective == "pareto":
            fine = costs.milliseconds is not None or costs.read is not None
            expected = "given for the objective pareto, or costs.read"
            require(fine, "costs.milliseconds", None, expected)

    @property
    def published(self) -> bool:
        """Whether size and fitness are those of the paper."""
        return self.config.cost_model == "paper"

    @property
    def ranked_alike(self) -> bool:
        """Whether heads and vocabularies cost nothing in what is maximised: each width then has its
        usual number of heads, and of students that differ in the vocabulary alone one is listed."""
        return not self.published and isinstance(self.config.objective, str)

    # ------------------------------------------------------------------------------------ shapes

    @property
    def axes(self) -> list[tuple[int, ...]]:
        """The grid that is searched; where heads are not, 0 stands for the usual number."""
        axes = list(self.space.axes)
        if self.ranked_alike:
            axes[1] = (0,)
        return axes

    def shapes(self, mesh: Mesh) -> ShapeArrays:
        """The shapes of a mesh of the grid."""
        return self.with_heads(ShapeArrays(*mesh))

    def shape(self, values: tuple[int, ...]) -> EncoderShape:
        """The shape of a point of the grid."""
        vocabulary, heads, width, neurons, layers = values
        heads = self.space.usual_heads(width) if self.ranked_alike else heads
        return EncoderShape(vocabulary, heads, width, neurons, layers)

    def with_heads(self, shapes: ShapeArrays) -> ShapeArrays:
        """The same with the usual heads, where heads are not searched."""
        if not self.ranked_alike:
            return shapes
        places = np.searchsorted(self.space.hidden_size, shapes.hidden_size)
        return ShapeArrays(
            vocab_size=shapes.vocab_size,
            num_attention_heads=self._usual[places],
            hidden_size=shapes.hidden_size,
            intermediate_size=shapes.intermediate_size,
            num_hidden_layers=shapes.num_hidden_layers,
        )

    @cached_property
    def _usual(self) -> np.ndarray:
        return np.array([self.space.usual_heads(width) for width in self.space.hidden_size])

    # ----------------------------------------------------------------------------------- figures

    def cost(self, shapes: ShapeArrays) -> ShapeCosts:
        """What shapes cost, counted exactly whatever the cost model."""
        return self.costs.of(shapes, self.space)

    def judge(self, shapes: ShapeArrays) -> tuple[Array, Array]:
        """Scores of shapes, and the largest share by which each misses a limit or the floor; zero
        or less where it keeps them. Of `pareto` the score is the compute."""
        objective = self.config.objective
        if self.published:
            return self._judge_as_published(shapes)
        costs = self.cost(shapes)
        if callable(objective):
            scores = np.asarray(objective(shapes, costs), dtype=np.float64)
        elif objective == "latency":
            assert costs.milliseconds is not None
            scores = -costs.milliseconds
        elif objective == "uniform":
            scores = self._smallest_share(shapes)
        else:
            scores = costs.macs / (-1e9 if objective == "-flops" else 1e9)
        over = self.limits.excess(costs)
        if self.floor is not None:
            over = np.maximum(over, 1 - self._used(costs) / self.floor)
        return scores, over

    def _smallest_share(self, shapes: ShapeArrays) -> Array:
        """The share of the teacher that is left in that of layers, widths and vocabulary of which
        the least is left; what is as large as the space has holds no shape back."""
        teacher = self.config.teacher
        assert teacher is not None
        shares = []
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"):
            values, most = getattr(shapes, name), getattr(self.space, name)[-1]
            share = values / getattr(teacher, name)
            shares.append(np.where(values == most, np.maximum(share, 1.0), share))
        return np.asarray(functools.reduce(np.minimum, shares))

    def _judge_as_published(self, shapes: ShapeArrays) -> tuple[Array, Array]:
        assert self.limits.bytes is not None
        megabytes = self.limits.bytes / 1e6
        if not self.config.hard:
            fitness = published_fitness(shapes, megabytes=megabytes)
            return np.asarray(fitness), np.zeros(())
        over = published_megabytes(shapes) / megabytes - 1
        return np.asarray(published_flops(shapes) / 1e9), np.asarray(over)

    def allowed_scores(self, shapes: ShapeArrays) -> Array:
        """Scores, minus infinity where a limit is overrun or heads do not divide the width."""
        scores, over = self.judge(shapes)
        odd = shapes.hidden_size % shapes.num_attention_heads != 0
        return np.where((over > 0) | odd, -np.inf, scores)

    def losses(self, shapes: ShapeArrays) -> list[Array]:
        """What `pareto` minimises: compute with its sign turned, and as far as they are known
        milliseconds, and what is read with its sign turned."""
        costs = self.cost(shapes)
        losses = [costs.macs / -1e9]
        if costs.milliseconds is not None:
            losses.append(np.asarray(costs.milliseconds, dtype=np.float64))
        if costs.read is not None:
            losses.append(-np.asarray(costs.read, dtype=np.float64))
        return losses

    @property
    def objectives(self) -> int:
        """How many `pareto` has."""
        costs = self.costs
        return 1 + (costs.milliseconds is not None) + (costs.read is not None)

    # ------------------------------------------------------------------------------------- floor

    @property
    def in_bytes(self) -> bool:
        """Whether the budget is one of bytes, or else of parameters."""
        return self.limits.bytes is not None or self.limits.params is None

    def _used(self, costs: ShapeCosts) -> Array:
        return costs.bytes if self.in_bytes else np.asarray(costs.parameters, dtype=np.float64)

    def floor_for(self, method: Method) -> float | None:
        """What a student must use where the least would be best: 95% of the budget, or, as exact
        search can tell, of the largest student that keeps the limits."""
        if self.published or self.config.objective not in _CHEAP:
            return None
        limit = self.limits.bytes if self.in_bytes else self.limits.params
        if method != "exact":
            return None if limit is None else USED * limit
        largest = best_points(
            self.axes,
            lambda mesh: self._used(self.cost(self.shapes(mesh))),
            excess=lambda mesh: self.judge(self.shapes(mesh))[1],
        )
        if not largest:
            return None
        most = largest[0].figures[0]
        return USED * (limit if limit is not None and most >= USED * limit else most)
