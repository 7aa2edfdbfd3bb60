"""SmolLM2-135M with 20% and 40% of its blocks gone: who loses least, before and after healing?

Ratio: the rise of NLL on WikiText-2 at 20%, before healing, of the best of our methods over that of
the best baseline. Everything is kept under ATTAR_HOME as it is measured: a run that is stopped goes
on where it was.
"""

import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import finish, parse
from smollm2 import smollm2

from attar import artefacts, checkpoint
from attar.budget import Budget
from attar.data.text import load_text
from attar.data.tokens import pack
from attar.evaluation import likelihood
from attar.evaluation.harness import tasks as harness_scores
from attar.evaluation.model import rows_of
from attar.measure.cost import cost_of
from attar.methods.bonsai import BonsaiConfig, strategy_of
from attar.models import computed_in, computing
from attar.pruning.loop import LoopTask, kept_widths, prune_to_budget
from attar.pruning.run import calibration_windows
from attar.runtime import place
from attar.train.heal import HealConfig, heal_model
from attar.train.teachers import CachedTeacher

TARGET = 0.65
TASKS = Path(__file__).resolve().parents[1] / "tasks"  # read from ../shared/data
SHARES = (20, 40)  # per cent of the blocks that go


@dataclass(frozen=True)
class Variant:
    method: str
    allocation: str = "global"
    iterative: bool = False
    layout: str = "per_layer"


VARIANTS = {
    "random": Variant("random", "equal"),
    "magnitude": Variant("magnitude"),
    "wanda (equal)": Variant("wanda", "equal"),
    "wanda (global)": Variant("wanda"),
    "wanda (equal, in steps)": Variant("wanda", "equal", iterative=True),
    "flap": Variant("flap"),
    "flap (in steps)": Variant("flap", iterative=True),
    "whole layers": Variant("blockwise", layout="depth"),
    "blockwise": Variant("blockwise"),
    "bonsai": Variant("bonsai"),
}
OURS = ("bonsai", "blockwise")
QUICK = ("random", "wanda (equal)", "flap")
HEALED = ("wanda (equal)", "flap", "whole layers", "blockwise", "bonsai")


@dataclass(frozen=True)
class Setting:
    """How much is spent. The full one of a processor is frugal; a GPU can do the published one."""

    windows: int = 8
    context: int = 256
    evaluations: int = 96
    eval_tokens: int = 32_000
    heal_steps: int = 50
    heal_rows: int = 8
    limit: int | None = 300  # rows of a task
    seeds: tuple[int, ...] = (0,)


FULL = Setting()
QUICK_SETTING = Setting(eval_tokens=2_000, heal_steps=0, limit=20)
GPU = Setting(windows=32, context=512, evaluations=200, heal_steps=500, seeds=(0, 1, 2))


