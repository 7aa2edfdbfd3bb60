"""Records made up for tests: of a parent, what was pruned from it, and a baseline."""

import math
from pathlib import Path
from typing import Any

from attar.report.record import Paper, Run

PAPER = Paper("Prune & <Rest>", ("Ada One", "Bo Two", "Cy Three"), 2024, "2402.05406")
HOSTILE = "<script>alert(1)</script> | *x*"


def cost(share: float) -> dict[str, Any]:
    return {
        "params": round(1_000_000 * share),
        "block_params": round(800_000 * share),
        "bytes": round(4_000_000 * share),
        "macs": round(1_000_000 * share),
        "kv_bytes": 2048,
        "peak_memory": None,
        "prefill": {"median": 16.0 * share, "spread": 0.5},
        "decode": {"median": 2.0 * share, "spread": 0.1},
        "timed": {"prompt_tokens": 256, "new_tokens": 32, "batch_size": 2, "threads": 1},
    }


def quality(bits: float) -> dict[str, Any]:
    nll = bits * 3 * math.log(2)
    return {
        "nll": nll,
        "tokens": 100,
        "bytes": 300,
        "perplexity": math.exp(nll),
        "bits_per_byte": bits,
    }


def make(method: str = "bonsai", share: float = 0.5, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "method": method,
        "paper": PAPER,
        "model": "someone/parent-1m",
        "data": "python-stdlib",
        "settings": {"step": 0.05, "layers": (1, 2), "out": Path("x/y")},
        "budget": {
            "asked": "blocks<=50%",
            "met": True,
            "constraints": [
                {"key": "params of blocks", "limit": 4e5, "achieved": 399_990, "met": True},
                {"key": "bytes", "limit": 2_000_000, "achieved": 2_000_100, "met": False},
            ],
        },
        "cost": {"before": cost(1.0), "after": cost(share)},
        "quality": {"before": quality(1.0), "after": quality(1.2)},
        "baselines": [{"name": "random", "cost": cost(share), "quality": quality(1.9)}],
        "details": {
            "widths": {"KV groups": {"before": [4, 4], "after": [2, 4]}},
            "importance": {"attention": [0.1, math.nan], "FFN": [0.3, 0.2]},
        },
        "seed": 7,
        "seconds": 75.0,
    }
    return Run(f"prune {method}", **values | changes)
