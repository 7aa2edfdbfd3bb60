"""Does Bonsai lose less than the baselines at 50% of the blocks, and still after equal healing?

Ratio: Bonsai's rise of NLL over the parent on unseen text, before healing, over that of the best
baseline (random, magnitude, wanda, FLAP, each with both allocations), mean of the seeds.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import arguments, finish, parent, spread

from attar import checkpoint, evaluate
from attar.budget import Budget, cost_of
from attar.cli.recipe import read_recipe
from attar.data import load_text, pack
from attar.methods.bonsai import BonsaiConfig, search
from attar.methods.bonsai.prune import calibration_windows
from attar.methods.bonsai.search import kept_widths
from attar.train.distill import HealConfig, heal_model
from attar.train.teachers import CachedTeacher

TARGET = 0.65
#: name -> (method, allocation); all may cut every layer as they like
VARIANTS = {
    "random (equal)": ("random", "equal"),
    "magnitude (equal)": ("magnitude", "equal"),
    "magnitude (global)": ("magnitude", "global"),
    "wanda (equal)": ("wanda", "equal"),
    "wanda (global)": ("wanda", "global"),
    "flap (global)": ("flap", "global"),
    "blockwise": ("blockwise", "global"),
    "bonsai": ("bonsai", "global"),
}
OURS = ("bonsai", "blockwise")


def main() -> None:
    args = arguments(__doc__ or "")
    seeds = [0] if args.quick else [0, 1, 2]
    variants = (
        {k: VARIANTS[k] for k in ("wanda (equal)", "flap (global)", "bonsai")}
        if args.quick
        else VARIANTS
    )
    folder = parent("1m" if args.quick else "6m")
    tokenizer = checkpoint.load_tokenizer(folder)
    documents = load_text("python-stdlib")
    corpora = {"python-stdlib": documents["test"]}
    if (args.data / "books").is_dir():
        corpora["books"] = load_text(args.data / "books")["test"]
    tokens = 10_000 if args.quick else 25_000
    teacher = checkpoint.load(folder)

    def measured(model) -> dict[str, float]:
        return {
            name: evaluate.score(model, tokenizer, texts, max_tokens=tokens).nll
            for name, texts in corpora.items()
        }

    search_options = read_recipe("bonsai/cpu-tiny") | (
        {"step": 0.125, "evaluations": 32} if args.quick else {}
    )
    dense = measured(teacher)
    budget = Budget.parse("params<=50%").resolve(cost_of(teacher))
    rows: dict[str, list[dict]] = {name: [] for name in variants}
    models = {}
    for seed in seeds:
        for name, (method, allocation) in variants.items():
            if method == "blockwise" and seed:
                continue  # it draws nothing at random but its text
            config = BonsaiConfig(**search_options, allocation=allocation, seed=seed)
            model = checkpoint.load(folder)
            windows = calibration_windows(model, tokenizer, documents["train"], config)
            began = time.perf_counter()
            found = search(model, windows, budget=budget, method=method, config=config)
            seconds = time.perf_counter() - began
            row = {
                "nll": measured(model),
                "blocks": cost_of(model).block_params / cost_of(teacher).block_params,
                "evaluations": sum(s.evaluations for s in found.steps),
                "seconds": seconds,
                "taus": [s.tau for s in found.steps if s.tau is not None],
                "fell_back": sum(bool(s.fell_back) for s in found.steps),
                "widths": kept_widths(model),
            }
            rows[name].append(row)
            models[name, seed] = model
            print(f"seed {seed}  {name:20} {row['nll']}  {seconds:.0f} s", flush=True)
    heal_options = read_recipe("bonsai/cpu-tiny-heal") | (
        {"max_steps": 20 if args.quick else 40, "per_device_train_batch_size": 8}
    )
    healed = _best_of_each(rows)
    heal_config = HealConfig(**heal_options)
    packed = pack(documents["train"], tokenizer, block_size=heal_config.block_size or 256)
    used = packed.select(
        range(min(len(packed), heal_config.max_steps * heal_config.per_device_train_batch_size))
    )
    cache = checkpoint.home() / "benchmarks" / f"teacher-{folder.name}-{len(used)}"
    CachedTeacher.build(teacher, used, path=cache, tokenizer=tokenizer, k=64, batch_size=8)
    for seed in seeds:
        for name in healed:
            if (name, seed) not in models:
                continue
            model = models[name, seed]
            heal_model(model, used, teacher=CachedTeacher(cache), config=heal_config)
            rows[name][seed]["healed"] = measured(model)
            print(f"seed {seed}  {name:20} healed {rows[name][seed]['healed']}", flush=True)
    _report(rows, dense, seeds, args)


def _best_of_each(rows: dict[str, list[dict]]) -> list[str]:
    """Per method the allocation that lost least: only it is healed."""
    best: dict[str, str] = {}
    for name, found in rows.items():
        method = name.split(" ")[0]
        if method not in best or _rise(found) < _rise(rows[best[method]]):
            best[method] = name
    return list(best.values())


def _rise(found: list[dict], key: str = "nll", dense: float = 0.0) -> float:
    return statistics.mean(row[key]["python-stdlib"] for row in found) - dense


def _report(rows, dense, seeds, args) -> None:
    base = dense["python-stdlib"]
    rises = {name: _rise(found, dense=base) for name, found in rows.items()}
    baseline = min((n for n in rises if n not in OURS), key=lambda n: rises[n])
    print(f"\nparent: {dense}")
    print(f"{'method':22}{'NLL rise (range)':>26}{'perplexity':>12}{'healed rise':>26}", end="")
    print("".join(f"{name + ' NLL':>22}" for name in dense if name != "python-stdlib"))
    for name, found in rows.items():
        values = [row["nll"]["python-stdlib"] - base for row in found]
        ppl = statistics.mean(2.718281828 ** row["nll"]["python-stdlib"] for row in found)
        healed = [row["healed"]["python-stdlib"] - base for row in found if "healed" in row]
        other = [statistics.mean(r["nll"][c] for r in found) for c in dense if c != "python-stdlib"]
        print(f"{name:22}{spread(values):>26}{ppl:>12.2f}", end="")
        print(f"{spread(healed) if healed else '-':>26}", end="")
        print("".join(f"{value:>22.3f}" for value in other))
    healed_rises = {
        n: _rise(f, "healed", base) for n, f in rows.items() if all("healed" in r for r in f)
    }
    others = {n: v for n, v in healed_rises.items() if n not in OURS}
    ratio = rises["bonsai"] / rises[baseline]
    healed_best = min(others, key=lambda n: others[n])
    line = {
        "claim": "bonsai-quality",
        "figure": round(rises["bonsai"], 4),
        "unit": "rise of NLL over the parent at 50% of blocks, nats per token, before healing",
        "baseline": f"{baseline}: {rises[baseline]:.4f}",
        "ratio": round(ratio, 4),
        "target": TARGET,
        "ok": bool(ratio <= TARGET and healed_rises["bonsai"] < others[healed_best]),
        "healed": round(healed_rises["bonsai"], 4),
        "healed_baseline": f"{healed_best}: {others[healed_best]:.4f}",
    }
    if "blockwise" in rises:
        line["blockwise"] = round(rises["blockwise"], 4)
    if "books" in dense:
        books = {
            n: statistics.mean(r["nll"]["books"] for r in rows[n]) for n in ("bonsai", baseline)
        }
        line["books"] = {
            "parent": round(dense["books"], 4),
            "bonsai": round(books["bonsai"], 4),
            "baseline": round(books[baseline], 4),
        }
    finish(__file__, line, {"parent": dense, "seeds": seeds, "rows": rows}, args)


if __name__ == "__main__":
    main()
