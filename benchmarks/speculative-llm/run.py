"""A real chat model: is speculative decoding faster than assisted generation, and than plain?

Ratio: tokens a second of our fastest way over those of the fastest of assisted generation, greedy,
batch 1, in turns, with the same drafts: layers of SmolLM2 itself, distilled, and prompt lookup.
Beside it temperature 1, batch 8 and float32.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import finish, parse
from smollm2 import smollm2
from ways import race, ways_of

from attar import artefacts, checkpoint
from attar.data.prompts import load_prompts
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.distill import train_draft
from attar.methods.distillspec.start import init_draft
from attar.models import computing_dtype
from attar.report.record import Run
from attar.runtime import place
from attar.train.heal import HealConfig, heal

OVER_ASSISTED = {"cpu": 1.25, "cuda": 2.0}
PROMPT = 64


@dataclass(frozen=True)
class Setting:
    """How much is spent."""

    layers: int = 2  # of the draft
    text_steps: int = 500  # of 2,048 tokens of books
    steps: int = 40  # of 16 texts that the model wrote
    prompts: int = 8
    new: int = 64
    rounds: int = 2


QUICK = Setting(text_steps=0, steps=0, prompts=1, new=12, rounds=1)
GPU = Setting(layers=4, text_steps=10_000, steps=1_000)


def main() -> None:
    parser = parse(__doc__ or "")
    parser.add_argument("--gpu", action="store_true", help="train longer, and decode on the GPU")
    args = parser.parse_args()
    setting = QUICK if args.quick else GPU if args.gpu else Setting()
    torch.set_num_threads(2)
    source = smollm2()
    books = args.data / "books"
    trained = _draft(source, books, setting)
    prompts = _prompts(source, books / "test.txt.gz", setting)
    tables: dict[str, dict[str, Any]] = {}
    usual = computing_dtype(checkpoint.load(source))
    for dtype in dict.fromkeys((usual, torch.float32)):
        target: Any = checkpoint.load(source, dtype=dtype)
        draft: Any = checkpoint.load(trained, dtype=dtype)
        for model in (target, draft):
            model.generation_config.eos_token_id = None  # so that all texts are of one length
            place(model, "cuda" if args.gpu else "cpu")
        for temperature in (0.0, 1.0) if dtype is usual else (0.0,):
            raced = _raced(
                target,
                draft,
                prompts=prompts,
                temperature=temperature,
                setting=setting,
                compiled=not args.quick and dtype is usual and not temperature,
            )
            for batch, rows in raced.items():
                name = f"{str(dtype).removeprefix('torch.')}, T={temperature:g}, {batch}"
                _show(name, rows)
                tables[name] = rows
    line = _line(tables, "cuda" if args.gpu else "cpu")
    made = Run.load(trained)
    details = {
        "tables": tables,
        "layers": setting.layers,
        "draft_vocabulary": made.details.get("draft_vocabulary"),
        "trained": made.quality,
        "cost": made.cost["after"],
        "threads": torch.get_num_threads(),
        "card": torch.cuda.get_device_name() if args.gpu else None,
    }
    finish(__file__, line, details, args)


def _raced(
    target: Any,
    draft: Any,
    *,
    prompts: torch.Tensor,
    temperature: float,
    setting: Setting,
    compiled: bool,
) -> dict[str, Any]:
    """The races with a prompt at a time and with all of them at once."""
    prompts = prompts.to(target.device)
    compiled = compiled and prompts.device.type == "cpu" and shutil.which("c++") is not None
    ways = ways_of(target, draft, temperature, new=setting.new, compiled=compiled)
    one = [prompt[None] for prompt in prompts]
    tables = {"batch 1": race(ways, one, rounds=setting.rounds, new=setting.new)}
    if len(prompts) > 1:
        ways = ways_of(target, draft, temperature, new=setting.new, batch=True)
        name = f"batch {len(prompts)}"
        rounds = 4 * setting.rounds  # of one call each, which alone says little
        tables[name] = race(ways, [prompts], rounds=rounds, new=setting.new)
    return tables


def _show(name: str, rows: Mapping[str, Any]) -> None:
    print(f"\n{name}")
    for way, row in rows.items():
        tau = f"  tau {row['tau']:.2f}" if "tau" in row else ""
        print(f"  {way:32}{row['rate']:8.1f} tokens/s{tau}  same {row['same']}", flush=True)


def _line(tables: Mapping[str, Mapping[str, Any]], device: str) -> dict[str, Any]:
    greedy = next(iter(tables.values()))  # in the type that this machine computes in
    ours, theirs = _fastest(greedy, "ours"), _fastest(greedy, "assisted")
    over = {name: _rate(rows, "ours") / rows["plain"]["rate"] for name, rows in tables.items()}
    ratio, target = greedy[ours]["rate"] / greedy[theirs]["rate"], OVER_ASSISTED[device]
    told = ", ".join(f"{value:.2f} ({name})" for name, value in over.items())
    compiled = max((row["rate"] for way, row in greedy.items() if "compiled" in way), default=None)
    return {
        "claim": "speculative-llm",
        "figure": round(greedy[ours]["rate"], 1),
        "unit": f"tokens/s of SmolLM2-135M, {next(iter(tables))} ({ours})",
        "baseline": f"{theirs}: {greedy[theirs]['rate']:.1f}",
        "ratio": round(ratio, 3),
        "tau": round(greedy[ours]["tau"], 3),
        "target": target,
        "compiled": compiled and round(compiled / greedy[theirs]["rate"], 3),
        "over_plain": {name: round(value, 3) for name, value in over.items()},
        "ok": bool(ratio >= target and min(over.values()) >= 1),
        "note": f"over plain generate: {told}.",
    }


def _fastest(rows: Mapping[str, Any], whose: str) -> str:
    """The way of one side, with a draft or with lookup, that was fastest without compiling."""
    ways = (way for way in rows if whose in way and "compiled" not in way)
    return max(ways, key=lambda way: rows[way]["rate"])


def _rate(rows: Mapping[str, Any], whose: str) -> float:
    return rows[_fastest(rows, whose)]["rate"]


def _draft(source: Path, books: Path, setting: Setting) -> Path:
    """A draft of the model's own layers: distilled on text, then by DistillSpec on the texts that
    the model writes. All is kept under ATTAR_HOME; a killed training goes on."""
    home = artefacts.home() / "benchmarks" / "drafts"
    names = [f"{source.stem}-{setting.layers}"]
    names += [
        f"{names[0]}-{setting.text_steps}",
        f"{names[0]}-{setting.text_steps}-{setting.steps}",
    ]
    cut, read, draft = (home / name for name in names)
    if not _done(cut):
        init_draft(source, layers=setting.layers, output_dir=cut)
    if not setting.steps:
        return cut
    if not _done(read):
        config = HealConfig(
            ce_weight=0.0,
            teacher_cache="none",
            context=256,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            max_steps=setting.text_steps,
            save_steps=25,
            eval_tokens=20_000,
        )
        heal(cut, books, teacher=source, config=config, output_dir=read, resume=True)
    if not _done(draft):
        config = DistillSpecConfig(
            draft_share=0.0,
            target_share=1.0,
            temperature=0.0,
            prompt_tokens=PROMPT,
            max_new_tokens=setting.new,
            per_device_train_batch_size=16,
            max_steps=setting.steps,
            save_steps=10,
            eval_steps=setting.steps // 4,
            eval_prompts=24,
        )
        train_draft(read, books, target=source, config=config, output_dir=draft, resume=True)
    return draft


def _done(folder: Path) -> bool:
    return (folder / "attar.json").exists()


def _prompts(source: Path, data: Path, setting: Setting) -> torch.Tensor:
    found = load_prompts(
        data,
        checkpoint.load_tokenizer(source),
        prompt_tokens=PROMPT,
        completion_tokens=setting.new,
    )["test"]
    count = setting.prompts
    return torch.tensor([list(found[i * len(found) // count].ids) for i in range(count)])


if __name__ == "__main__":
    main()
