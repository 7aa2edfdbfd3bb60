"""What does running networks on slices of one parent cost over running them as models of their own?

A sandwich step (the largest, the smallest and two random students of the real MiniLM, forward and
backward, with the gradients in the parent) against the four steps of the same students, extracted.
And scoring one candidate of a search, slicing included, against the forward pass of the extracted
student. The teacher reads the batch once on both sides. Ratios are medians of alternating rounds.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import finish, parse
from students import CONTEXT, OPTIONS, SPACE, books, teacher
from transformers import PreTrainedModel

from attar.arch import Arch
from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.sources import Batch
from attar.methods.autodistil import RelationDistillation
from attar.search.elastic_training import Sandwich
from attar.search.parents import make_parent
from attar.search.supernet import Draws, Supernet
from attar.train.relations import projections_of, relation_loss

TARGET, ROWS = 1.1, 32


def in_turn(one: Callable[[], None], other: Callable[[], None], number: int) -> tuple[float, float]:
    """Seconds of two calls; which goes first alternates with the number of the round."""
    times = {}
    for call in (one, other) if number % 2 else (other, one):
        began = time.perf_counter()
        call()
        times[call] = time.perf_counter() - began
    return times[one], times[other]


def together(sandwich: Sandwich, batch: Batch) -> None:
    """A sandwich step but for the optimizer."""
    sandwich.supernet.parent.zero_grad()
    sandwich(sandwich.supernet.parent, batch)["relation"].values.sum().backward()


def apart(students: list[PreTrainedModel], model: PreTrainedModel, batch: Batch) -> None:
    """The same of students that are models of their own."""
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    with torch.no_grad(), projections_of(model) as seen:
        model(**inputs)
    theirs = dict(seen)
    for student in students:
        student.zero_grad()
        with projections_of(student) as ours:
            student(**inputs)
        mask = batch["attention_mask"]
        relation_loss(ours, theirs, heads=12, mask=mask).sum().backward()


def candidate(net: Supernet, arch: Arch, batch: Batch) -> None:
    """A network of the search on its slices."""
    with net.frozen(arch) as run:
        run(**{name: batch[name] for name in MODEL_INPUTS if name in batch})


@torch.no_grad()
def alone(student: PreTrainedModel, batch: Batch) -> None:
    """The same network, extracted."""
    student(**{name: batch[name] for name in MODEL_INPUTS if name in batch})


def main() -> None:
    args = parse(__doc__ or "").parse_args()
    model = teacher()
    net = Supernet(make_parent(model, SPACE), SPACE).train()
    batch, draws = books(args.data, "validation", ROWS).batch(range(ROWS)), Draws(SPACE)
    sandwich = Sandwich(net, draws, RelationDistillation(net, model, OPTIONS))
    steps, candidates = [], []
    for step in range(1 + (3 if args.quick else 15)):
        archs = draws.at(step)
        students = [net.extract(arch).train().requires_grad_(True) for arch in archs]
        prepared = sandwich.prepare(net.parent, batch, step)
        steps.append(
            in_turn(
                partial(together, sandwich, prepared), partial(apart, students, model, batch), step
            )
        )
        scored = partial(candidate, net, archs[2], batch), partial(alone, students[2].eval(), batch)
        candidates.append(in_turn(*scored, step))
    steps, candidates = steps[1:], candidates[1:]  # the first round warms up
    ratio, candidate_ratio = (
        statistics.median(a / b for a, b in times) for times in (steps, candidates)
    )
    ours, theirs = (1e3 * statistics.median(column) for column in zip(*steps, strict=True))
    line = {
        "claim": "supernet-speed",
        "figure": round(ours),
        "unit": f"ms for a sandwich step of four students, {ROWS} rows of {CONTEXT} tokens",
        "baseline": f"the four steps of extracted students: {theirs:.0f} ms",
        "ratio": round(ratio, 3),
        "target": TARGET,
        "candidate": round(candidate_ratio, 3),
        "ok": bool(ratio <= TARGET and candidate_ratio <= TARGET),
        "note": f"scoring a candidate takes {candidate_ratio:.2f} times the forward pass of the "
        "extracted student.",
    }
    finish(__file__, line, {"steps": steps, "candidates": candidates}, args)


if __name__ == "__main__":
    main()
