"""Does a draft that DistillSpec trained give more tokens for each pass of its target?

Ratio: block efficiency less one after training over the same before, drafts of five, mean of greedy
decoding and temperature 1, of two corpora and three seeds. Beside it every divergence and source of
texts, and whether the predicted speed-up is what a clock measures. Every training is kept, and a
second call goes on where the first one stopped.
"""

import logging
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import finish, parent, parse, spread
from grown import grow

from attar import checkpoint
from attar.data.data import STDLIB
from attar.decode.bench import profile
from attar.decode.pair import load_pair
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.texts import prompts_of
from attar.report.record import Run
from drafts import cut_of, draft_of

TARGET, CALIBRATED = 1.15, 0.10
SEEDS = (0, 1, 2)
#: name -> divergence, share of the draft's texts, share of the target's
ROWS: dict[str, tuple[Any, float, float]] = {
    "forward KL, draft's texts": ("forward_kl", 1.0, 0.0),
    "forward KL, target's texts": ("forward_kl", 0.0, 1.0),
    "forward KL, data": ("forward_kl", 0.0, 0.0),
    "JS, draft's texts": ("js", 1.0, 0.0),
    "reverse KL, draft's texts": ("reverse_kl", 1.0, 0.0),
    "TVD, draft's texts": ("tvd", 1.0, 0.0),
    "LK, draft's texts": ("lk", 1.0, 0.0),
}
DEFAULT = next(iter(ROWS))
#: all seeds of the first three; of the others one
MANY = list(ROWS)[:3]
EFFICIENCY = ("block efficiency at T=0", "block efficiency at T=1")
ACCEPTANCE = "acceptance rate at T=1"
GROWN = (12, 6400)  # layers and neurons of the target whose speed is measured


def config_of(row: str, seed: int, *, quick: bool) -> DistillSpecConfig:
    divergence, draft, target = ROWS[row]
    return DistillSpecConfig(
        divergence=divergence,
        draft_share=draft,
        target_share=target,
        max_steps=20 if quick else 200,
        eval_prompts=16 if quick else 128,
        eval_steps=20 if quick else 50,
        max_new_tokens=32 if quick else 64,
        seed=seed,
    )


def cells(data: Path, *, quick: bool) -> Iterator[tuple[str | Path, str, int]]:
    """Corpus, row and seed of every training."""
    books = data / "books"
    for corpus in (STDLIB, books) if books.is_dir() and not quick else (STDLIB,):
        for row in [DEFAULT] if quick else ROWS:
            for seed in SEEDS if row in MANY and not quick else (0,):
                yield corpus, row, seed


def work(data: Path, *, share: tuple[int, int], quick: bool) -> None:
    """Train every n-th draft that is not there yet."""
    torch.set_num_threads(1 if share[1] > 1 else 2)
    size = "1m" if quick else "6m"
    for i, (corpus, row, seed) in enumerate(cells(data, quick=quick)):
        if i % share[1] == share[0]:
            draft_of(parent(size, corpus), corpus, config=config_of(row, seed, quick=quick))


def main() -> None:
    parser = parse(__doc__ or "")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--worker", type=int, default=None, help="which of them this one is")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    size = "1m" if args.quick else "6m"
    if args.worker is not None:
        work(args.data, share=(args.worker, args.workers), quick=args.quick)
        return
    for corpus in dict.fromkeys(corpus for corpus, *_ in cells(args.data, quick=args.quick)):
        cut_of(parent(size, corpus))  # with all threads
    if args.workers > 1:
        own = [sys.executable, __file__, "--data", str(args.data), "--workers", str(args.workers)]
        own += ["--quick"] * args.quick
        started = [subprocess.Popen([*own, "--worker", str(i)]) for i in range(args.workers)]
        if any([one.wait() for one in started]):
            sys.exit("a worker failed; run this again to go on")
    else:
        work(args.data, share=(0, 1), quick=args.quick)
    report(args, size)


