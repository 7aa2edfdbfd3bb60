"""What each arm of a comparison needs to come where span corruption ends."""

from collections.abc import Mapping, Sequence
from typing import Any

#: what a point costs
COSTS = ("step", "flops", "seconds")


def reached(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`crossings` of all figures, of arms whose trainings all came to their end; nothing without
    the arm `span`."""
    ended = {name: arm for name, arm in arms.items() if not arm.get("diverged")}
    if "span" not in ended:
        return {}
    names = [name for name in ended["span"]["points"][-1] if name not in COSTS]
    return {name: crossings(ended, name) for name in names}


def crossings(
    arms: Mapping[str, Mapping[str, Any]], name: str
) -> dict[str, dict[str, float | None]]:
    """Steps, FLOPs and seconds that each arm takes to the last figure of the arm `span`, as shares
    of its own; None where an arm does not get there.

    Figures are means over seeds, and lie on a line between two points.

    Args:
        arms: each with `points`.
        name: of the figure; of `span_nats`, less is better.
    """
    base = arms["span"]["points"][-1]
    sign = -1.0 if name == "span_nats" else 1.0
    found: dict[str, dict[str, float | None]] = {}
    for arm, results in arms.items():
        points = results["points"]
        figures = [sign * _mean(point[name]) for point in points]
        found[arm] = {
            cost: _crossing(
                [_mean(point[cost]) for point in points],
                figures,
                goal=sign * _mean(base[name]),
                whole=_mean(base[cost]),
            )
            for cost in COSTS
        }
    return found


def _mean(value: float | Sequence[float]) -> float:
    return sum(value) / len(value) if isinstance(value, Sequence) else float(value)


def _crossing(
    costs: Sequence[float], figures: Sequence[float], *, goal: float, whole: float
) -> float | None:
    """The least cost at which the figure is as good as the goal, as a share of the whole."""
    for k, (cost, figure) in enumerate(zip(costs, figures, strict=True)):
        if figure >= goal:
            if k == 0:
                return cost / whole
            share = (goal - figures[k - 1]) / (figure - figures[k - 1])
            return (costs[k - 1] + share * (cost - costs[k - 1])) / whole
    return None
