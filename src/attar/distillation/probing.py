"""Short trainings of the best plans, as no count of operations says how well a shape learns."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attar import artefacts
from attar.distillation.planning import Candidate
from attar.distillation.report import compared
from attar.methods.distiller.distill import DistillTask
from attar.runtime import Bar, broadcast, place, processes
from attar.train.labelled_task import LabelledTask


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

    Under `torchrun` all processes train together, and the first one scores for all: the others
    must go on with the same plan.

    Args:
        candidates: plans with their tokenizers.
        start: makes a distillation with a fresh student of a plan.
        steps: of each training.
        kept: a file for results, so that a killed run tries nothing twice; None: nowhere.
    """
    main = processes().is_main_process
    known: dict[str, float] = {}
    if main and kept is not None and kept.is_file():
        known = json.loads(kept.read_text(encoding="utf-8"))
    known = broadcast(known)
    for number, candidate in enumerate(Bar(candidates, desc="probing", unit="plan"), 1):
        if str(number) in known:
            continue
        begun = start(candidate)
        # the learning rate rises and falls within these steps
        short = replace(begun.config, max_steps=steps, num_train_epochs=None)
        task = replace(begun, config=short)
        task.train()
        known[str(number)] = broadcast(_agreement(task.job, short.context) if main else None)
        if main and kept is not None:
            artefacts.write_text(kept, json.dumps(known))
    probes = [Probe(int(number), value) for number, value in known.items()]
    return sorted(probes, key=lambda one: (-one.agreement, one.plan))


def _agreement(job: LabelledTask, context: int) -> float:
    for model in (job.student, job.teacher):
        assert model is not None
        place(model)
    return compared(job, job.documents["validation"], context=context)["agreement"]
