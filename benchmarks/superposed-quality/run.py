"""Drafts of ten tokens behind fifteen of unseen books: how good are they?

Ratio: perplexity, under the model itself, of the best of three superposed drafts over one nucleus
sample. Beside it the mean of the drafts, a larger scorer if there is one (the environment variable
SCORER names it), how often a draft is what the book goes on with, and how alike drafts are.
"""

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from autocomplete import NEW, PROMPT, model_and_words, store_of, windows
from common import arguments, finish

from attar import checkpoint
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder, tune
from attar.methods.superposed.core import Row
from attar.methods.superposed.reader import Reader

K, TARGET = 3, 0.9
NUCLEUS = {"do_sample": True, "top_p": 0.9, "top_k": 0, "temperature": 0.6}
AHEAD = (1, 2, 4)  # tokens of the book that a draft begins with

Drafts = list[list[int]]
Way = Callable[[list[list[int]]], list[Drafts]]
BATCH = 8
#: the paper's parameters, without what is added here
PAPERS = SuperposedConfig(k=K, heal=False, min_hit_rate=0.0)


def ways_of(model: Any, words: Any, store: Any, tuned: SuperposedConfig) -> dict[str, Way]:
    """Everything that writes drafts of prompts of one length."""

    def superposed(config: SuperposedConfig, store: Any) -> Way:
        decoder = SuperposedDecoder(model, words, config=config, store=store)

        def call(prompts: list[list[int]]) -> list[Drafts]:
            read = [decoder.prompt(prompt) for prompt in prompts]
            rows, _ = decoder.search(decoder.reader(len(read)), read, config=config)
            return [[list(draft.tokens) for draft in row.alive] for row in rows]

        return call

    def plain(count: int, **more: Any) -> Way:
        def call(prompts: list[list[int]]) -> list[Drafts]:
            ids = torch.tensor(prompts)
            rows = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW,
                pad_token_id=0,
                num_return_sequences=count,
                **more,
            )
            return rows[:, ids.shape[1] :].reshape(len(ids), count, -1).tolist()

        return call

    return {
        "superposed, paper": superposed(PAPERS, store),
        "superposed": superposed(tuned, store),
        "superposed, anchor_first": superposed(replace(tuned, anchor_first=True), store),
        "superposed, no n-grams": superposed(PAPERS, None),
        "nucleus x1": plain(1, **NUCLEUS),
        f"nucleus x{K}": plain(K, **NUCLEUS),
        "greedy": plain(1, do_sample=False),
        "beam": plain(K, do_sample=False, num_beams=K),
    }


@torch.no_grad()
def own_nll(model: Any, prompts: list[list[int]], drafts: list[Drafts]) -> list[list[float]]:
    """Negative log-likelihood per token of the drafts of each prompt, under the model itself."""
    reader = Reader(model, len(prompts))
    reader.begin(prompts)
    reader.read([Row((), 1, lambda _: False)] * len(prompts))
    sums = reader.log_probs([[tuple(one) for one in some] for some in drafts])
    return [[-one / NEW for one in some] for some in sums]


@torch.no_grad()
def other_nll(scorer: Any, own: Any, words: Any, prompt: list[int], draft: list[int]) -> float:
    """The same under a model with a tokenizer of its own, per token of that."""
    start, text = _again(words, own, prompt, draft)
    logits = scorer(input_ids=torch.tensor([[*start, *text]])).logits[0].float()
    rows = logits[len(start) - 1 : -1].log_softmax(-1)
    return -float(rows.gather(1, torch.tensor(text)[:, None]).mean())


def self_bleu(drafts: Drafts) -> float:
    """How alike drafts are: the mean BLEU, of up to 4-grams, of each against the others."""
    if len(drafts) < 2:
        return math.nan
    found = []
    for n, draft in enumerate(drafts):
        others = drafts[:n] + drafts[n + 1 :]
        logs = [math.log(_precision(draft, others, size)) for size in range(1, 5)]
        found.append(math.exp(sum(logs) / 4))
    return sum(found) / len(found)


def _precision(draft: list[int], others: Drafts, size: int) -> float:
    """The share of n-grams that another draft has too, with one added to both counts for n > 1."""
    own = _grams(draft, size)
    most: Counter[tuple[int, ...]] = Counter()
    for other in others:
        most |= _grams(other, size)
    more = size > 1
    return max((sum((own & most).values()) + more) / (own.total() + more), 1e-9)


def _grams(tokens: list[int], size: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(size)), strict=False))


