"""What a change in the middle of a study does, and what its policies do about it.

A guideline changes, and old labels are kept, rewritten by a rule or dropped; new text joins the
corpus. Figure: word F1 of the active arm's model with rewritten labels over that with new labels
alone, one batch after the change. Every study is kept, and a second call goes on.
"""

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import arguments, finish, kept_rows
from thai import sentences, shuffled

from attar import artefacts
from attar.data.segments import Segmented
from attar.methods.active_segmentation.arms import backfill
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.curves import rows
from attar.methods.active_segmentation.drawing import DrawConfig
from attar.methods.active_segmentation.events import Event, Policy
from attar.methods.active_segmentation.measuring import measure
from attar.methods.active_segmentation.rules import join_prefix
from attar.methods.active_segmentation.simulate import Happening, Replay
from attar.methods.active_segmentation.study import StudyConfig, samples

RULE = join_prefix(["การ", "ความ"])
POLICIES: dict[str, Policy] = {"mixed": "keep", "migrated": "migrate", "new only": "drop"}
FULL = {"pool": 4000, "test": 600, "batch": 5000, "before": 3, "after": 3, "seeds": (1, 2, 3)}
QUICK = {"pool": 400, "test": 150, "batch": 1500, "before": 1, "after": 3, "seeds": (1,)}
ADDED = 0.36  # of the pool, once the new text is there


def settings(quick: bool) -> dict[str, Any]:
    """Sizes of a run."""
    return QUICK if quick else FULL


def cells(quick: bool) -> Iterator[dict[str, Any]]:
    """All studies: the event, and the seed."""
    for seed in settings(quick)["seeds"]:
        yield {"event": "guideline", "seed": seed}
        yield {"event": "corpus", "first": ["article"], "added": "news", "seed": seed}
        if not quick:
            first = ["article", "news"]
            yield {"event": "corpus", "first": first, "added": "wisesight", "seed": seed}


def begin(gold: list[Segmented], arms: dict[str, DrawConfig], *, seed: int, test: int) -> Replay:
    """A study before anything was drawn."""
    config = StudyConfig(arms=arms, segmenter=SegmenterConfig(), seed_sentences=30, seed=seed)
    return Replay.of(gold, config=config, fraction=0.0, minimum=test, union=False, by="genre")


def forked(made: Replay) -> Replay:
    """The same study, to go on with in another way."""
    other = copy.copy(made)
    other.gold, other.meta = dict(made.gold), dict(made.meta)
    other.models, other.points = dict(made.models), []
    return other


def guideline(cell: dict[str, Any], args: Any) -> dict[str, Any]:
    """การ and ความ are joined with the word behind them from some day on."""
    sizes, seed = settings(args.quick), cell["seed"]
    drawn = {"budget": sizes["batch"], "salt": f"seed {seed}"}
    arms = {name: DrawConfig(strategy=name, **drawn) for name in ("mnlp", "random")}
    found = [row for genre in ("article", "news") for row in sentences(args.data, genre)]
    gold = shuffled(found, seed=seed, most=sizes["pool"] + sizes["test"])
    made = begin(gold, arms, seed=seed, test=sizes["test"])
    for batch in range(sizes["before"] + 1):
        made.batch()
        made.train(None if batch == sizes["before"] else ["mnlp"])
    stale = made.test()
    results: dict[str, Any] = {"before": rows(made.points[-2:])}
    for name, policy in POLICIES.items():
        other = forked(made)
        rule = RULE if policy == "migrate" else None
        event = Event(kind="guideline.change", after="g2", policy=policy, rule=rule)
        other.happen(Happening(batch=0, event=event, rule=RULE))
        of_policy = []
        for batch in range(sizes["after"] + 1):
            if batch:
                other.batch()
            if batch or policy != "drop":  # without a label there is no model
                points = other.train()
                old = measure(other.study, other.models, test=stale)
                of_policy.append({"batch": batch, "points": rows(points), "stale": rows(old)})
        results[name] = of_policy
    return results


