"""Does SpacTor reach the baseline's probes with fewer FLOPs?

Figure: FLOPs of SpacTor to the baseline's last mean score of the probes, over the baseline's. All
arms of a seed see the same spans; each has its own learning rate, tuned on equal budgets. Every
training is kept, and a second call goes on.
"""

import gzip
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import finish, parse
from probes import baselines, write

from attar import artefacts
from attar.artefacts import made_once
from attar.methods.spactor import SpacTorConfig
from attar.pretraining.arms import CompareConfig
from attar.pretraining.compare import compare_objectives
from attar.pretraining.config import PretrainConfig
from attar.pretraining.crossings import crossings
from attar.report.record import Run

FULL = PretrainConfig(
    vocab_size=4096,
    context=128,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=344,
    max_steps=3500,
    per_device_train_batch_size=16,
    optim="adamw_rms",
    lr_scheduler_type="inverse_sqrt",  # the end of a cosine would flatter whoever comes there
    warmup_steps=200,
    weight_decay=0.0,
    adam_beta2=0.98,
    save_steps=250,
    logging_steps=50,
    bf16=False,
)
QUICK = {"vocab_size": 512, "context": 64, "hidden_size": 64, "num_hidden_layers": 2}
QUICK |= {"intermediate_size": 128, "max_steps": 40, "warmup_steps": 10, "eval_tokens": 5000}
ON_A_GPU = {"vocab_size": 16384, "context": 512, "hidden_size": 512, "num_hidden_layers": 6}
ON_A_GPU |= {"num_attention_heads": 8, "intermediate_size": 1024, "bf16": True}
ON_A_GPU |= {"per_device_train_batch_size": 64, "max_steps": 600}
_MORE = tuple(f"train-{i}" for i in range(1, 6))
RATES = (1e-2, 2e-2, 4e-2)


def settings(args: Any) -> tuple[PretrainConfig, CompareConfig]:
    """Of the model and of the comparison."""
    changes = QUICK if args.quick else ON_A_GPU if args.gpu else {}
    config = PretrainConfig(**{**vars(FULL), **changes})
    if args.quick:
        compare = CompareConfig(
            points=2, learning_rates=(1e-2,), probe_steps=10, probe_examples=20, probe_context=96
        )
    else:
        compare = CompareConfig(
            seeds=1 if args.gpu else 3,
            points=3 if args.gpu else 5,
            learning_rates=RATES,
            tune_steps=100 if args.gpu else 300,
            probe_steps=200,
            probe_context=160,
        )
    return config, compare


def probe_means(arms: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """For each arm and point its costs, and the mean of all probes and seeds, exact matches."""
    found = {}
    for arm, results in arms.items():
        rows = []
        for point in results["points"]:
            scores = [sum(v) / len(v) for name, v in point.items() if name.endswith(" exact")]
            seconds = sum(point["seconds"]) / len(point["seconds"])
            mean = sum(scores) / len(scores)
            rows.append({**point, "seconds": seconds, "probes": mean})
        found[arm] = rows
    return found


def main() -> None:
    """Print a table, and the claim."""
    parser = parse(__doc__ or "")
    parser.add_argument("--gpu", action="store_true", help="a T5 of 50M parameters, one seed")
    args = parser.parse_args()
    config, compare = settings(args)
    name = "quick" if args.quick else "gpu" if args.gpu else "full"
    home = artefacts.home() / "benchmarks" / "spactor-curve"
    home.mkdir(parents=True, exist_ok=True)
    tasks = made_once(home / "probes", lambda folder: _tasks(folder, args.data))
    parts = "books-quick" if args.quick else "books"
    books = made_once(home / parts, lambda folder: _books(folder, args.data, quick=args.quick))
    out = home / name
    if not (out / "attar.json").is_file():
        compare_objectives(
            data=books,
            probes=[tasks / "sentiment", tasks / "names"],
            compare=compare,
            spactor=SpacTorConfig(),
            config=config,
            output_dir=out,
            resume=True,
        )
    arms = Run.load(out).details["arms"]
    rows = probe_means(arms)
    print(f"{'arm':8} {'step':>5} {'TFLOPs':>8} {'seconds':>8} {'nats':>7} {'probes':>7}")
    for arm, points in rows.items():
        for point in points:
            nats = sum(point["span_nats"]) / len(point["span_nats"])
            print(
                f"{arm:8} {point['step']:5d} {point['flops'] / 1e12:8.2f} {point['seconds']:8.0f} "
                f"{nats:7.3f} {100 * point['probes']:6.1f}%"
            )
    means = {arm: {"points": points} for arm, points in rows.items()}
    reached = crossings(means, "probes")
    share = reached["spactor"]["flops"]
    by_loss = crossings(means, "span_nats")
    simple = baselines(tasks)
    guessed = sum(simple.values()) / len(simple)
    learned = rows["span"][-1]["probes"] > guessed  # otherwise there is nothing to be reached
    first, last = rows["span"][0]["flops"], rows["span"][-1]["flops"]
    grew = (reached["span"]["flops"] or 1.0) > first / last  # otherwise any arm is there at once
    whole = rows["spactor"][-1]["flops"] / rows["span"][-1]["flops"]
    losses = {a: sum(p[-1]["span_nats"]) / len(p[-1]["span_nats"]) for a, p in rows.items()}
    line = {
        "claim": "spactor-curve",
        "figure": round(rows["spactor"][-1]["probes"], 4),
        "unit": "mean exact match of the probes after as many steps as the baseline",
        "baseline": f"span corruption: {rows['span'][-1]['probes']:.4f}; guessed: {guessed:.4f}",
        "ratio": round(whole if share is None else share, 4),
        "target": 0.7,
        "ok": learned and grew and share is not None and share <= 0.7,
        "note": ("" if learned else "Nothing was learned that guessing does not give. ")
        + ("" if grew else "The baseline is as good at its first point as at its end. ")
        + ("SpacTor does not get there. " if share is None else "")
        + "Span loss at the end: "
        + ", ".join(f"{arm} {loss:.3f}" for arm, loss in losses.items())
        + f"; SpacTor has the baseline's after {by_loss['spactor']['flops'] or math.nan:.2f} of "
        + "its FLOPs. Probes at the end: "
        + ", ".join(f"{arm} {100 * p[-1]['probes']:.1f}%" for arm, p in rows.items()),
    }
    card = torch.cuda.get_device_name() if args.gpu else None
    details = {
        "arms": arms,
        "reached": reached,
        "reached_span_loss": by_loss,
        "guessed": simple,
        "threads": torch.get_num_threads(),
    }
    finish(__file__, line, details | {"card": card}, args)


def _tasks(folder: Path, data: Path) -> None:
    write(folder, data)


def _books(folder: Path, data: Path, *, quick: bool) -> None:
    """Plain files by split, without the test split, whose books the probe of names asks about."""
    for source in sorted((data / "books").glob("*.txt.gz")):
        if source.name[:4] != "test" and not (quick and source.name[:7] in _MORE):
            text = gzip.decompress(source.read_bytes())
            (folder / source.name.removesuffix(".gz")).write_bytes(text)


if __name__ == "__main__":
    main()
