"""Does the recommender, on a data set that it has not seen, find better pipelines than chance?

Ratio: regret of the best of its five picks over that of five drawn at random, mean over the data
sets, each left out in turn. The regret is what the best of five loses, in ratio to the teacher,
against the best of all pipelines that ran there. The studies are the ones in the package; how they
were made is in `studies.py`.
"""

import sys
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common import arguments, finish

from attar.methods.distiller.autodistiller import (
    PICKS,
    AutoDistiller,
    Model,
    known_trials,
    targets_of,
)
from attar.methods.distiller.importance import importance
from attar.methods.distiller.study import Trial, by_context

TARGET = 0.5


def main() -> None:
    args = arguments(__doc__ or "")
    rows = known_trials()
    finished = sum(row.state == "complete" for row in rows)
    print(
        f"{len(rows)} trials, {finished} finished, {len({row.dataset for row in rows})} data sets"
    )
    head = f"{'model':12}{'target':8}{'data set':26}"
    print(f"{head}{'Spearman':>9}{'place':>7}{'regret':>8}{'random':>8}")
    tables = {}
    for model in get_args(Model):
        found = AutoDistiller.fit(rows, model=model).evaluate()
        for row in found:
            tables.setdefault(f"{model}, {row.target}", []).append(vars(row))
            print(
                f"{model:12}{row.target:8}{row.dataset:26}{row.spearman:>9.2f}"
                f"{row.percentile:>7.2f}{row.regret:>8.4f}{row.random_regret:>8.4f}"
            )
    shares = importance(rows)
    print(f"\nshare of the variance: {show(shares)}")
    *each, mean = tables["ridge, z"]
    ratio = mean["regret"] / mean["random_regret"]
    better = sum(row["regret"] < row["random_regret"] for row in each)
    without = {row["dataset"]: ratio_without(rows, row["dataset"]) for row in each}
    print("\nratio without one of the studies: " + show(without))
    lucky = luck(rows)
    print(f"five random picks reach the target in {100 * lucky:.1f}% of draws")
    paper = tables["extra_trees, raw"][-1]
    line = {
        "claim": "distiller-recommender",
        "figure": round(mean["regret"], 4),
        "unit": "ratio to the teacher lost by the best of 5 recommended pipelines",
        "baseline": f"5 random ones: {mean['random_regret']:.4f}",
        "ratio": round(ratio, 4),
        "target": TARGET,
        "ok": bool(ratio <= TARGET),
        "note": f"rank correlation with what ran {mean['spearman']:.2f}, mean place of the picks "
        f"{mean['percentile']:.2f} (chance 0.50). The picks beat chance on {better} of {len(each)} "
        f"data sets. Without one of the studies the ratio is between {min(without.values()):.2f} "
        f"and {max(without.values()):.2f}; five random picks would reach the target in "
        f"{100 * lucky:.0f}% of draws. The paper's way (ratio to the teacher as target, here by "
        f"extra-trees on the choices) has a regret of {paper['regret']:.4f}. "
        f"{finished} finished trials.",
    }
    more = {"tables": tables, "importance": shares, "without": without, "lucky": lucky}
    finish(__file__, line, more, args)


def ratio_without(rows: list[Trial], dataset: str) -> float:
    """The figure, had that data set not been studied."""
    left = AutoDistiller.fit(row for row in rows if row.dataset != dataset)
    mean = next(row for row in left.evaluate() if (row.dataset, row.target) == ("mean", "z"))
    return mean.regret / mean.random_regret


def luck(rows: list[Trial], draws: int = 10_000) -> float:
    """How often five pipelines that are drawn in each context have at most the target's ratio."""
    rng = np.random.default_rng(0)
    regrets: dict[str, list[np.ndarray]] = {}
    for context in by_context(rows).values():
        true = targets_of(context, "raw")
        picks = rng.permuted(np.tile(true, (draws, 1)), axis=1)[:, :PICKS]
        regrets.setdefault(context[0].dataset, []).append(true.max() - picks.max(1))
    drawn = np.mean([np.mean(found, 0) for found in regrets.values()], 0)
    return float(np.mean(drawn <= TARGET * drawn.mean()))


def show(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {figure:.2f}" for name, figure in figures.items())


if __name__ == "__main__":
    main()