def report(args: Any, size: str) -> None:
    """Print the tables, measure the speed, and write the result."""
    torch.set_num_threads(2)
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for corpus, row, seed in cells(args.data, quick=args.quick):
        folder = draft_of(
            parent(size, corpus), corpus, config=config_of(row, seed, quick=args.quick)
        )
        run = Run.load(folder)
        name = Path(str(corpus)).name
        tables.setdefault(name, {}).setdefault(row, []).append(
            run.quality | {"seconds": run.details["seconds"], "best_step": run.details["best_step"]}
        )
    for name, rows in tables.items():
        before = next(iter(rows.values()))[0]["before"]
        print(f"\n{name}: before, {' '.join(f'{key} {before[key]:.3f}' for key in EFFICIENCY)}")
        print(f"  {'':28}{''.join(f'{key:>26}' for key in (*EFFICIENCY, ACCEPTANCE))}{'gain':>8}")
        for row, runs in rows.items():
            keys = (*EFFICIENCY, ACCEPTANCE)
            shown = [spread([run["after"][key] for run in runs]) for key in keys]
            gains = statistics.mean(gain(run) for run in runs)
            print(f"  {row:28}{''.join(f'{text:>26}' for text in shown)}{gains:8.2f}")
    runs = [run for rows in tables.values() for run in rows[DEFAULT]]
    ratio = statistics.mean(gain(run) for run in runs)
    off = {
        row: round(statistics.mean(gain(r) for t in tables.values() for r in t[row]), 3)
        for row in ROWS
        if all(row in t for t in tables.values())
    }
    clock = measured(args, size)
    apart = max(abs(one["measured"] / one["predicted"] - 1) for one in clock)
    line = {
        "claim": "distillspec",
        "figure": round(statistics.mean(efficiency(run, "after") for run in runs), 3),
        "unit": "tokens for each pass of the target, drafts of 5, after training",
        "baseline": f"before: {statistics.mean(efficiency(run, 'before') for run in runs):.3f}",
        "ratio": round(ratio, 3),
        "target": TARGET,
        "gains": off,
        "clock_over_prediction": [round(o["measured"] / o["predicted"], 3) for o in clock],
        "clock_target": CALIBRATED,
        "ok": bool(ratio >= TARGET and apart <= CALIBRATED),
        "note": (
            "(block efficiency - 1) over the same before training, by divergence and source: "
            + ", ".join(f"{row} {value:.2f}" for row, value in off.items())
            + "; measured over predicted speed-up "
            + ", ".join(
                f"{o['measured']:.2f} over {o['predicted']:.2f} (T={o['temperature']:g}, drafts of "
                f"{o['length']})"
                for o in clock
            )
            + f", target within {CALIBRATED:.0%}; by the published formula "
            + ", ".join(f"{o['published']:.2f}" for o in clock)
            + "."
        ),
    }
    finish(__file__, line, {"tables": tables, "clock": clock}, args)


def efficiency(run: dict[str, Any], side: str) -> float:
    """Block efficiency, mean of greedy decoding and temperature 1."""
    return statistics.mean(run[side][key] for key in EFFICIENCY)


def gain(run: dict[str, Any]) -> float:
    """(block efficiency - 1) after over before, mean of both temperatures."""
    return statistics.mean((run["after"][key] - 1) / (run["before"][key] - 1) for key in EFFICIENCY)


def measured(args: Any, size: str) -> list[dict[str, Any]]:
    """Predicted and measured speed-up of the draft on code, with the target grown to 62M."""
    folder = parent(size)
    config = config_of(DEFAULT, 0, quick=args.quick)
    pair = load_pair(folder, draft_of(folder, STDLIB, config=config))
    prompts = [prompt.ids for prompt in prompts_of(pair, STDLIB, config=config)["test"]]
    few = 2 if args.quick else 12
    some = prompts[:: max(1, len(prompts) // few)][:few]
    layers, neurons = (8, 512) if args.quick else GROWN
    target = grow(checkpoint.load(folder), layers=layers, neurons=neurons)
    found = []
    for temperature in (0.0, 1.0):
        one = profile(
            target,
            pair.draft,
            prompts=some,
            temperature=temperature,
            rounds=1 if args.quick else 5,
            max_new_tokens=config.max_new_tokens,
            stops=pair.stops,
        )
        race = one.races[0]
        found.append(
            {
                "temperature": temperature,
                "length": one.best.length,
                "published": one.best.published,
                "predicted": one.best.predicted,
                "measured": race.speedup_decode,
                "with_prompt": race.speedup,
                "cost_model": one.races[1].speedup_decode,
                "tau": {
                    "told": one.best.block_efficiency,
                    "counted": race.block_efficiency,
                },
                "equal": race.equal,
                "profile": one.to_dict(),
            }
        )
        print(
            f"\nT={temperature:g}, target of {target.num_parameters() / 1e6:.0f}M: drafts of "
            f"{one.best.length}, predicted {one.best.predicted:.3f} (published formula "
            f"{one.best.published:.3f}), measured {race.speedup_decode:.3f}"
        )
    return found


if __name__ == "__main__":
    main()
