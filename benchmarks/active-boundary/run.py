"""Do questions about single cuts teach a segmenter more than whole sentences, decision by decision?

Figure: the F1 of boundary queries at their end. Ratio: decisions of whole random sentences over
those of boundary queries at that F1. Besides: two random arms, which should seldom be called
different. Every study is kept, and a second call goes on.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import arguments, finish, kept_rows
from thai import sentences, shuffled

from attar import artefacts
from attar.data.segments import Segmented
from attar.methods.active_segmentation.annotators import Annotator
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.curves import cost_to_reach, difference, points_of, rows
from attar.methods.active_segmentation.drawing import DrawConfig
from attar.methods.active_segmentation.points import Point
from attar.methods.active_segmentation.simulate import Replay, replay
from attar.methods.active_segmentation.study import StudyConfig

TARGET = 3.0
REPLAYS = 200  # so many, as of 40 a rate of 5% gives anything from none to five
ALIKE = "two random arms"
LEVELS = 5  # scores at which the ratio is printed besides
GENRES = {"best": ("article", "news"), "wisesight": ("wisesight",)}


FULL = {"pool": 4000, "test": 600, "queries": 5000, "batch": 500, "whole": 40000, "step": 2000}
QUICK = {"pool": 500, "test": 150, "queries": 600, "batch": 300, "whole": 4000, "step": 1000}


def settings(quick: bool) -> dict[str, Any]:
    """Sizes of a run."""
    if quick:
        return QUICK | {"replays": 3, "refits": 2, "random": 6000, "seeds": [1]}
    return FULL | {"replays": REPLAYS, "refits": 5, "random": 12000, "seeds": [1, 2, 3]}


def cells(quick: bool) -> Iterator[dict[str, Any]]:
    """All studies: what is compared, where, with which seed."""
    seeds = settings(quick)["seeds"]
    asked = {"kind": "queries", "corpus": "best", "dictionary": "pythainlp", "flip": 0.0}
    yield from ({**asked, "seed": seed} for seed in seeds)
    if not quick:
        yield from ({**asked, "corpus": "wisesight", "seed": seed} for seed in seeds)
        yield {**asked, "dictionary": None, "seed": 1}
        yield {**asked, "flip": 0.02, "seed": 1}
        yield from ({"kind": "whole sentences", "corpus": "best", "seed": seed} for seed in seeds)
    for seed in range(settings(quick)["replays"]):
        yield {"kind": ALIKE, "corpus": "best", "seed": seed}


def corpus(cell: dict[str, Any], args: Any) -> list[Segmented]:
    """The gold sentences of a study, its test set among them."""
    sizes = settings(args.quick)
    found = [row for genre in GENRES[cell["corpus"]] for row in sentences(args.data, genre)]
    return shuffled(found, seed=cell["seed"], most=sizes["pool"] + sizes["test"])


def queries(cell: dict[str, Any], args: Any) -> dict[str, Any]:
    """Boundary queries, random positions, and whole random sentences."""
    sizes = settings(args.quick)
    gold = corpus(cell, args)
    test = min(sizes["test"], len(gold) // 3)
    asked = {"unit": "decisions", "budget": sizes["batch"], "salt": f"seed {cell['seed']}"}
    arms = {
        "boundary queries": DrawConfig(strategy="boundaries", **asked),
        "random positions": DrawConfig(strategy="random_boundaries", **asked),
        "random sentences": DrawConfig(strategy="random", **{**asked, "budget": sizes["step"]}),
    }
    made = Replay.of(
        gold,
        config=StudyConfig(
            arms=arms,
            segmenter=SegmenterConfig(kind="pointwise", dictionary=cell["dictionary"]),
            seed_sentences=30,
            seed=cell["seed"],
        ),
        fraction=0.0,
        minimum=test,
        annotators=[Annotator(flip=float(cell["flip"]))],
        union=False,
    )
    spent = {arm: sizes["queries"] for arm in arms} | {"random sentences": sizes["whole"]}
    replay(made, budgets=spent)
    return {"points": rows(made.points), "test": len(made.test()), "warnings": made.warnings}


def whole_sentences(cell: dict[str, Any], args: Any) -> dict[str, Any]:
    """Two active arms on whole sentences against a random one, of equal characters."""
    drawn = {"salt": f"seed {cell['seed']}", "budget": 6000}
    arms = {
        "random": DrawConfig(strategy="random", **drawn),
        "mnlp": DrawConfig(strategy="mnlp", **drawn),
        "total entropy": DrawConfig(strategy="total_token_entropy", **drawn),
    }
    made = study(cell, args, arms=arms, refits=5)
    replay(made, budgets={arm: 30000 for arm in arms})
    of = {arm: [point for point in made.points if point.arm == arm] for arm in arms}
    gaps = {
        f"{arm} - random": {
            axis: difference(of[arm], of["random"], axis=axis).to_dict()
            for axis in ("sentences", "characters", "corrections", "seconds")
        }
        for arm in list(arms)[1:]
    }
    return {"points": rows(made.points), "differences": gaps}


def two_random_arms(cell: dict[str, Any], args: Any) -> dict[str, Any]:
    """Two arms that differ by chance alone, and whether their intervals say so."""
    sizes = settings(args.quick)
    arms = {
        name: DrawConfig(strategy="random", budget=4000, salt=f"{name} {cell['seed']}")
        for name in ("first", "second")
    }
    made = study(cell, args, arms=arms, refits=sizes["refits"])
    replay(made, budgets={arm: sizes["random"] for arm in arms})
    first, second = ([p for p in made.points if p.arm == arm] for arm in arms)
    gap = difference(first, second)
    return {"difference": gap.to_dict(), "points": rows(made.points)}


def study(cell: dict[str, Any], args: Any, *, arms: dict[str, DrawConfig], refits: int) -> Replay:
    """A study of whole sentences."""
    config = StudyConfig(
        arms=arms,
        segmenter=SegmenterConfig(kind="pointwise"),
        seed_sentences=30,
        seed=cell["seed"],
    )
    return Replay.of(
        corpus(cell, args),
        config=config,
        fraction=0.0,
        minimum=settings(args.quick)["test"],
        refits=refits,
        union=False,
    )


RUNS = {
    "queries": queries,
    "whole sentences": whole_sentences,
    ALIKE: two_random_arms,
}


def curve(found: dict[str, Any], arm: str) -> list[Point]:
    """One arm's points of a study that was kept."""
    return [point for point in points_of(found["points"]) if point.arm == arm]