class Bench:
    """The parent, the texts, and a folder with all that is measured so far."""

    def __init__(self, setting: Setting, data: Path, name: str) -> None:
        self.setting, self.data = setting, data
        self.source = smollm2()
        self.folder = artefacts.home() / "benchmarks" / f"bonsai-llm-{name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer = checkpoint.load_tokenizer(self.source)
        self.train = load_text(data / "books")["train"]
        self.texts = {
            "wikitext2": rows_of(load_text(data / "wikitext2" / "test.txt"), "all"),
            "books": load_text(data / "books")["test"],
        }

    def config(self, variant: Variant, seed: int) -> BonsaiConfig:
        return BonsaiConfig(
            windows=self.setting.windows,
            context=self.setting.context,
            evaluations=self.setting.evaluations,
            allocation=variant.allocation,
            iterative=variant.iterative,
            seed=seed,
        )

    def load(self) -> Any:
        model = checkpoint.load(self.source)
        place(model)
        return model

    def pruned(self, name: str, share: int, seed: int) -> tuple[Any, dict[str, Any]]:
        """A pruned model, and how it came about. What goes in steps is at 20% on the way to 40%."""
        variant, state = VARIANTS[name], self.folder / f"{name}-{share}-{seed}"
        state.mkdir(exist_ok=True)
        earlier = self.folder / f"{name}-{SHARES[0]}-{seed}" / "search.json"
        in_steps = not strategy_of(variant.method).one_shot
        if share != SHARES[0] and in_steps and earlier.exists() and not any(state.iterdir()):
            artefacts.write_text(state / "search.json", earlier.read_text(encoding="utf-8"))
        model = self.load()
        config = self.config(variant, seed)
        task = LoopTask(
            model=model,
            windows=calibration_windows(model, self.tokenizer, documents=self.train, config=config),
            budget=Budget.parse(f"blocks<={100 - share}%").resolve(cost_of(model)),
            strategy=strategy_of(variant.method),
            layout=variant.layout,
            config=config,
            state=state,
        )
        result = prune_to_budget(task)
        return model, {
            "blocks": cost_of(model).block_params,
            "seconds": sum(step.seconds for step in result.steps),
            "evaluations": sum(step.evaluations for step in result.steps),
            "tokens": sum(step.tokens for step in result.steps),
            "kendall_tau": [s.kendall_tau for s in result.steps if s.kendall_tau is not None],
            "fell_back": [kind for s in result.steps for kind in s.fell_back],
            "widths": kept_widths(model),
        }

    def scores(self, model: Any) -> dict[str, Any]:
        """NLL and bits per byte of each text, and accuracy of the tasks."""
        with computing(model):
            found: dict[str, Any] = {
                name: likelihood.score(
                    model,
                    self.tokenizer,
                    documents=documents,
                    eval_tokens=self.setting.eval_tokens,
                    context=512,
                ).to_dict()
                for name, documents in self.texts.items()
            }
            scores = harness_scores(
                model,
                self.tokenizer,
                names=("rte", "sst2"),
                limit=self.setting.limit,
                include_path=TASKS,
            )
            found["tasks"] = {name: metrics["acc"] for name, metrics in scores.items()}
        return found

    def kept(self, name: str, measure: Any) -> dict[str, Any]:
        """A row of figures, from its file if an earlier run got this far."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            began = time.perf_counter()
            row = measure()
            row["wall_seconds"] = time.perf_counter() - began
            artefacts.write_text(file, json.dumps(row))
        return json.loads(file.read_text(encoding="utf-8"))

    def measure(self, name: str, share: int, seed: int) -> dict[str, Any]:
        def new() -> dict[str, Any]:
            model, row = self.pruned(name, share, seed)
            return row | {"computed_in": computed_in(model)} | self.scores(model)

        row = self.kept(f"{name}-{share}-{seed}", new)
        print(f"{share}%  seed {seed}  {name:26} {row['wikitext2']['nll']:.4f}", flush=True)
        return row

    def healed(self, name: str, share: int, seed: int) -> dict[str, Any]:
        """The scores after the same training on the same answers of the parent."""

        def new() -> dict[str, Any]:
            model, _ = self.pruned(name, share, seed)
            rows, cache = self._lessons()
            config = HealConfig(
                max_steps=self.setting.heal_steps,
                per_device_train_batch_size=self.setting.heal_rows,
                seed=seed,
            )
            began = time.perf_counter()
            heal_model(model, rows, teacher=CachedTeacher(cache), config=config)
            return {"seconds": time.perf_counter() - began} | self.scores(model)

        row = self.kept(f"{name}-{share}-{seed}-healed", new)
        print(f"{share}%  seed {seed}  {name:26} {row['wikitext2']['nll']:.4f} healed", flush=True)
        return row

    def _lessons(self) -> tuple[Any, Path]:
        """Windows of text and the parent's answers to them, the same for all."""
        count = self.setting.heal_steps * self.setting.heal_rows
        few = self.train.shuffle(seed=0).select(range(min(len(self.train), 2_000)))
        rows = pack(few, self.tokenizer, context=self.setting.context).select(range(count))
        cache = self.folder / "answers"
        if not cache.exists():
            CachedTeacher.build(
                self.load(), rows, path=cache, tokenizer=self.tokenizer, k=64, batch_size=8
            )
        return rows, cache