def corpus(cell: dict[str, Any], args: Any) -> dict[str, Any]:
    """New text joins the corpus, of a kind that was not in it."""
    sizes, seed = settings(args.quick), cell["seed"]
    drawn = {"budget": sizes["batch"], "salt": f"seed {seed}"}
    arms = {
        "mnlp": DrawConfig(strategy="mnlp", **drawn),
        "random with backfill": DrawConfig(strategy="random", **drawn),
        "random without": DrawConfig(strategy="random", **drawn),
    }
    total = sizes["pool"] + sizes["test"]
    added = shuffled(sentences(args.data, cell["added"]), seed=seed, most=round(ADDED * total))
    found = [row for genre in cell["first"] for row in sentences(args.data, genre)]
    gold = shuffled(found, seed=seed, most=round(len(added) / ADDED * (1 - ADDED)))
    made = begin(gold, arms, seed=seed, test=round(sizes["test"] * (1 - ADDED)))
    for _ in range(sizes["before"] + 1):
        made.batch()
        made.train(["mnlp"])
    event = Event(kind="corpus.add", after="s2", note=f"{cell['added']} joins")
    made.happen(Happening(batch=0, event=event, add=added))
    # Another order from here on: uniform over what is left, as if nothing had been drawn before.
    other = replace(arms["random without"], salt=f"after {seed}")
    others = {**arms, "random without": other}
    made.study = replace(made.study, config=replace(made.study.config, arms=others))
    batches = []
    for _ in range(sizes["after"]):
        before = len(made.study.picks)
        made.batch()
        shares = {
            arm: share(
                made, cell["added"], [p.uid for p in made.study.picks[before:] if p.arm == arm]
            )
            for arm in arms
        }
        batches.append({"shares": shares, "missing": missing(made, "random with backfill")})
    points = made.train()
    pool = share(
        made, cell["added"], [u for u in made.study.sentences if u not in made.study.reserved]
    )
    whole = {
        arm: share(made, cell["added"], [row.meta["id"] for row in sample])
        for arm, sample in samples(made.study).items()
    }
    return {"batches": batches, "points": rows(points), "pool": pool, "arms": whole}


def share(made: Replay, genre: str, uids: list[str]) -> float:
    """Of a genre among some sentences."""
    return sum(made.meta[uid]["genre"] == genre for uid in uids) / max(len(uids), 1)


def missing(made: Replay, arm: str) -> int:
    """Sentences below the threshold of a random arm that it was not served; 0: it is uniform."""
    config, study = made.study.config.arms[arm], made.study
    fitting = [
        uid
        for uid, sentence in study.sentences.items()
        if uid not in study.reserved and config.shortest <= len(sentence.text) <= config.longest
    ]
    return len(backfill(fitting, drawn=set(study.served(arm)), salt=config.salt))


RUNS: dict[str, Callable[[dict[str, Any], Any], dict[str, Any]]] = {
    "guideline": guideline,
    "corpus": corpus,
}


def f1(found: dict[str, Any], policy: str, arm: str, batch: int, *, stale: bool = False) -> float:
    """Of one model after the change."""
    at = next(one for one in found[policy] if one["batch"] == batch)
    return next(p["word_f1"] for p in at["stale" if stale else "points"] if p["arm"] == arm)


