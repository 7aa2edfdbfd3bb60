"""Short trainings of the best plans, as no count of operations says how well a shape learns."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attar import artefacts
from attar.distillation.planning import Candidate
from attar.distillation.report import compared
from attar.methods.distiller.distill import DistillTask
from attar.runtime import Bar


@dataclass(frozen=True)
class Probe:
    """What a short training said of a plan.

    Attributes:
        plan: place of the plan before, from 1.
        agreement: share of the validation rows on which student and teacher predict the same, or
            of a regression their rank correlation.
    """

    plan: int
    agreement: float


def probe(
    candidates: Sequence[Candidate],
    start: Callable[[Candidate], DistillTask],
    *,
    steps: int,
    kept: Path | None = None,
) -> list[Probe]:
    """Train each plan's student for a few steps; best agreement first.

    Args:
        candidates: plans with their tokenizers.
        start: makes a distillation with a fresh student of a plan.
        steps: of each training.
        kept: a file for results, so that a killed run tries nothing twice; None: nowhere.
    """
    known: dict[str, float] = {}
    if kept is not None and kept.is_file():
        known = json.loads(kept.read_text(encoding="utf-8"))
    for number, candidate in enumerate(Bar(candidates, desc="probing", unit="plan"), 1):
        if str(number) in known:
            continue
        begun = start(candidate)
        # the learning rate rises and falls within these steps
        short = replace(begun.config, max_steps=steps, num_train_epochs=None)
        task = replace(begun, config=short)
        task.train()
        known[str(number)] = compared(
            task.job, task.job.documents["validation"], context=task.config.context
        )["agreement"]
        if kept is not None:
            artefacts.write_text(kept, json.dumps(known))
    probes = [Probe(int(number), value) for number, value in known.items()]
    return sorted(probes, key=lambda one: (-one.agreement, one.plan))
