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

from common import arguments, finish

from attar.methods.distiller.recommender import AutoDistiller, Model, known_trials
from attar.methods.distiller.study import importance

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
    print("\nshare of the variance: " + ", ".join(f"{k} {v:.2f}" for k, v in shares.items()))
    *each, mean = tables["ridge, z"]
    ratio = mean["regret"] / mean["random_regret"]
    largest = max(each, key=lambda row: row["random_regret"])
    others = [row for row in each if row is not largest]
    without = sum(r["regret"] for r in others) / sum(r["random_regret"] for r in others)
    better = sum(row["regret"] < row["random_regret"] for row in each)
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
        f"data sets; without {largest['dataset']}, where chance loses most, the ratio is "
        f"{without:.2f}. The paper's way (ratio to the teacher as target, here by extra-trees on "
        f"the choices) has a regret of {paper['regret']:.4f}. {finished} finished trials.",
    }
    finish(__file__, line, {"tables": tables, "importance": shares}, args)


if __name__ == "__main__":
    main()