def main() -> None:
    """Print tables, and the claim."""
    args = arguments(__doc__ or "")
    kept = artefacts.home() / "benchmarks" / "active-events"
    kept.mkdir(parents=True, exist_ok=True)
    file = kept / f"{'quick' if args.quick else 'full'}.jsonl"
    done = kept_rows(file)
    changed, grown = [], []
    for cell in cells(args.quick):
        name = json.dumps(cell)
        if name not in done:
            began = time.perf_counter()
            done[name] = {"cell": name, **RUNS[cell["event"]](cell, args)}
            done[name]["seconds"] = time.perf_counter() - began
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(done[name], default=float) + "\n")
        (changed if cell["event"] == "guideline" else grown).append({**done[name], **cell})
    last = settings(args.quick)["after"]
    means = guideline_table(changed, last)
    corpus_table(grown)
    early, other = (
        [means[arm, policy, 1] for policy in ("migrated", "mixed", "new only")]
        for arm in ("mnlp", "random")
    )
    ordered = early[0] > early[1] > early[2]
    uniform = all(one["batches"][-1]["missing"] == 0 for one in grown)
    gain = 100 * (early[0] - early[2])
    old = statistics.mean(
        p["word_f1"] for one in changed for p in one["before"] if p["arm"] == "mnlp"
    )
    stale = [
        statistics.mean(f1(one, "migrated", "mnlp", batch, stale=True) for one in changed)
        for batch in range(last + 1)
    ]
    fresh = [means["mnlp", "migrated", batch] for batch in range(last + 1)]
    print(
        f"migrated, mnlp, by batch: {numbers(fresh)} under the new guideline; {numbers(stale)} on "
        f"the stale test set, where it was {old:.4f} before the change"
    )
    line = {
        "claim": "active-events",
        "figure": round(gain, 2),
        "unit": "points of word F1 of rewritten labels over new ones alone, one batch after",
        "baseline": f"new labels only: {early[2]:.4f}",
        "ratio": round(early[0] / early[2], 4),
        "target": 1.0,
        "ok": bool(ordered and uniform),
        "migrated_mixed_new_only": [round(value, 4) for value in early],
        "the_same_of_the_random_arm": [round(value, 4) for value in other],
        "uniform_after_backfill": uniform,
        "gain_seen_on_new_labels": round(100 * (fresh[-1] - fresh[0]), 2),
        "gain_seen_on_stale_labels": round(100 * (stale[-1] - stale[0]), 2),
        "note": f"one batch after the change rewritten {early[0]:.3f}, mixed {early[1]:.3f}, new "
        f"labels only {early[2]:.3f} (random arm: {numbers(other)}); a random arm is "
        f"{'uniform' if uniform else 'not uniform'} three batches after new text; what the models "
        f"gain in the end is {100 * (fresh[-1] - fresh[0]):.1f} points on the new test labels and "
        f"{100 * (stale[-1] - stale[0]):.1f} on the stale ones.",
        "seeds": list(settings(args.quick)["seeds"]),
    }
    finish(__file__, line, {"guideline": changed, "corpus": grown}, args)


def guideline_table(changed: list[dict[str, Any]], last: int) -> dict[tuple[str, str, int], float]:
    """Word F1 under the new guideline by arm, policy and batch: printed, and the means."""
    means = {}
    print(f"{'arm':7} {'policy':9}", *(f"{f'batch {batch}':>24}" for batch in range(last + 1)))
    for arm in ("mnlp", "random"):
        for policy in POLICIES:
            found = []
            for batch in range(last + 1):
                of_batch = [
                    f1(one, policy, arm, batch)
                    for one in changed
                    if one[policy][0]["batch"] <= batch
                ]
                if of_batch:
                    means[arm, policy, batch] = statistics.mean(of_batch)
                found.append(numbers(of_batch))
            print(f"{arm:7} {policy:9}", *(f"{text:>24}" for text in found))
    return means


def corpus_table(grown: list[dict[str, Any]]) -> None:
    """Shares of the new text by batch, and what the models then score."""
    for one in grown:
        print(
            f"{one['added']} joins {' and '.join(one['first'])}, {one['pool']:.0%} of the pool, "
            f"seed {one['seed']}"
        )
        for point in one["points"]:
            arm = point["arm"]
            by_genre = "  ".join(
                f"{name[8:-1]} {value:.4f}"
                for name, value in point.items()
                if name[:8] == "word_f1["
            )
            shares = " ".join(f"{batch['shares'][arm]:5.0%}" for batch in one["batches"])
            print(
                f"  {arm:22} {shares}  arm {one['arms'][arm]:4.0%}  F1 {point['word_f1']:.4f}  "
                f"{by_genre}"
            )
        print(f"  still to be backfilled: {[batch['missing'] for batch in one['batches']]}")


def numbers(values: list[float]) -> str:
    """Scores in a line."""
    return " ".join(f"{value:.4f}" for value in values) or "-"


if __name__ == "__main__":
    main()
