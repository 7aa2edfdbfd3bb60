"""A real chat model: is speculative decoding faster than assisted generation, and than plain?

Ratio: tokens a second of our fastest way over those of the fastest of assisted generation, greedy,
batch 1, in turns, with the same drafts: layers of SmolLM2 itself, trained by DistillSpec, and
prompt lookup. Beside it temperature 1 and batch 8.
"""

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
from attar.report.record import Run
from attar.runtime import place

OVER_ASSISTED = {"cpu": 1.25, "cuda": 2.0}
PROMPT = 64


@dataclass(frozen=True)
class Setting:
    """How much is spent."""

    depths: tuple[int, ...] = (2, 4, 8)  # of the drafts that are compared
    search_steps: int = 12  # of each
    steps: int = 60  # of the best one, behind these
    batch: int = 8
    prompts: int = 8
    new: int = 96
    rounds: int = 3


QUICK = Setting(depths=(2,), search_steps=0, steps=0, prompts=1, new=12, rounds=1)
GPU = Setting(depths=(2, 4, 6, 8, 12), search_steps=300, steps=3000, batch=32)


def main() -> None:
    parser = parse(__doc__ or "")
    parser.add_argument("--gpu", action="store_true", help="train longer, and decode on the GPU")
    args = parser.parse_args()
    setting = QUICK if args.quick else GPU if args.gpu else Setting()
    torch.set_num_threads(2)
    source = smollm2()
    books = args.data / "books"
    trained, promised = _draft(source, books / "train-0.txt.gz", setting)
    target: Any = checkpoint.load(source, dtype=torch.float32)
    draft: Any = checkpoint.load(trained, dtype=torch.float32)
    for model in (target, draft):
        model.generation_config.eos_token_id = None  # so that all texts are of one length
        place(model, "cuda" if args.gpu else "cpu")
    prompts = _prompts(source, books / "test.txt.gz", setting).to(target.device)
    tables: dict[str, dict[str, Any]] = {}
    for temperature in (0.0, 1.0):
        ways = ways_of(target, draft, temperature, new=setting.new)
        one = [prompt[None] for prompt in prompts]
        name = f"T={temperature:g}, batch 1"
        tables[name] = race(ways, one, rounds=setting.rounds, new=setting.new)
        if not args.quick:
            ways = ways_of(target, draft, temperature, new=setting.new, batch=True)
            name = f"T={temperature:g}, batch 8"
            tables[name] = race(ways, [prompts], rounds=setting.rounds, new=setting.new)
    for name, rows in tables.items():
        print(f"\n{name}")
        for way, row in rows.items():
            tau = f"  tau {row['tau']:.2f}" if "tau" in row else ""
            print(f"  {way:32}{row['rate']:8.1f} tokens/s{tau}  same {row['same']}")
    line = _line(tables, target.device.type)
    details = {
        "tables": tables,
        "layers": draft.config.num_hidden_layers,
        "predicted_speedup_by_layers": promised,
        "params": {"target": target.num_parameters(), "draft": draft.num_parameters()},
        "threads": torch.get_num_threads(),
        "card": torch.cuda.get_device_name() if args.gpu else None,
    }
    finish(__file__, line, details, args)


def _line(tables: Mapping[str, Mapping[str, Any]], device: str) -> dict[str, Any]:
    greedy = tables["T=0, batch 1"]
    ours, theirs = _fastest(greedy, "ours"), _fastest(greedy, "assisted")
    over = {name: _rate(rows, "ours") / rows["plain"]["rate"] for name, rows in tables.items()}
    ratio, target = greedy[ours]["rate"] / greedy[theirs]["rate"], OVER_ASSISTED[device]
    told = ", ".join(f"{value:.2f} ({name})" for name, value in over.items())
    return {
        "claim": "speculative-llm",
        "figure": round(greedy[ours]["rate"], 1),
        "unit": f"tokens/s of SmolLM2-135M, greedy, batch 1 ({ours})",
        "baseline": f"{theirs}: {greedy[theirs]['rate']:.1f}",
        "ratio": round(ratio, 3),
        "tau": round(greedy[ours]["tau"], 3),
        "target": target,
        "over_plain": {name: round(value, 3) for name, value in over.items()},
        "ok": bool(ratio >= target and min(over.values()) >= 1),
        "note": f"over plain generate: {told}.",
    }


def _fastest(rows: Mapping[str, Any], whose: str) -> str:
    """The way of one side, with a draft or with lookup, that was fastest."""
    return max((way for way in rows if whose in way), key=lambda way: rows[way]["rate"])


def _rate(rows: Mapping[str, Any], whose: str) -> float:
    return rows[_fastest(rows, whose)]["rate"]


def _draft(source: Path, data: Path, setting: Setting) -> tuple[Path, dict[int, float]]:
    """A draft of the depth that promised most after a short training, trained on; what each depth
    promised. All is kept under ATTAR_HOME; a killed training goes on."""
    home = artefacts.home() / "benchmarks" / "drafts"
    promised: dict[int, float] = {}
    for depth in setting.depths:
        cut = home / f"{source.name}-{depth}-cut"
        if not (cut / "attar.json").exists():
            init_draft(source, layers=depth, output_dir=cut)
        if not setting.search_steps:
            return cut, {}
        run = _trained(cut, source, data, setting, steps=setting.search_steps)
        promised[depth] = run.details["predicted_speedup"]
    best = max(promised, key=lambda depth: promised[depth])
    start = _folder(home / f"{source.name}-{best}-cut", setting, setting.search_steps)
    _trained(start, source, data, setting, steps=setting.steps)
    return _folder(start, setting, setting.steps), promised


def _folder(start: Path, setting: Setting, steps: int) -> Path:
    return start.with_name(f"{start.name}-{steps}x{setting.batch}")


def _trained(start: Path, source: Path, data: Path, setting: Setting, *, steps: int) -> Run:
    folder = _folder(start, setting, steps)
    if not (folder / "attar.json").exists():
        config = DistillSpecConfig(
            max_steps=steps,
            per_device_train_batch_size=setting.batch,
            prompt_tokens=PROMPT // 2,
            max_new_tokens=48,
            draft_share=0.0,
            target_share=1.0,
            temperature=0.0,
            eval_prompts=8,
            eval_steps=steps,
            save_steps=10,
        )
        train_draft(start, data, target=source, config=config, output_dir=folder, resume=True)
    return Run.load(folder)


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
