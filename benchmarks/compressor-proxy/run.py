"""Students of equal size: do operations, latency or a short training tell which learns best?

Ten plans of 1 MB, within 2% of each other, from one layer to twelve, learn a task from one teacher
to the end. Figure: Spearman correlation of the accuracy on validation after a few steps with that
on test after all; beside it those of operations and of latency. Every student is kept.
"""

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import yaml
from common import finish, kept_rows, parse
from compressing import latencies, logits_of, of_model, rows_of
from labelled import CORPORA, flat, teacher

import attar
from attar import artefacts, checkpoint
from attar.data.labelled.load import load_labelled
from attar.distillation.config import CompressorConfig
from attar.evaluation.correlations import rank_correlation
from attar.methods.distiller.config import DistillConfig
from attar.recipes import configured

BUDGET, SPREAD = 1.0, 0.02
#: one plan for each, with the most operations; and for the last two the fewest
LAYERS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
FEWEST = (2, 6)
TARGET = 0.5


def plans(
    task: str, data: Path, *, home: Path, config: DistillConfig, storage: Any, most: int | None
) -> dict[str, dict[str, Any]]:
    """Plans of about equal size by the name of their folder, each with its file."""
    found = {}
    wanted = [("flops", n) for n in LAYERS] + [("-flops", n) for n in FEWEST]
    if most is not None:
        wanted = wanted[1:3]
    for objective, layers in wanted:
        folder = home / f"plan{objective}-{layers}"
        if not (folder / "plan.json").exists():
            space = home / f"{layers}.yaml"
            space.write_text(yaml.safe_dump({"num_hidden_layers": layers}), encoding="utf-8")
            attar.distill(
                data=rows_of(task, data, most),
                teacher=teacher(task, data),
                budget=f"bytes<={BUDGET}MB",
                plan_only=True,
                config=config,
                compressor=CompressorConfig(
                    objective=objective,  # pyright: ignore[reportArgumentType]
                    space=str(space),
                    storage=storage,
                    plans=1,
                ),
                output_dir=folder,
            )
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["plans"][0]
        if plan["bytes"] >= (1 - SPREAD) * BUDGET * 1e6:
            found[folder.name] = {"file": folder / "plan.json", **plan}
        else:
            print(f"{folder.name} is left out, as it is {plan['bytes'] / 1e6:.3f} MB")
    return found


def main() -> None:
    args = _arguments()
    logging.disable(logging.INFO)
    quick, task = args.quick, args.task
    long, short = (40, 20) if quick else (args.steps, args.probe)
    config, _ = configured("compressor/default", DistillConfig, recipe=None)
    home = artefacts.home() / "benchmarks" / f"compressor-proxy-{'quick' if quick else 'full'}"
    config = replace(config, augment=())
    home = home / f"{flat(task)}-{config.learning_rate:g}"  # students of another are others
    home.mkdir(parents=True, exist_ok=True)
    config = replace(config, context=CORPORA[task].length)
    most, storage = (200, "float32") if quick else (None, "int8")
    whole = plans(task, args.data, home=home, config=config, storage=storage, most=most)
    documents, kind = load_labelled(rows_of(task, args.data, most))
    file = home / f"rows-{long}-{short}.jsonl"
    known = kept_rows(file)
    systems = {}
    for name, plan in whole.items():
        folders = {steps: home / f"{name}-{steps}" for steps in (short, long)}
        for steps, folder in folders.items():
            if not (folder / "attar.json").exists():
                attar.distill(
                    data=rows_of(task, args.data, most),
                    teacher=teacher(task, args.data),
                    plan=plan["file"],
                    config=replace(config, max_steps=steps),
                    compressor=CompressorConfig(storage=storage, embeddings="random"),
                    output_dir=folder,
                    resume=True,
                )
        if name not in known:
            row: dict[str, Any] = {"cell": name, "macs": plan["macs"], "bytes": plan["bytes"]}
            row["shape"] = plan["shape"]
            for steps, split in ((short, "validation"), (long, "test")):
                rows = documents[split]
                logits = logits_of(
                    checkpoint.load(folders[steps]).float(),
                    rows,
                    tokenizer=checkpoint.load_tokenizer(folders[steps]),
                    task=kind,
                    context=config.context,
                )
                right = logits.argmax(-1) == torch.tensor(rows["label"])
                row["probe" if steps == short else "accuracy"] = 100 * float(right.float().mean())
            known[name] = row
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
        systems[name] = of_model(
            checkpoint.load(folders[long]).float(), checkpoint.load_tokenizer(folders[long])
        )
    times = latencies(systems, documents["test"], context=config.context, threads=1)
    rows = [known[name] | {"milliseconds": times[name]["p50"]} for name in whole]
    report(rows, task, args)


def report(rows: list[dict[str, Any]], task: str, args: argparse.Namespace) -> None:
    """Print the table, and write the result."""
    for row in rows:
        print(
            f"{row['cell']:14}{row['bytes'] / 1e6:.3f} MB {row['macs'] / 1e6:7.1f}M MACs "
            f"{row['milliseconds']:6.2f} ms  probe {row['probe']:.1f}  test {row['accuracy']:.1f}"
        )

    def with_accuracy(values: list[float]) -> float:
        return rank_correlation(np.array(values), np.array([row["accuracy"] for row in rows]))

    probe = with_accuracy([row["probe"] for row in rows])
    macs = with_accuracy([row["macs"] for row in rows])
    fast = with_accuracy([-row["milliseconds"] for row in rows])
    accuracies = [row["accuracy"] for row in rows]
    line = {
        "claim": "compressor-proxy",
        "figure": round(probe, 3),
        "unit": f"Spearman of a short training with all of it, {len(rows)} plans of 1 MB, {task}",
        "baseline": f"operations: {macs:.2f}, less latency: {fast:.2f}",
        "ratio": round(probe / TARGET, 3),
        "target": TARGET,
        "operations": round(macs, 3),
        "latency": round(fast, 3),
        "ok": bool(args.quick or probe >= TARGET),
        "note": (
            f"Accuracy from {min(accuracies):.1f} to {max(accuracies):.1f}; the plan with most "
            f"operations has {max(rows, key=lambda row: row['macs'])['accuracy']:.1f}, the one "
            f"that the probe picks {max(rows, key=lambda row: row['probe'])['accuracy']:.1f}."
        ),
    }
    finish(__file__, line, {"rows": rows}, args)


def _arguments() -> argparse.Namespace:
    parser = parse(__doc__ or "")
    parser.add_argument("--task", default="sst2", choices=sorted(CORPORA))
    parser.add_argument("--steps", type=int, default=1_500, help="of the whole training")
    parser.add_argument("--probe", type=int, default=300, help="of the short one")
    return parser.parse_args()


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
