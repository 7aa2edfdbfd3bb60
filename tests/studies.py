"""Studies made up for tests: the effects of the choices on the scores are known."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attar.methods.distiller.pipelines import Pipeline, enumerate_all, label, narrow, sample
from attar.methods.distiller.study import Trial

EFFECTS = {
    "intermediate": {"mse": 2.0, "mi": 1.0, "none": -2.0},
    "mixup": {"True": 0.8},
    "pred_loss": {"mse": 0.4},
}
#: thousands of pipelines fewer: whoever lists them all takes seconds
ONLY: dict[str, list[Any]] = {
    "hard_weight": [0.0],
    "temperature": [1.0],
    "alpha": [0.5, 0.9],
    "augment_p": [0.1],
    "copies": [1],
    "features": ["hidden"],
}
SMALL = narrow(ONLY | {"augment": [[], ["swap"]]})
PART = enumerate_all(space=SMALL)


def quality(pipeline: Pipeline) -> float:
    """What its choices are worth, by `EFFECTS`."""
    chosen = {name: label(name, value) for name, value in pipeline.active().items()}
    return sum(EFFECTS.get(name, {}).get(value, 0.0) for name, value in chosen.items())


def trial(pipeline: Pipeline, score: float | None, **other: Any) -> Trial:
    """One trial of a student that was cut from its teacher."""
    known = {"dataset": "a", "student": "s", "teacher": "t", "init": "cut", "setting": "all"}
    return Trial(
        **{
            **known,
            "pipeline": pipeline,
            "seed": 0,
            "examples": 10**6,
            "teacher_score": 1.0,
            **other,
        },
        score=score,
    )


def study(
    dataset: str,
    trials: int = 40,
    *,
    level: float = 0.5,
    scale: float = 0.02,
    noise: float = 0.3,
    effect: Callable[[Pipeline], float] = quality,
    **other: Any,
) -> list[Trial]:
    """Trials of random pipelines on one data set; `effect` and noise, scaled, above the level."""
    rng = random.Random(dataset + str(sorted(other.items())))
    rows = []
    for seed in range(trials):
        pipeline = sample(rng, space=SMALL)
        score = level + scale * (effect(pipeline) + rng.gauss(0, noise))
        rows.append(trial(pipeline, score, seed=seed, dataset=dataset, **other))
    return rows


def several() -> list[Trial]:
    """Studies of the data sets a to d, which differ in level."""
    return [row for name in "abcd" for row in study(name, level=0.2 + 0.1 * ord(name) % 1)]


def scores_of(rows: Iterable[Trial], dataset: str) -> list[float]:
    return [row.score for row in rows if row.dataset == dataset and row.score is not None]


def write(path: Path, rows: Iterable[Trial]) -> Path:
    """The study as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows))
    return path
