"""How well a store of n-grams knows held-out text, how each length should count, and what it costs.

The weights of the lengths are those of the mixture that makes held-out text likeliest (Jelinek and
Mercer, 1980): expectation maximisation, with the probabilities as they are. The mixture holds the
uniform distribution too, for what no n-gram knows.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.data.passages import sample_passages
from attar.data.text import load_text
from attar.data.tokens import encode
from attar.decode.ngram_build import figures
from attar.decode.ngram_files import TOKENIZER
from attar.decode.ngrams import NGrams, NGramStore, Probabilities, require_tokenizer
from attar.errors import DataError, require
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.report.tables import Table
from attar.runtime import Bar

CANDIDATES = 9
"""Tokens that a lookup asks for, as superposed decoding does by default."""
WHOLE = 0.5
"""What the weights of superposed decoding add up to (Shen et al., 2024, appendix B)."""
_STEPS, _CLOSE = 200, 1e-5  # of expectation maximisation


@dataclass(frozen=True)
class Lookups:
    """What a store said at each token of a text.

    Attributes:
        probabilities: of the token that came, `(T, order - 1)`.
        seen: whether the context was known, `(T, order - 1)`.
        seconds: of a lookup of `CANDIDATES` tokens, `(T,)`.
    """

    probabilities: Probabilities
    seen: Any
    seconds: Sequence[float]


def evaluate_ngrams(
    store: str | Path,
    data: DataLike = STDLIB,
    *,
    eval_tokens: int = 10_000,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """How often a store knows what comes before a token of held-out text, and how well it predicts
    the token.

    Args:
        store: folder that `attar ngrams train` wrote.
        data: whatever `attar.data.load_text` takes; weights are tuned on its validation split, its
            test split is measured. Give text that the store was not made of.
        eval_tokens: tokens of each that are read, in passages spread over it.
        output_dir: where the record goes; None keeps it in memory.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: `quality["test"]`, and `details["orders"]` for each length of n-grams: hit rate,
        share of the tokens that are known, weight in the mixture, and lambda for superposed
        decoding; `details["bytes_per_token"]` and `details["lookup_microseconds"]`.

    Raises:
        ConfigError: there is nothing to read, or the output folder is taken.
        DataError: the store or the text cannot be read.
    """
    require(eval_tokens >= 2, "eval_tokens", eval_tokens, "2 or more")
    loaded = NGramStore.load(store)
    tokenizer = checkpoint.load_tokenizer(loaded.folder / TOKENIZER)
    require_tokenizer(loaded, tokenizer, name=str(store))
    data = Data.of(data)
    settings = {"model": str(store), **data.settings(), "eval_tokens": eval_tokens}
    with artefact(output_dir, command="ngrams evaluate", settings=settings, recipe=recipe) as work:
        if work.main:
            documents = load_text(data)
            held_out, test = (
                look_up(loaded, passages(documents[split]["text"], tokenizer, tokens=eval_tokens))
                for split in ("validation", "test")
            )
            uniform = 1 / loaded.vocab_size
            weights = tuned_weights(held_out.probabilities, uniform=uniform)
            bits = bits_per_token(test.probabilities, weights, uniform=uniform)
            work.run.quality["test"] = {"bits_per_token": bits, "tokens": len(test.seconds)}
            work.run.details = {
                **figures(loaded),
                "uniform_bits_per_token": float(np.log2(loaded.vocab_size)),
                "lookup_microseconds": 1e6 * statistics.median(test.seconds),
                "orders": _orders(test, weights),
            }
    return work.run


def evaluation_table(run: Run) -> str:
    """What `evaluate_ngrams` found as a table, with what its columns mean."""
    head = ["n", "Hit rate", "Next token known", "Weight", "Lambda"]
    rows = [
        [
            str(row["n"]),
            f"{row['hit_rate']:.1%}",
            f"{row['known']:.1%}",
            f"{row['weight']:.3f}",
            f"{row['lambda']:.3f}",
        ]
        for row in run.details["orders"]
    ]
    found, details = run.quality["test"], run.details
    return (
        f"{Table(head, rows)}\n\n"
        f"{found['bits_per_token']:.2f} bits per token on {found['tokens']:,} tokens of the test "
        f"split (all ids equally likely: {details['uniform_bits_per_token']:.2f}). "
        f"{details['bytes_per_token']:.2f} bytes per token, "
        f"{details['lookup_microseconds']:.0f} microseconds a lookup of {CANDIDATES} tokens.\n"
        "Hit rate: how often the n - 1 tokens before were seen. Weight: in the mixture that finds "
        f"the validation split likeliest. Lambda: the weights scaled to {WHOLE}, for superposed "
        "decoding."
    )


def passages(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, tokens: int
) -> list[list[int]]:
    """So many tokens of texts, in passages spread over them.

    Raises:
        DataError: there are no two tokens that follow each other.
    """

    def ids_of(text: str) -> list[int]:
        return next(iter(encode([text], tokenizer)), [])

    found = [ids_of(text) for text in sample_passages(texts, ids_of, tokens=tokens)]
    found = [ids for ids in found if len(ids) > 1]
    if not found:
        raise DataError("expected held-out text of at least two tokens, found none; give more text")
    return found


def look_up(store: NGrams, rows: Sequence[Sequence[int]]) -> Lookups:
    """Ask a store for each token but the first of some texts, among others that occur there."""
    others = [token for ids in rows for token in ids]
    store.probabilities(rows[0][:1], rows[0][1:2])  # compiles what is compiled on first use
    chances, seen, seconds = [], [], []
    for ids in Bar(rows, desc="looking up", unit="passage", leave=False):
        for at in range(1, len(ids)):
            first = 37 * len(seconds) % len(others)
            candidates = [ids[at], *others[first : first + CANDIDATES - 1]]
            began = time.perf_counter()
            found = store.probabilities(ids[:at], candidates)
            seconds.append(time.perf_counter() - began)
            chances.append(found[:, 0])
            seen.append(store.seen(ids[:at]))
    return Lookups(np.asarray(chances), np.asarray(seen), seconds)


def tuned_weights(probabilities: Probabilities, *, uniform: float) -> Probabilities:
    """The weights of a mixture that make some tokens likeliest, by expectation maximisation.

    One more token that no n-gram knows is counted, so that no token is ever impossible.

    Args:
        probabilities: of each token by each length of n-grams, `(T, K)`.
        uniform: what the last part of the mixture gives to every token.

    Returns:
        `(K + 1,)`, the weight of the uniform distribution last; they add up to 1.
    """
    unknown = np.zeros((1, probabilities.shape[1]))
    return likeliest_weights(_with_uniform(np.vstack([probabilities, unknown]), uniform))


def likeliest_weights(parts: Probabilities) -> Probabilities:
    """Weights of a mixture under which tokens are likeliest, `(K,)`, by expectation maximisation.

    Args:
        parts: probability of each token in each part, `(T, K)`; none is 0 in all.
    """
    weights = np.full(parts.shape[1], 1 / parts.shape[1])
    for _ in range(_STEPS):
        shares = parts * weights  # E: which part each token comes from
        shares /= shares.sum(1, keepdims=True)
        before, weights = weights, shares.mean(0)  # M
        if np.abs(weights - before).max() < _CLOSE:
            break
    return weights


def bits_per_token(
    probabilities: Probabilities, weights: Probabilities, *, uniform: float
) -> float:
    """Mean of -log2 of what the mixture gives to tokens."""
    return float(-np.log2(_with_uniform(probabilities, uniform) @ weights).mean())


def _with_uniform(probabilities: Probabilities, uniform: float) -> Probabilities:
    return np.column_stack([probabilities, np.full(len(probabilities), uniform)])


def _orders(test: Lookups, weights: Probabilities) -> list[dict[str, float]]:
    own = weights[:-1]
    scaled = WHOLE * own / (own.sum() or 1.0)  # a store may know nothing of the text
    return [
        {
            "n": i + 2,
            "hit_rate": float(test.seen[:, i].mean()),
            "known": float((test.probabilities[:, i] > 0).mean()),
            "weight": float(own[i]),
            "lambda": float(scaled[i]),
        }
        for i in range(len(own))
    ]
