"""Several drafts of ten tokens behind fifteen: how many tokens a second, and against what?

Ratio: tokens a second of three superposed drafts over three nucleus samples, one after another.
Beside it k = 1 and 8, one batched call for all k samples, and beam search.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from autocomplete import NEW, PROMPT, model_and_words, store_of, windows
from common import arguments, finish

from attar.measure.cost import cost_of
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder

#: of the paper (figure 6), one after another; and what we want over one batched call
OVER_SEQUENTIAL, OVER_BATCHED = {3: 2.44, 8: 3.5}, {3: 1.2, 8: 1.7}
NUCLEUS = {"do_sample": True, "top_p": 0.9, "top_k": 0, "temperature": 0.6}

Way = Callable[[torch.Tensor], Any]


def ways_of(model: Any, words: Any, store: Any, k: int) -> dict[str, Way]:
    """Everything that writes k drafts."""
    config = SuperposedConfig(k=k, heal=False, min_hit_rate=0.0)
    stored = SuperposedDecoder(model, words, config=config, store=store)
    alone = SuperposedDecoder(model, words, config=config)

    def plain(ids: torch.Tensor, **more: Any) -> Any:
        options = {"max_new_tokens": NEW, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
        return model.generate(ids, **options, **more)

    ways: dict[str, Way] = {
        "superposed": lambda ids: stored.generate(ids[0].tolist()),
        "superposed, no n-grams": lambda ids: alone.generate(ids[0].tolist()),
        "nucleus, one after another": lambda ids: [plain(ids, **NUCLEUS) for _ in range(k)],
    }
    if k > 1:
        ways["nucleus, one batch"] = lambda ids: plain(ids, num_return_sequences=k, **NUCLEUS)
        ways["beam"] = lambda ids: plain(ids, do_sample=False, num_beams=k, num_return_sequences=k)
    return ways


def race(ways: dict[str, Way], prompts: torch.Tensor, *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way over all prompts, round by round, in turns."""
    for call in ways.values():
        call(prompts[:1])  # warm
    seconds = {way: [0.0] * rounds for way in ways}
    for turn in range(rounds):
        for prompt in prompts:
            for way, call in ways.items():
                began = time.perf_counter()
                call(prompt[None])
                seconds[way][turn] += time.perf_counter() - began
    return seconds


def forwards(model: Any, call: Way, prompt: torch.Tensor) -> int:
    """Passes of the model."""
    seen: list[int] = []
    handle = model.register_forward_hook(lambda *_: seen.append(1))
    call(prompt)
    handle.remove()
    return len(seen)


def main() -> None:
    args = arguments(__doc__ or "")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    count, rounds, sizes = (2, 1, (3,)) if args.quick else (20, 5, (1, 3, 8))
    model, words = model_and_words()
    store = store_of(words, args.data, quick=args.quick)
    prompts = torch.tensor(windows(words, args.data, "test", count=count, tokens=PROMPT))
    entry = cost_of(model).kv_bytes
    tables: dict[int, dict[str, dict[str, Any]]] = {}
    for k in sizes:
        ways = ways_of(model, words, store, k)
        tables[k] = {}
        print(f"\nk = {k}")
        for way, times in race(ways, prompts, rounds=rounds).items():
            rows = k if way in ("nucleus, one batch", "beam") else 1
            row = {
                "rate": k * NEW * count / statistics.median(times),
                "seconds": times,
                "forwards": forwards(model, ways[way], prompts[:1]),
                "kv_bytes": rows * (PROMPT + NEW - 1) * entry,
            }
            tables[k][way] = row
            print(
                f"  {way:28}{row['rate']:8.1f} tokens/s {row['forwards']:4} passes "
                f"{row['kv_bytes'] / 1e3:8.0f} KB of keys and values"
            )
    finish(__file__, _line(tables), {"tables": tables, "store_tokens": store.meta["tokens"]}, args)


def _line(tables: dict[int, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    def over(k: int, other: str) -> float:
        return tables[k]["superposed"]["rate"] / tables[k][other]["rate"]

    many = [k for k in tables if k > 1]
    sequential = {k: over(k, "nucleus, one after another") for k in many}
    batched = {k: over(k, "nucleus, one batch") for k in many}
    ours, theirs = tables[3]["superposed"], tables[3]["nucleus, one after another"]
    met = all(sequential[k] >= OVER_SEQUENTIAL[k] and batched[k] >= OVER_BATCHED[k] for k in many)
    told = ", ".join(f"k={k} {value:.2f}" for k, value in batched.items())
    return {
        "claim": "superposed-speed",
        "figure": round(ours["rate"], 1),
        "unit": "tokens/s of three superposed drafts, SmolLM2-135M, 10 tokens after 15",
        "baseline": f"nucleus, one after another: {theirs['rate']:.1f}",
        "ratio": round(sequential[3], 3),
        "target": OVER_SEQUENTIAL[3],
        "over_sequential": {k: round(value, 3) for k, value in sequential.items()},
        "over_one_batch": {k: round(value, 3) for k, value in batched.items()},
        "ok": bool(met),
        "note": f"over one batched call: {told}.",
    }


if __name__ == "__main__":
    main()