def ratios(found: dict[str, Any]) -> dict[str, Any]:
    """Decisions of whole random sentences over those of boundary queries, where the queries end or
    the sentences do, and at lower scores.
    """
    ours, whole = curve(found, "boundary queries"), curve(found, "random sentences")
    top = min(max(p.word_f1 for p in ours), max(p.word_f1 for p in whole))
    start = ours[0].word_f1
    at = {}
    for step in range(1, LEVELS + 1):
        level = start + (top - start) * step / LEVELS
        mine, theirs = (cost_to_reach(c, level, axis="decisions") for c in (ours, whole))
        if mine and theirs:
            touched = [cost_to_reach(c, level, axis="sentences") for c in (ours, whole)]
            at[f"{level:.4f}"] = {
                "queries": mine,
                "sentences": theirs,
                "ratio": theirs / mine,
                "touched": touched,
            }
    last = list(at.values())[-1]
    return {"ratio": last["ratio"], "f1": top, "at": at}


def main() -> None:
    """Print tables, and the claim."""
    args = arguments(__doc__ or "")
    kept = artefacts.home() / "benchmarks" / "active-boundary"
    kept.mkdir(parents=True, exist_ok=True)
    file = kept / f"{'quick' if args.quick else 'full'}.jsonl"
    done = kept_rows(file)
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in cells(args.quick):
        name = json.dumps(cell)
        if name not in done:
            began = time.perf_counter()
            done[name] = {"cell": name, **RUNS[cell["kind"]](cell, args)}
            done[name]["seconds"] = time.perf_counter() - began
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(done[name], default=float) + "\n")
        found.setdefault(cell["kind"], []).append({**done[name], **cell})
    queried = [one | ratios(one) for one in found["queries"]]
    table(queried)
    main_cells = [
        one for one in queried if one["corpus"] == "best" and one["dictionary"] and not one["flip"]
    ]
    ratio = statistics.mean(one["ratio"] for one in main_cells)
    gaps = [one["difference"] for one in found[ALIKE]]
    called = [gap["low"] > 0 or gap["high"] < 0 for gap in gaps]
    test_only = [abs(gap["value"]) > gap["test"] for gap in gaps]
    print(
        f"two random arms: called different in {sum(called)} of {len(gaps)}; by the test interval "
        f"alone in {sum(test_only)}"
    )
    for one in found.get("whole sentences", ()):
        for name, by_axis in one["differences"].items():
            cells_ = (
                f"{a} {100 * g['value']:+.2f} +- {100 * g['both']:.2f}" for a, g in by_axis.items()
            )
            print(f"seed {one['seed']}, {name}: {'; '.join(cells_)}")
    touched = [
        [round(number) for number in list(one["at"].values())[-1]["touched"]] for one in main_cells
    ]
    second = [one["ratio"] for one in queried if one["corpus"] == "wisesight"]
    reading = statistics.mean(queries / whole for queries, whole in touched)
    line = {
        "claim": "active-boundary",
        "figure": round(statistics.mean(one["f1"] for one in main_cells), 4),
        "unit": "word F1 of boundary queries at their end",
        "baseline": "whole random sentences of as good a model",
        "ratio": round(ratio, 3),
        "target": TARGET,
        "ok": bool(ratio >= TARGET and sum(called) <= 0.05 * len(gaps)),
        "ratios": [round(one["ratio"], 2) for one in main_cells],
        "second_domain": [round(one, 2) for one in second],
        "sentences_touched": touched,
        "two_random_arms_called_different": f"{sum(called)} of {len(gaps)}",
        "by_the_test_interval_alone": sum(test_only),
        "note": f"the queries look into {reading:.1f} times as many sentences; ratio on "
        f"Wisesight {', '.join(f'{one:.1f}' for one in second)}; of {len(gaps)} pairs of random "
        f"arms {sum(called)} were called different, by the test interval alone {sum(test_only)}.",
        "seeds": settings(args.quick)["seeds"],
    }
    alike = [{name: v for name, v in one.items() if name != "points"} for one in found[ALIKE]]
    finish(__file__, line, {**found, "queries": queried, ALIKE: alike}, args)


def table(queried: list[dict[str, Any]]) -> None:
    """Each study of boundary queries."""
    print(
        f"{'corpus':10} {'dict':>5} {'flip':>5} {'seed':>4} {'F1':>7} {'queries':>8} "
        f"{'sentences':>9} {'ratio':>6} {'touched':>13} {'random positions':>17}"
    )
    for one in queried:
        for level, at in one["at"].items():
            position = cost_to_reach(curve(one, "random positions"), float(level), axis="decisions")
            print(
                f"{one['corpus']:10} {'yes' if one['dictionary'] else 'no':>5} {one['flip']:5} "
                f"{one['seed']:4d} {float(level):7.4f} {at['queries']:8.0f} {at['sentences']:9.0f} "
                f"{at['ratio']:6.2f} {at['touched'][0]:6.0f} {at['touched'][1]:6.0f} "
                f"{'not reached' if position is None else f'{position:.0f}':>17}"
            )


if __name__ == "__main__":
    main()
