"""Is the pruned model faster, and does Bonsai spend its time on forward passes alone?

Ratio: prefill speed of the model at 50% of its blocks over its parent's, alternating timings.
Beside it decode, and Bonsai's evaluations per second over the bare forward passes they consist of.
With a GPU the shape is one of 1B parameters, in bfloat16.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import arguments, finish
from transformers import LlamaConfig, LlamaForCausalLM

from attar.budget import Budget
from attar.evaluation import likelihood
from attar.measure.cost import cost_of
from attar.measure.timing import decode_call, latency_of, prefill_call
from attar.methods.bonsai import STRATEGY, BonsaiConfig, draw_masks
from attar.models import autocast
from attar.pruning.loop import LoopTask, kept_widths, prune_to_budget
from attar.pruning.pieces import UnitGroup, switch
from attar.runtime import synchronize
from attar.slicing import UnitMasks

PREFILL, DECODE, EVALUATIONS = 1.7, 1.4, 0.85


def build(quick: bool) -> LlamaForCausalLM:
    """The 30M pocket shape (a little over 30M with an untied head), or that of Llama-3.2-1B on a
    GPU, not trained: a clock does not care what weights are.
    """
    torch.manual_seed(0)
    gpu = torch.cuda.is_available()
    shape = LlamaConfig(
        vocab_size=128_256 if gpu else 8192,
        hidden_size=2048 if gpu else 512,
        num_hidden_layers=16 if gpu else 8,
        num_attention_heads=32 if gpu else 8,
        num_key_value_heads=8 if gpu else 4,
        intermediate_size=8192 if gpu else 1408,
        max_position_embeddings=1024,
        tie_word_embeddings=gpu or quick,
    )
    with torch.device("cuda" if gpu else "cpu"):
        model = LlamaForCausalLM(shape).eval()
    return model.to(torch.bfloat16) if gpu else model


def main() -> None:
    args = arguments(__doc__ or "")
    torch.set_num_threads(2)
    repeats = 5 if args.quick else 15
    parent = build(args.quick)
    windows = torch.randint(0, parent.config.vocab_size, (64, 128), device=parent.device)
    budget = Budget.parse("blocks<=50%").resolve(cost_of(parent))
    models = {"parent": parent}
    # the layouts as a user gets them; Bonsai itself, so that the widths are those of a search
    for layout in ("uniform", "per_layer"):
        model = build(args.quick)
        config = BonsaiConfig(windows=2, evaluations=8, step=0.25, round_to=16)
        prune_to_budget(
            LoopTask(
                model=model,
                windows=windows,
                budget=budget,
                strategy=STRATEGY,
                layout=layout,
                config=config,
            )
        )
        models[layout] = model
        print(layout, cost_of(model).block_params / cost_of(parent).block_params)
    times = _alternating(models, repeats)
    speed = {
        layout: {
            mode: times["parent", mode].median / times[layout, mode].median
            for mode in ("prefill", "decode")
        }
        for layout in ("uniform", "per_layer")
    }
    evaluations = _evaluations(parent, windows, 4 if args.quick else 20)
    for layout, found in speed.items():
        print(f"{layout}: prefill {found['prefill']:.2f}x, decode {found['decode']:.2f}x")
    print(f"evaluations per second over bare forward passes: {evaluations['ratio']:.3f}")
    best = speed["uniform"]
    line = {
        "claim": "bonsai-speed",
        "figure": round(best["prefill"], 3),
        "unit": "times the parent's prefill speed, 256 tokens, uniform layout, 50% of blocks",
        "baseline": f"parent: {times['parent', 'prefill'].median:.1f} ms",
        "ratio": round(best["prefill"], 4),
        "target": PREFILL,
        "ok": bool(
            best["prefill"] >= PREFILL
            and best["decode"] >= DECODE
            and evaluations["ratio"] >= EVALUATIONS
        ),
        "decode_ratio": round(best["decode"], 4),
        "decode_target": DECODE,
        "evaluations_ratio": round(evaluations["ratio"], 4),
        "evaluations_target": EVALUATIONS,
        "per_layer": {k: round(v, 4) for k, v in speed["per_layer"].items()},
    }
    details = {
        "params": {n: cost_of(m).params for n, m in models.items()},
        "widths": {n: kept_widths(m) for n, m in models.items()},
        "milliseconds": {f"{n} {m}": [t.median, t.spread] for (n, m), t in times.items()},
        "evaluations": evaluations,
        "threads": torch.get_num_threads(),
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    finish(__file__, line, details, args)


def _alternating(models, repeats):
    calls = {}
    for name, model in models.items():
        calls[name, "prefill"] = prefill_call(model, 256)
        calls[name, "decode"] = decode_call(model, 128, new_tokens=32)
    times = {key: [] for key in calls}
    for turn in range(repeats + 2):
        for key, call in calls.items():
            milliseconds = call() / (32 if key[1] == "decode" else 1)
            if turn >= 2:
                times[key].append(milliseconds)
    return {key: latency_of(values) for key, values in times.items()}


@torch.no_grad()
def _evaluations(model, windows, pairs: int) -> dict[str, float]:
    """Masked evaluations as the search makes them, against the same batches through the bare
    model.
    """
    rows, config = windows[:16], BonsaiConfig()
    layers = range(model.config.num_hidden_layers)
    pool = [
        UnitGroup(i, "neurons", tuple(range(j, j + 44))) for i in layers for j in range(0, 220, 44)
    ] + [UnitGroup(i, "kv_groups", (g,)) for i in layers for g in (0, 1)]
    generator = torch.Generator().manual_seed(0)
    keep = draw_masks(
        pool, pairs, parts=2, sampling=config.sampling, importance={}, generator=generator
    )
    ours = bare = 0.0
    with autocast(model):
        for turn, mask in enumerate(keep):
            synchronize(rows.device)
            began = time.perf_counter()
            with UnitMasks(model) as masks:
                switch(masks, model, pool=pool, keep=mask)
                likelihood.nll(model, rows, batch_size=config.batch_size)
            synchronize(rows.device)
            middle = time.perf_counter()
            for batch in rows.split(config.batch_size):
                logits = model(input_ids=batch[:, :-1], use_cache=False).logits
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1).float(), batch[:, 1:].flatten()
                )
            synchronize(rows.device)
            end = time.perf_counter()
            if turn:
                ours, bare = ours + middle - began, bare + end - middle
    n = len(keep) - 1
    return {"per_second": n / ours, "bare_per_second": n / bare, "ratio": bare / ours}


if __name__ == "__main__":
    main()
