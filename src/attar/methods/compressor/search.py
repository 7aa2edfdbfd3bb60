"""The search for the students of a budget: exact, by the paper's genetic algorithm, or NSGA-II."""

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Literal

import numpy as np
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import NSGAIISampler

from attar.methods.compressor.config import EXACT_POINTS, PlanConfig
from attar.methods.compressor.costs import Limits, StudentCosts
from attar.methods.compressor.genetic import GeneticConfig, genetic_search
from attar.methods.compressor.goal import Goal
from attar.methods.compressor.plans import StudentPlan
from attar.methods.compressor.reasons import explained, infeasible
from attar.methods.compressor.space import EncoderShape, EncoderSpace, ShapeArrays
from attar.runtime import Bar
from attar.search.grid import best_points, front_points, non_dominated
from attar.search.statistics import Array
from attar.search.storage import passing_study

#: shapes that NSGA-II draws
NSGA2_TRIALS = 2000


def search_shapes(
    space: EncoderSpace,
    limits: Limits,
    *,
    costs: StudentCosts = StudentCosts(),
    config: PlanConfig = PlanConfig(),
) -> list[StudentPlan]:
    """The best students of a space within limits, best first; of `pareto` those of the front,
    spread over it, with the most compute first.

    With clean costs and a named objective the number of heads is not searched, as it costs nothing
    and would be a matter of chance: every width has that number of the space whose heads are
    nearest to 32 channels wide. Of students with equal scores the one that uses most of the budget
    is best, and where students differ in their vocabulary alone only the best of them is listed,
    but for `pareto`.

    Args:
        space: the students to choose from.
        limits: what they may cost.
        costs: how cost is counted.
        config: how they are searched.

    Raises:
        BudgetError: no student keeps the limits; names the smallest and its bytes.
        ConfigError: the objective needs a figure that nobody can say.
    """
    goal, method = Goal(space, limits, costs, config), config.method
    if method is None:
        several = "nsga2" if config.objective == "pareto" else "ga"
        method = "exact" if space.size < EXACT_POINTS else several
    goal = replace(goal, floor=goal.floor_for(method))
    shapes = {"exact": _exact, "ga": _genetic, "nsga2": _nsga2}[method](goal)
    if not shapes:
        raise infeasible(replace(goal, floor=None), method)
    return explained(goal, shapes)


# Each of these gives the shapes, best first, and one more than are asked for to compare with.


def _exact(goal: Goal) -> list[EncoderShape]:
    """All points of the space are looked at."""
    if goal.config.objective == "pareto":
        front = front_points(
            goal.axes,
            lambda mesh: goal.losses(goal.shapes(mesh)),
            excess=lambda mesh: goal.judge(goal.shapes(mesh))[1],
        )
        losses = np.array([point.figures for point in front])
        return _spread([goal.shape(p.values) for p in front], losses, count=goal.config.count)
    # Of each shape there may be as many as there are vocabularies, of which one is listed.
    alike = len(goal.space.vocab_size) if goal.ranked_alike else 1
    points = best_points(
        goal.axes,
        lambda mesh: goal.allowed_scores(goal.shapes(mesh)),
        then=(lambda mesh: goal.cost(goal.shapes(mesh)).bytes) if goal.ranked_alike else None,
        count=(goal.config.count + 1) * alike,
    )
    return _different(goal, [goal.shape(point.values) for point in points])


def _genetic(goal: Goal) -> list[EncoderShape]:
    """The paper's genetic algorithm: the best of its last population."""

    def fitness(shapes: ShapeArrays) -> tuple[Array, Array]:
        scores, over = goal.judge(goal.with_heads(shapes))
        return scores, np.broadcast_to(over, scores.shape)

    config = GeneticConfig(seed=goal.config.seed)
    return _best(goal, genetic_search(goal.space, fitness, config=config).population)


def _nsga2(goal: Goal) -> list[EncoderShape]:
    """NSGA-II (Deb et al., 2002) with constraints."""
    several = goal.config.objective == "pareto"
    genes: dict[str, BaseDistribution] = {
        str(at): IntDistribution(0, choices - 1) for at, choices in enumerate(goal.space.choices)
    }

    sampler = NSGAIISampler(population_size=GeneticConfig().population, seed=goal.config.seed)
    directions: list[Literal["minimize", "maximize"]] = ["minimize"]
    study = passing_study(directions * (goal.objectives if several else 1), sampler=sampler)
    shapes = list[EncoderShape]()
    for _ in Bar(range(NSGA2_TRIALS), desc="searching", unit="shape", leave=False):
        trial = study.ask(genes)
        shapes.append(goal.space.decode([trial.params[name] for name in genes]))
        one = goal.with_heads(ShapeArrays.of(shapes[-1:]))
        scores, over = goal.judge(one)
        trial.set_constraint("limits", over.max().item())
        losses = goal.losses(one) if several else [-scores]
        study.tell(trial, [each.max().item() for each in losses])
    if not several:
        return _best(goal, shapes)
    shapes = _feasible(goal, shapes)
    if not shapes:
        return []
    losses = np.stack(goal.losses(ShapeArrays.of(shapes)), axis=1)
    front = non_dominated(losses)
    return _spread([shapes[at] for at in front], losses[front], count=goal.config.count)


# ------------------------------------------------------------------------------- what is listed


def _best(goal: Goal, seen: Sequence[EncoderShape]) -> list[EncoderShape]:
    """Of some shapes those that keep the limits, ranked as exact search does."""
    shapes = _feasible(goal, seen)
    if not shapes:
        return []
    arrays = ShapeArrays.of(shapes)
    then = goal.cost(arrays).bytes if goal.ranked_alike else np.zeros(len(shapes))
    order = np.lexsort((-then, -goal.judge(arrays)[0]))
    return _different(goal, [shapes[at] for at in order])


def _feasible(goal: Goal, seen: Sequence[EncoderShape]) -> list[EncoderShape]:
    """Those that keep the limits, each once, in order; the floor is only aimed at."""
    arrays = goal.with_heads(ShapeArrays.of(seen))
    kept = replace(goal, floor=None).allowed_scores(arrays) > -np.inf
    rows = np.stack(astuple(arrays), axis=1)[kept].tolist()
    return sorted({EncoderShape(*row) for row in rows})


def _different(goal: Goal, shapes: Sequence[EncoderShape]) -> list[EncoderShape]:
    """The best of those that differ in their vocabulary alone."""
    if not goal.ranked_alike:
        return list(shapes)[: goal.config.count + 1]
    firsts = dict[tuple[int, ...], EncoderShape]()
    for shape in shapes:
        firsts.setdefault(astuple(shape)[1:], shape)
    return list(firsts.values())[: goal.config.count + 1]


def _spread(shapes: Sequence[EncoderShape], losses: Array, *, count: int) -> list[EncoderShape]:
    """Some of a front `(N, D)`: the one with the most compute, then always that which is farthest
    from those before; in the order of the front."""
    if len(shapes) <= count:
        return list(shapes)
    low, high = losses.min(axis=0), losses.max(axis=0)
    places = (losses - low) / np.where(high > low, high - low, 1.0)
    kept, distance = [0], np.full(len(shapes), np.inf)
    while len(kept) < count:
        distance = np.minimum(distance, np.linalg.norm(places - places[kept[-1]], axis=1))
        kept.append(int(distance.argmax()))
    return [shapes[at] for at in sorted(kept)]
