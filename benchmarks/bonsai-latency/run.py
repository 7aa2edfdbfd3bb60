"""Does a latency budget hold what it promises: predicted against measured milliseconds?

Figure: the largest relative error of the latency table over networks of mixed widths.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import arguments, finish
from transformers import LlamaConfig, LlamaForCausalLM

from attar.arch import Arch
from attar.measure.latency_table import measure_table
from attar.measure.timing import decode_call, latency_of, prefill_call
from attar.slicing import LayerKeep, SlicePlan, slice_model

TARGET = 0.15


def main() -> None:
    args = arguments(__doc__ or "")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    layers = 8
    shape = LlamaConfig(
        vocab_size=8192,
        hidden_size=256 if args.quick else 512,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=688 if args.quick else 1408,
        max_position_embeddings=1024,
    )
    parent = LlamaForCausalLM(shape).eval()
    repeats, candidates = (3, 2) if args.quick else (9, 8)
    rows = []
    rng = random.Random(0)
    for mode in ("prefill", "latency"):
        table = measure_table(parent, mode, repeats=repeats)
        for number in range(candidates):
            plan = SlicePlan(
                tuple(
                    LayerKeep(
                        i,
                        tuple(range(rng.randint(1, 4))),
                        tuple(range(rng.randrange(64, shape.intermediate_size, 8))),
                    )
                    for i in range(layers)
                )
            )
            model = slice_model(parent, plan)
            measured, base = _against(parent, model, mode, repeats)
            # the parent is timed again beside it, so that the machine's drift is not held against
            # the table
            predicted = table.predict(Arch.of(model)) * base / table.base
            error = predicted / measured - 1
            rows.append(
                {"mode": mode, "predicted": predicted, "measured": measured, "error": error}
            )
            print(
                f"{mode:8} network {number}: predicted {predicted:.2f} ms, measured "
                f"{measured:.2f} ms, {error:+.1%}"
            )
    worst = max(abs(row["error"]) for row in rows)
    mean = sum(abs(row["error"]) for row in rows) / len(rows)
    line = {
        "claim": "bonsai-latency",
        "figure": round(worst, 4),
        "unit": "largest relative error of predicted latency",
        "baseline": f"mean absolute error {mean:.4f} over {len(rows)} networks",
        "ratio": round(worst / TARGET, 4),
        "target": TARGET,
        "ok": bool(worst <= TARGET),
    }
    finish(__file__, line, {"rows": rows}, args)


def _against(parent, model, mode, repeats):
    make = prefill_call if mode == "prefill" else (lambda m, n: decode_call(m, n, new_tokens=32))
    per = 1 if mode == "prefill" else 32
    ours, base = make(model, 256), make(parent, 256)
    ours(), base()
    pairs = [(ours() / per, base() / per) for _ in range(repeats)]
    return latency_of([p[0] for p in pairs]).median, latency_of([p[1] for p in pairs]).median


if __name__ == "__main__":
    main()
