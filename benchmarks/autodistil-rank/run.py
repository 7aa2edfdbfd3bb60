"""Does a student's relation loss, without any training, tell how well it will learn a task?

One SuperLM of the real MiniLM holds 54 students. Each is ranked on held-out text, and each is
fine-tuned on SST-2, to compare. Figure: Spearman's rank correlation of the two over all students;
beside it that of the plain baseline, more parameters are better, and both inside bands of size,
where the baseline says little. Every fine-tuning is kept, and a second call goes on.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import finish, kept_rows, parse
from students import OPTIONS, SPACE, books, fine_tuned, name_of, super_lm, teacher

from attar import artefacts
from attar.evaluation.correlations import rank_correlation
from attar.methods.autodistil import Ranked, rank

TARGET, COST = 0.6, 20.0
TASK, HELD_OUT, BANDS = "sst2", 256, 3


def bands(ranked: list[Ranked]) -> list[list[Ranked]]:
    """The students in equally large groups by parameters of their layers, smallest first."""
    by_size = sorted(ranked, key=lambda one: one.cost.block_params)
    size = -(-len(by_size) // BANDS)
    return [by_size[start : start + size] for start in range(0, len(by_size), size)]


def main() -> None:
    args = parse(__doc__ or "").parse_args()
    logging.disable(logging.INFO)
    net, model = super_lm(args.data), teacher()
    archs = list(SPACE.enumerate())[:: 9 if args.quick else 1]
    held_out = books(args.data, "validation", HELD_OUT // (8 if args.quick else 1))
    began = time.perf_counter()
    ranked = rank(net, model, held_out, archs=archs, options=OPTIONS)
    search = time.perf_counter() - began

    file = (
        artefacts.home()
        / "benchmarks"
        / "autodistil"
        / f"rank-{'quick' if args.quick else 'full'}.jsonl"
    )
    known = kept_rows(file, key="student")
    for one in ranked:
        if (name := name_of(one.arch)) in known:
            continue
        scores = fine_tuned(
            net.extract(one.arch), TASK, args.data, rows=200 if args.quick else 2_500
        )
        known[name] = {"student": name, **scores}
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(known[name]) + "\n")
        print(f"{name}: {scores['test']:.1f} in {scores['seconds']:.0f} s", flush=True)
    report(ranked, known, search, args)


def report(
    ranked: list[Ranked], known: dict[str, dict[str, float]], search: float, args: Any
) -> None:
    """Print the table, and write the result."""

    def correlations(some: list[Ranked]) -> tuple[float, float]:
        """Of the negative loss and of the parameters of the layers with accuracy."""
        accuracy = [known[name_of(one.arch)]["test"] for one in some]
        return (
            rank_correlation([-one.loss for one in some], accuracy),
            rank_correlation([one.cost.block_params for one in some], accuracy),
        )

    ours, size = correlations(ranked)
    inside = [correlations(band) for band in bands(ranked)] if not args.quick else []
    training = sum(known[name_of(one.arch)]["seconds"] for one in ranked)
    best = known[name_of(ranked[0].arch)]["test"]
    for one in ranked:
        row = known[name_of(one.arch)]
        print(
            f"{name_of(one.arch):>14}  loss {one.loss:.4f}  {one.cost.params / 1e6:5.2f}M "
            f"({one.cost.block_params / 1e6:5.2f}M in layers)  accuracy {row['test']:.1f}"
        )
    for band, (rho, by_size) in zip(bands(ranked), inside, strict=False):
        sizes = [one.cost.block_params / 1e6 for one in band]
        print(
            f"{min(sizes):.2f}M to {max(sizes):.2f}M in layers: {rho:.2f}, parameters {by_size:.2f}"
        )
    means = [sum(column) / len(inside) for column in zip(*inside, strict=True)] or [0.0, 0.0]
    line = {
        "claim": "autodistil-rank",
        "figure": round(ours, 3),
        "unit": "rank correlation of relation loss, without training, with accuracy on SST-2",
        "baseline": f"more parameters are better: {size:.3f}",
        "ratio": round(ours / size, 3) if size else 0.0,
        "target": TARGET,
        "inside_bands": round(means[0], 3),
        "inside_bands_parameters": round(means[1], 3),
        "cheaper": round(training / search, 1),
        "cheaper_target": COST,
        "ok": bool(ours >= TARGET and training / search >= COST),
        "note": (
            f"inside {BANDS} bands of size {means[0]:.2f}, by parameters {means[1]:.2f} (means); "
            f"ranking all {len(ranked)} students took {search:.0f} s, fine-tuning all "
            f"{training:.0f} s; the student that is ranked first has {best:.1f}, the best one "
            f"{max(row['test'] for row in known.values()):.1f}."
        ),
    }
    rows = [
        {"student": name_of(one.arch), "loss": one.loss, "cost": one.cost.to_dict()}
        | {"published": one.published}
        | known[name_of(one.arch)]
        for one in ranked
    ]
    finish(__file__, line, {"students": rows, "bands": inside, "search": search}, args)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