def main() -> None:
    parser = parse(__doc__ or "")
    parser.add_argument("--gpu", action="store_true", help="the published setting, three seeds")
    parser.add_argument(
        "--shares", nargs="+", type=int, choices=SHARES, default=SHARES, help="percent to remove"
    )
    parser.add_argument(
        "--heal", nargs="*", type=int, choices=SHARES, default=SHARES, help="those that are healed"
    )
    args = parser.parse_args()
    setting = QUICK_SETTING if args.quick else GPU if args.gpu else FULL
    bench = Bench(setting, args.data, "quick" if args.quick else "gpu" if args.gpu else "full")
    names = QUICK if args.quick else tuple(VARIANTS)
    shares = SHARES[:1] if args.quick else args.shares
    parent = bench.kept("parent", lambda: bench.scores(bench.load()))
    print(f"parent {parent['wikitext2']['nll']:.4f} nats a token on WikiText-2", flush=True)
    rows: dict[str, Any] = {}
    for share in shares:
        for seed in setting.seeds:
            for name in names:
                rows[f"{name}-{share}-{seed}"] = bench.measure(name, share, seed)
            for name in HEALED if setting.heal_steps and share in args.heal else ():
                rows[f"{name}-{share}-{seed}-healed"] = bench.healed(name, share, seed)
    report(bench, parent, rows, names=names, shares=shares, args=args)


def report(bench: Bench, parent: dict, rows: dict, *, names: Any, shares: Any, args: Any) -> None:
    def mean(name: str, share: int, suffix: str = "", text: str = "wikitext2") -> float:
        found = [rows.get(f"{name}-{share}-{s}{suffix}") for s in bench.setting.seeds]
        if None in found:
            return math.nan
        return sum(row[text]["nll"] - parent[text]["nll"] for row in found if row) / len(found)

    print(f"\nparent: {_told(parent)}")
    for share in shares:
        print(f"\n{share}% of the blocks gone: rise of NLL on WikiText-2 and books, before, healed")
        for name in (n for n in names if f"{n}-{share}-{bench.setting.seeds[0]}" in rows):
            figures = [
                mean(name, share, suffix, text)
                for suffix in ("", "-healed")
                for text in ("wikitext2", "books")
            ]
            first = rows[f"{name}-{share}-{bench.setting.seeds[0]}"]
            told = "".join(f"{value:9.4f}" for value in figures)
            print(f"{name:26}{told}   {_told(first)}")
    first = shares[0]
    mine = min((n for n in names if n in OURS), key=lambda n: mean(n, first), default=None)
    best = min((n for n in names if n not in OURS), key=lambda n: mean(n, first))
    shown = mine or best
    ratio = mean(shown, first) / mean(best, first)
    line: dict[str, Any] = {
        "claim": "bonsai-llm",
        "figure": round(mean(shown, first), 4),
        "unit": f"rise of NLL on WikiText-2 at {first}% of the blocks, nats per token ({shown})",
        "baseline": f"{best}: {mean(best, first):.4f}",
        "ratio": round(ratio, 4),
        "target": TARGET,
        "ok": bool(mine and ratio <= TARGET),
        "parent": round(parent["wikitext2"]["nll"], 4),
    }
    if not args.quick:
        line["healed"] = {name: round(mean(name, first, "-healed"), 4) for name in HEALED}
        for share in shares[1:]:
            risen = {name: mean(name, share) for name in names}
            line[f"at_{share}"] = {
                n: round(rise, 4) for n, rise in risen.items() if not math.isnan(rise)
            }
            if share in args.heal:
                healed = {name: round(mean(name, share, "-healed"), 4) for name in HEALED}
                line[f"healed_at_{share}"] = healed
        line["hours"] = round(sum(row["wall_seconds"] for row in rows.values()) / 3600, 2)
    finish(
        __file__,
        line,
        {"parent": parent, "setting": asdict(bench.setting), "shares": shares, "rows": rows},
        args,
    )


def _told(row: dict[str, Any]) -> str:
    tasks = ", ".join(f"{name} {acc:.3f}" for name, acc in row["tasks"].items())
    return (
        f"perplexity {row['wikitext2']['perplexity']:.2f}, "
        f"books {row['books']['bits_per_byte']:.4f} bits per byte, {tasks}"
    )


if __name__ == "__main__":
    main()
