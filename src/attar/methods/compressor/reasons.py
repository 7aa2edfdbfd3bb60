"""Why a student was chosen and not the next, or why there is none."""

from collections.abc import Sequence

import numpy as np

from attar.errors import BudgetError
from attar.methods.compressor.config import USED, Method
from attar.methods.compressor.goal import Goal
from attar.methods.compressor.plans import StudentPlan
from attar.methods.compressor.published import published_flops, published_megabytes
from attar.methods.compressor.space import EncoderShape, ShapeArrays
from attar.report.units import count, digits, milliseconds, size
from attar.search.statistics import Array


def explained(goal: Goal, shapes: Sequence[EncoderShape]) -> list[StudentPlan]:
    """Plans of as many shapes as are asked for, best first.

    Args:
        goal: what was searched.
        shapes: the shapes, and where there is one more, the next to compare with.
    """
    arrays = ShapeArrays.of(shapes)
    costs, scores = goal.cost(arrays), goal.judge(arrays)[0]

    def whole(figures: np.ndarray, at: int) -> int:
        return int(np.broadcast_to(figures, len(shapes))[at])

    def real(figures: np.ndarray | None, at: int) -> float | None:
        return None if figures is None else float(np.broadcast_to(figures, len(shapes))[at])

    return [
        StudentPlan(
            shape=shape,
            parameters=whole(costs.parameters, at),
            parts={
                "weights": whole(costs.weights, at),
                "tokenizer": whole(costs.tokenizer, at),
                "config": whole(costs.config, at),
                "overhead": whole(costs.overhead, at),
            },
            macs=whole(costs.macs, at),
            milliseconds=real(costs.milliseconds, at),
            read=real(costs.read, at),
            fitness=float(scores[at]),
            why=_reason(goal, shape, scores=scores, at=at),
        )
        for at, shape in enumerate(shapes[: goal.config.count])
    ]


def _reason(goal: Goal, shape: EncoderShape, *, scores: Array, at: int) -> str:
    """One sentence, without its full stop."""
    objective, within = goal.config.objective, f"within {goal.limits}"
    cheap = f"of those that use at least {USED:.0%} of the budget"
    if objective == "pareto":
        sides = ["has as much compute"]
        sides += ["is as fast"] if goal.costs.milliseconds is not None else []
        sides += ["reads as much"] if goal.costs.read is not None else []
        return f"{cheap}, no other {within} {', '.join(sides[:-1])} and {sides[-1]}"
    unit, suffix, more = _macs, " multiply-accumulates a text", True
    if goal.published:
        best, by = "the most published operations", "published operations"
        suffix = f" GFLOPs at a published size of {published_megabytes(shape):.3f} MB"
        unit = _three
        if not goal.config.hard:
            best, by = "the highest published fitness", "published fitness"
            suffix = f": {published_flops(shape) / 1e9:.3f}{suffix}"
    elif callable(objective):
        best, by, unit, suffix = "the highest score", "score", digits, ""
    elif objective == "flops":
        best, by = "the most compute", "compute"
    elif objective == "uniform":
        best, by = "the teacher's shape, shrunk least", "how little the teacher's shape is shrunk"
        unit, suffix = "{:.1%}".format, " of its layers, widths and vocabulary, or more"
    elif objective == "-flops":
        best, by, more = f"the least compute {cheap}", f"least compute {cheap}", False
    else:
        best, by, more = f"the least time {cheap}", f"least time {cheap}", False
        unit, suffix = milliseconds, " a text"
    score = float(scores[at]) if more else -float(scores[at])
    place = best if at == 0 else f"number {at + 1} by {by}"
    other = at or 1  # what the first is compared with is the next; any other, the first
    if len(scores) == 1:
        gap = "and no other is left"
    elif scores[other] == scores[0]:
        gap = "as much as the " + ("first, but of fewer bytes" if at else "next, of fewer bytes")
    else:
        sign = "less" if more == (at > 0) else "more"
        gap = (
            f"{unit(float(scores[0] - scores[other]))} {sign} than the {'first' if at else 'next'}"
        )
    return f"{place} {within}: {unit(score)}{suffix}, {gap}"


def _macs(score: float) -> str:
    return count(score * 1e9)


def _three(score: float) -> str:
    return f"{score:.3f}"


def infeasible(goal: Goal, method: Method) -> BudgetError:
    """That no shape keeps the limits, with the smallest of the space and what it takes.

    Args:
        goal: what was searched, without a floor.
        method: how.
    """
    smallest = goal.space.smallest
    arrays = goal.with_heads(ShapeArrays.of([smallest]))
    smallest = goal.shape(tuple(int(axis[0]) for axis in vars(arrays).values()))
    costs = goal.cost(arrays)
    if goal.judge(arrays)[1].max() <= 0:
        return BudgetError(
            f"no encoder was found within {goal.limits}, although the smallest of the space "
            f"({smallest}) keeps it: search with method exact, or look at the objective"
            if method != "exact"
            else f"the objective leaves out every encoder within {goal.limits}: a score must be "
            "above minus infinity for some"
        )
    parts = {
        "weights": costs.weights + costs.overhead,  # in one file, as in what is told of a plan
        "tokenizer": costs.tokenizer,
        "config": costs.config,
    }
    taken = [f"{name} {size(float(v.max()))}" for name, v in parts.items() if v.max() > 0]
    figures = [
        f"{size(float(costs.bytes.max()))} ({', '.join(taken)})",
        f"{count(int(costs.parameters.max()))} parameters",
        f"{count(int(costs.macs.max()))} multiply-accumulates a text",
    ]
    if costs.milliseconds is not None:
        figures.append(milliseconds(float(np.max(costs.milliseconds))))
    return BudgetError(
        f"expected an encoder within {goal.limits}; found none: the smallest of the space "
        f"({smallest}) takes {', '.join(figures)}; allow as much, or give a space of smaller ones"
    )