def figures(
    texts: Sequence[list[int]],
    drafts: Sequence[Drafts],
    scores: dict[str, Sequence[Sequence[float]]],
) -> dict[str, float]:
    """What one way's drafts are worth; of a scorer, the score of each draft of each prompt."""
    row: dict[str, float] = {}
    for name, found in scores.items():
        row[f"{name}: mean of k"] = math.exp(np.mean([np.mean(some) for some in found]))
        row[f"{name}: best of k"] = math.exp(np.mean([min(some) for some in found]))
    for ahead in AHEAD:
        hits = [
            any(one[:ahead] == text[:ahead] for one in some)
            for text, some in zip(texts, drafts, strict=True)
        ]
        row[f"next {ahead}"] = float(np.mean(hits))
    row["self-BLEU"] = float(np.mean([self_bleu(some) for some in drafts]))
    return row


def _again(
    words: Any, own: Any, prompt: list[int], tokens: list[int]
) -> tuple[list[int], list[int]]:
    """A prompt and its draft in the tokens of another model."""
    start = list(own(words.decode(prompt))["input_ids"])
    whole = list(own(words.decode([*prompt, *tokens]))["input_ids"])
    same = next((i for i, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), None)
    cut = max(1, min(len(start) if same is None else same, len(whole) - 1))
    return whole[:cut], whole[cut:]


def main() -> None:
    args = arguments(__doc__ or "")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    count = 4 if args.quick else 300
    model, words = model_and_words()
    store = store_of(words, args.data, quick=args.quick)
    larger = os.environ.get("SCORER")
    scorer: Any = checkpoint.load(larger, dtype=torch.float32) if larger else None
    own: Any = checkpoint.load_tokenizer(larger) if larger else None
    decoder = SuperposedDecoder(model, words, config=PAPERS, store=store)
    tuned, trials = decoder.config, []
    if not args.quick:
        held_out = windows(words, args.data, "validation", count=60, tokens=60)
        tuning = tune(decoder, [words.decode(ids) for ids in held_out])
        tuned, trials = tuning.config, tuning.trials
    whole = windows(words, args.data, "test", count=count, tokens=PROMPT + NEW)
    prompts, texts = [one[:PROMPT] for one in whole], [one[PROMPT:] for one in whole]
    table: dict[str, dict[str, float]] = {}
    for way, call in ways_of(model, words, store, tuned).items():
        drafts: list[Drafts] = []
        scores: dict[str, list[list[float]]] = {"itself": []}
        for start in range(0, count, BATCH):
            some = prompts[start : start + BATCH]
            drafts += (made := call(some))
            scores["itself"] += own_nll(model, some, made)
        if larger:
            scores["larger"] = [
                [other_nll(scorer, own, words, prompt, one) for one in some]
                for prompt, some in zip(prompts, drafts, strict=True)
            ]
        table[way] = figures(texts, drafts, scores)
        print(f"{way:26}" + "  ".join(f"{name} {value:.2f}" for name, value in table[way].items()))
    details = {
        "table": table,
        "prompts": count,
        "tuned": {"alpha": tuned.alpha, "temperature": tuned.temperature, "lambdas": tuned.lambdas},
        "trials": [vars(one) for one in trials],
        "store_tokens": store.meta["tokens"],
    }
    finish(__file__, _line(table), details, args)


def _line(table: dict[str, dict[str, float]]) -> dict[str, Any]:
    ours, one, three = (table[way] for way in ("superposed", "nucleus x1", f"nucleus x{K}"))
    best, baseline = ours["itself: best of k"], one["itself: best of k"]
    ahead = {n: table["superposed, anchor_first"][f"next {n}"] for n in AHEAD}
    covered = all(ahead[n] >= three[f"next {n}"] for n in AHEAD)
    told = ", ".join(f"next {n} {ahead[n]:.2f} (nucleus {three[f'next {n}']:.2f})" for n in AHEAD)
    return {
        "claim": "superposed-quality",
        "figure": round(best, 3),
        "unit": "perplexity of the best of three drafts, under SmolLM2 itself, unseen books",
        "baseline": f"one nucleus sample: {baseline:.2f}",
        "ratio": round(best / baseline, 3),
        "target": TARGET,
        "over_best_of_nucleus": round(best / three["itself: best of k"], 3),
        "ok": bool(best / baseline <= TARGET and covered),
        "note": f"best of {K} nucleus samples {three['itself: best of k']:.2f}; coverage with "
        f"anchor_first: {told}.",
    }


if __name__ == "__main__":
    main()
