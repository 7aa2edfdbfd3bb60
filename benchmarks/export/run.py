"""SmolLM2 in llama.cpp: is what was pruned faster there in proportion to what was cut?

Ratio: tokens generated per second in llama.cpp by the model at 60% of its blocks (per-layer layout,
f16) over those of its parent; alternating repeats, median. The target is 85% of the parent's
operations per token over the pruned model's.
"""

import json
import statistics
import sys
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import arguments, finish
from smollm2 import smollm2

from attar import artefacts, checkpoint
from attar.conversion.export import export
from attar.measure.cost import cost_of
from attar.methods.bonsai import BonsaiConfig, prune

CLOSE = 0.85
THREADS = 2
PROMPT, NEW = 256, 64
BUDGET = "blocks<=60%"
LAYOUTS = ("uniform", "per_layer")
#: which units go makes no difference to a clock, so the quickest method picks them
CONFIG = BonsaiConfig(allocation="equal", windows=4, context=256, round_to=32, timing=False)
GLOBAL = BonsaiConfig(windows=4, context=256, round_to=32, timing=False)


class LlamaCpp:
    """A file in llama.cpp."""

    def __init__(self, file: Path) -> None:
        import xllamacpp

        options = xllamacpp.CommonParams()
        options.model.path = str(file)
        options.n_ctx, options.n_parallel, options.verbosity = PROMPT + NEW + 8, 1, -1
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = THREADS
        self.server = xllamacpp.Server(options)

    def speeds(self, prompt: list[int]) -> tuple[float, float]:
        """Tokens read and written per second, as it says."""
        body = {"prompt": prompt, "n_predict": NEW, "ignore_eos": True, "cache_prompt": False}
        request = urllib.request.Request(
            self.server.listening_address + "/completion",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            timings = json.loads(answer.read())["timings"]
        return timings["prompt_per_second"], timings["predicted_per_second"]


def main() -> None:
    args = arguments(__doc__ or "")
    repeats = 3 if args.quick else 9
    home = artefacts.home() / "benchmarks" / "export"
    kinds = ("f16",) if args.quick else ("f16", "q8_0")
    models = {"parent": smollm2(), **{layout: _pruned(layout, home) for layout in LAYOUTS}}
    costs = {name: cost_of(checkpoint.load(folder)) for name, folder in models.items()}
    files = {
        f"{name} {kind}": _exported(folder, home / f"{name}-{kind}", kind)
        for name, folder in models.items()
        for kind in kinds
    }
    servers = {name: LlamaCpp(file) for name, file in files.items()}
    prompt = checkpoint.load_tokenizer(models["parent"])(
        Path(__file__).read_text(encoding="utf-8")
    )["input_ids"][:PROMPT]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for turn in range(repeats + 1):
        for name, server in servers.items():
            speeds = server.speeds(prompt)
            if turn:  # the first warms up
                found[name].append(speeds)
    rows: dict[str, dict[str, Any]] = {}
    for name, speeds in found.items():
        reads, writes = zip(*speeds, strict=True)
        rows[name] = {
            "bytes": files[name].stat().st_size,
            "macs": costs[name.split()[0]].macs,
            "prompt": statistics.median(reads),
            "decode": statistics.median(writes),
            "decode_range": [min(writes), max(writes)],
        }
        row = rows[name]
        print(
            f"{name:16}{row['bytes'] / 1e6:8.1f} MB  {row['macs'] / 1e6:6.1f}M MACs per token  "
            f"{row['prompt']:8.1f} read and {row['decode']:6.1f} written per second"
        )
    _report(rows, args)


def _pruned(layout: str, home: Path) -> Path:
    """SmolLM2 at 60% of its blocks, made once."""
    folder = home / layout
    if not (folder / "attar.json").exists():
        prune(
            smollm2(),
            budget=BUDGET,
            method="wanda",
            layout=layout,  # pyright: ignore[reportArgumentType]
            config=CONFIG if layout == "uniform" else GLOBAL,
            eval_tokens=1_000,
            output_dir=folder,
            resume=True,
        )
    return folder


def _exported(model: Path, folder: Path, kind: Any) -> Path:
    """The model as a GGUF file, made once."""
    if not (folder / "attar.json").exists():
        export(model, quantize=kind, output_dir=folder)
    return next(folder.glob("*.gguf"))


def _report(rows: dict[str, dict[str, Any]], args: Any) -> None:
    def over_parent(name: str, figure: str) -> float:
        kind = name.split()[1]
        return rows[name][figure] / rows[f"parent {kind}"][figure]

    ratios = {
        name: {figure: round(over_parent(name, figure), 4) for figure in ("prompt", "decode")}
        | {"expected": round(1 / over_parent(name, "macs"), 4)}
        for name in rows
        if not name.startswith("parent")
    }
    first = ratios["per_layer f16"]
    line = {
        "claim": "export",
        "figure": round(rows["per_layer f16"]["decode"], 2),
        "unit": "tokens generated per second in llama.cpp, f16, per-layer layout, 60% of blocks",
        "baseline": f"parent: {rows['parent f16']['decode']:.2f}",
        "ratio": first["decode"],
        "target": round(CLOSE * first["expected"], 3),
        "ok": all(r["decode"] >= CLOSE * r["expected"] for r in ratios.values()),
        "ratios": ratios,
        "note": "over the parent, decode and prompt, by operations: "
        + "; ".join(
            f"{name} {r['decode']:.2f} and {r['prompt']:.2f} ({r['expected']:.2f})"
            for name, r in ratios.items()
        )
        + ". Megabytes: "
        + ", ".join(f"{name} {row['bytes'] / 1e6:.0f}" for name, row in rows.items())
        + ".",
    }
    finish(__file__, line, {"rows": rows, "threads": THREADS}, args)


if __name__ == "__main__":
    main()
