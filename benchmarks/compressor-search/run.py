"""Is it worth looking at every encoder of Compressor's space, and how long does it take?

The published fitness of the best encoder that exact search, the paper's genetic algorithm and as
many random draws find for five sizes, beside that of the networks that were published.
"""

import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common import finish, parse

from attar.methods.compressor import (
    EncoderShape,
    EncoderSpace,
    GeneticConfig,
    Limits,
    PlanConfig,
    ShapeArrays,
    genetic_search,
    published_fitness,
    search_shapes,
)
from attar.search.statistics import Array

TARGET = 10.0
SPACE = EncoderSpace.published()
PUBLISHED = {
    3: EncoderShape(1000, 8, 96, 64, 12),
    25: EncoderShape(1000, 16, 432, 128, 6),
    50: EncoderShape(6000, 16, 480, 576, 6),
}
MEGABYTES = (1, 3, 10, 25, 50)


def exact(megabytes: int) -> dict[str, Any]:
    """The optimum, and how long it took to find."""
    config = PlanConfig(cost_model="paper", hard=False, method="exact", count=1)
    wall, cpu = time.perf_counter(), time.process_time()
    (plan,) = search_shapes(SPACE, Limits(bytes=megabytes * 1e6), config=config)
    return {
        "shape": plan.shape.to_dict(),
        "fitness": plan.fitness,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }


def genetic(megabytes: int, seed: int) -> float:
    """The best fitness of one run of the paper's algorithm."""

    def fitness(shapes: ShapeArrays) -> tuple[Array, Array]:
        scores = np.asarray(published_fitness(shapes, megabytes=megabytes))
        return scores, np.zeros_like(scores)

    return genetic_search(SPACE, fitness, config=GeneticConfig(seed=seed)).best_fitness[-1]


def drawn(megabytes: int, seed: int) -> float:
    """The best fitness of as many uniform draws."""
    rng = np.random.default_rng(seed)
    shapes = ShapeArrays(*(rng.choice(axis, GeneticConfig().evaluations) for axis in SPACE.axes))
    return float(np.max(published_fitness(shapes, megabytes=megabytes)))


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "best": max(values), "worst": min(values)}


def main() -> None:
    args = parse(__doc__ or "").parse_args()
    seeds = 3 if args.quick else 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {megabytes: exact(megabytes) for megabytes in MEGABYTES}
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    rows = []
    print(
        "  MB  exact (V, A, H, I, L)           GA: median, best, worst   random         published"
    )
    for megabytes, one in found.items():
        row = {
            "megabytes": megabytes,
            "exact": one,
            "genetic": summary([genetic(megabytes, seed) for seed in range(seeds)]),
            "random": summary([drawn(megabytes, seed) for seed in range(seeds)]),
            "published": float(published_fitness(PUBLISHED[megabytes], megabytes=megabytes))
            if megabytes in PUBLISHED
            else None,
        }
        rows.append(row)
        ga, random = row["genetic"], row["random"]
        shape = ", ".join(map(str, one["shape"].values()))
        published = "-" if row["published"] is None else f"{row['published']:.3f}"
        print(
            f"{megabytes:4d}  {one['fitness']:6.3f} ({shape:21s})  "
            f"{ga['median']:6.3f} {ga['best']:6.3f} {ga['worst']:6.3f}      "
            f"{random['median']:6.3f} {random['best']:6.3f}  {published:>6s}"
        )
    worst = max(one["seconds"] for one in found.values())
    never_below = all(
        row["exact"]["fitness"] >= max(row["genetic"]["best"], row["random"]["best"])
        for row in rows
    )
    three = rows[MEGABYTES.index(3)]
    line = {
        "claim": "compressor-search",
        "figure": round(worst, 3),
        "unit": "s for all 10,944,000 encoders, one target on one core (the worst of five)",
        "baseline": "the paper's genetic algorithm at 3 MB: median "
        f"{three['genetic']['median']:.3f} of {seeds} runs; "
        f"the optimum is {three['exact']['fitness']:.3f}",
        "ratio": round(three["exact"]["fitness"] / three["genetic"]["median"], 3),
        "target": TARGET,
        "never_below": never_below,
        "memory_mb": round(memory, 1),
        "cpu_seconds": round(max(one["cpu_seconds"] for one in found.values()), 3),
        "ok": bool(worst <= TARGET and never_below),
        "note": "ratio: the optimum over the median of the genetic algorithm, for 3 MB.",
    }
    finish(__file__, line, {"targets": rows, "seeds": seeds}, args)


if __name__ == "__main__":
    main()
