"""A search that has nothing to do with models: which cake is the best. Baking takes no time."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from attar.search.space import ChoiceSpace
from attar.search.summary import State, ended_trials, state_of, write_study
from attar.search.trials import Origin, Outcome, PlannedTrial, Queue, RunningTrial, run_trials

CAKES = ChoiceSpace(
    {
        "dough": ("sponge", "short"),
        "layers": (1, 2, 3),
        "cream": (True, False),
        "fruit": ((), ("cherry",), ("plum", "nut")),
    },
    rules={
        "layers": lambda chosen: chosen["dough"] == "sponge",
        "cream": lambda chosen: chosen["dough"] == "sponge" and chosen["layers"] > 1,
    },
    label=lambda name, value: "+".join(value) or "none" if name == "fruit" else str(value),
    read=lambda name, value: tuple(value) if name == "fruit" else value,
    noun="a cake",
)


@dataclass(frozen=True)
class Cake:
    """A trial that has ended."""

    chosen: dict[str, Any]
    score: float | None
    test_score: float | None = None
    seconds: float = 0.0
    state: State = "complete"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def taste(values: Mapping[str, Any]) -> float:
    """What a cake is worth."""
    worth = {"sponge": 0.3, "short": 0.1}[values["dough"]] + 0.1 * values.get("layers", 0)
    return worth + 0.05 * values.get("cream", 0) + 0.01 * len(values["fruit"])


def cake(stored: FrozenTrial, attrs: Mapping[str, Any]) -> Cake:
    planned = PlannedTrial.of(stored)
    assert planned is not None
    given = stored.user_attrs
    return Cake(
        json.loads(planned.payload),
        given.get("score"),
        given.get("test_score"),
        given.get("seconds", 0.0),
        state_of(stored),
    )


def plan(trials: int, *, seed: int = 0, origin: Origin = "random") -> list[PlannedTrial]:
    """Cakes in an order that the seed draws; a longer plan begins with a shorter one."""
    every = CAKES.enumerate_all()
    random.Random(seed).shuffle(every)
    return [planned(values, origin) for values in every[:trials]]


def planned(values: Mapping[str, Any], origin: Origin = "random") -> PlannedTrial:
    return PlannedTrial(json.dumps(values), CAKES.stored(values), origin)


Bake = Callable[[dict[str, Any], RunningTrial], Outcome]


def bake(values: dict[str, Any], trial: RunningTrial) -> Outcome:
    return Outcome(taste(values), details={"test_score": taste(values) - 0.01})


def search(
    folder: Path,
    trials: int = 6,
    *,
    bake: Bake = bake,
    url: str | None = None,
    settings: Mapping[str, Any] = {"oven": "hot"},
    **options: Any,
) -> list[Cake]:
    """Bake until the study has so many cakes; those that have ended."""
    given = {"settings": dict(settings), "plan": plan(trials), **options}
    with Queue.open(folder, url, **given) as queue:

        def write() -> list[Cake]:
            return write_study(folder, queue.study, convert=cake)

        run_trials(queue, bake, space=CAKES, after_each=write)
        return write()


def study_of(folder: Path) -> optuna.Study:
    return Queue.open(folder, None, settings={"oven": "hot"}, plan=[]).study


def ended(folder: Path) -> list[tuple[Cake, Origin]]:
    return ended_trials(study_of(folder), cake)
