"""What the benchmarks of decoding share: ways to write the same texts, raced in turns."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from attar.decode.draft_vocabulary import shortened
from attar.decode.drafters import PromptLookupDrafter
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.runtime import synchronize

LENGTH = 4  # of the drafts, where it is fixed


def best(rows: dict[str, dict[str, Any]]) -> float:
    """Tokens a second of our faster policy."""
    return max(row["rate"] for way, row in rows.items() if way.startswith("ours"))


def options_of(temperature: float, new: int) -> dict[str, Any]:
    options: dict[str, Any] = {"max_new_tokens": new, "pad_token_id": 0}
    if not temperature:
        return options | {"do_sample": False}
    return options | {"do_sample": True, "temperature": temperature, "top_k": 0}


def ways_of(
    target: Any,
    draft: Any,
    temperature: float,
    *,
    new: int,
    batch: bool = False,
    compiled: bool = False,
) -> dict[str, tuple[Callable[[torch.Tensor], Any], SpeculativeDecoder | None]]:
    """Everything that writes the same texts (of the same law); on request with compiled passes
    too."""
    options = options_of(temperature, new)
    fixed = SpecConfig(policy="constant", draft_tokens=LENGTH, seed=0)
    decoders = {
        f"ours, drafts of {LENGTH}": SpeculativeDecoder(target, draft, config=fixed),
        "ours, cost model": SpeculativeDecoder(target, draft, config=SpecConfig(seed=0)),
        "lookup, ours": SpeculativeDecoder(
            target, PromptLookupDrafter(), config=SpecConfig(seed=0)
        ),
    }
    if compiled:
        decoders["ours, compiled"] = SpeculativeDecoder(target, draft, config=fixed, compile=True)
        decoders["lookup, ours, compiled"] = SpeculativeDecoder(
            target, PromptLookupDrafter(), config=SpecConfig(seed=0), compile=True
        )

    def run(**more: Any) -> Callable[[torch.Tensor], Any]:
        return lambda ids: target.generate(
            ids, attention_mask=torch.ones_like(ids), **options, **more
        )

    ways: dict[str, Any] = {"plain": (run(), None)}
    if not batch:
        ways["assisted, its defaults"] = (_assisted(run, draft, None), None)
        ways[f"assisted, drafts of {LENGTH}"] = (_assisted(run, draft, LENGTH), None)
        short = shortened(draft, None)
        if short is not draft:  # transformers with our way to draft: not what it has by itself
            ways[f"short vocabulary, drafts of {LENGTH}"] = (_assisted(run, short, LENGTH), None)
        ways["lookup, assisted"] = (run(prompt_lookup_num_tokens=LENGTH), None)
    for name, decoder in decoders.items():
        ways[name] = (run(custom_generate=decoder), decoder)
    return ways


def _assisted(run: Any, draft: Any, length: int | None) -> Callable[[torch.Tensor], Any]:
    """Assisted generation; how it drafts stands in the draft's own generation config."""
    settings = {"num_assistant_tokens": 20, "num_assistant_tokens_schedule": "constant"}
    settings |= {"assistant_confidence_threshold": 0.4}  # the defaults of transformers 5
    if length is not None:
        settings |= {"num_assistant_tokens": length, "assistant_confidence_threshold": 0.0}

    def call(ids: torch.Tensor) -> Any:
        for name, value in settings.items():
            setattr(draft.generation_config, name, value)
        return run(assistant_model=draft)(ids)

    return call


def race(
    ways: Any, prompts: list[torch.Tensor], *, rounds: int, new: int
) -> dict[str, dict[str, Any]]:
    """Tokens a second of each way over all prompts: the median over rounds, in turns."""
    seconds: dict[str, list[float]] = {way: [0.0] * rounds for way in ways}
    texts: dict[str, list[Any]] = {way: [] for way in ways}
    stats: dict[str, list[Any]] = {way: [] for way in ways}
    for way, (call, _) in ways.items():
        for ids in prompts if way.endswith("compiled") else prompts[:1]:  # warm: all their shapes
            call(ids)
    for turn in range(rounds):
        for ids in prompts:
            for way, (call, decoder) in ways.items():
                began = time.perf_counter()
                found = call(ids)
                synchronize(ids.device)
                seconds[way][turn] += time.perf_counter() - began
                if turn == 0:
                    texts[way].append(found.tolist())
                if decoder is not None:
                    stats[way].append(decoder.stats)
    tokens = new * sum(len(ids) for ids in prompts)
    found = {}
    for way, times in seconds.items():
        row: dict[str, Any] = {"rate": tokens / statistics.median(times), "seconds": times}
        row["same"] = sum(a == b for a, b in zip(texts[way], texts["plain"], strict=True))
        if some := stats[way]:
            row["tau"] = sum(s.tokens for s in some) / sum(s.row_blocks for s in some)
            row["other"] = sum(s.other_seconds for s in some) / sum(s.seconds for s in some)
        found[way] = row
    return found
