"""What does a store of n-grams take on disk, to look up and to build, and does it count right?

Figure: bytes per token, n-grams of 2 to 6 tokens together, of English fiction and Python's standard
library in SmolLM2's tokens. Beside it dictionaries of counts, pickled, as the paper's code keeps
them; the same dictionaries check the counts.
"""

import pickle
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common import arguments, finish
from smollm2 import smollm2
from tqdm import tqdm

from attar import checkpoint
from attar.data.data import STDLIB
from attar.data.text import load_text
from attar.decode.ngram_build import build_store, figures
from attar.decode.ngram_evaluation import CANDIDATES, look_up, passages
from attar.decode.ngram_files import TOKENS
from attar.decode.ngram_index import index
from attar.decode.ngrams import ORDER, NGramStore

BYTES, MICROSECONDS, RATE = 7.0, 100.0, 1e6
#: characters of each source in the quick setting, and of the part that dictionaries count
QUICK, PART = 2_500_000, 600_000
LOOKUPS, CHECKS = 5000, 1000

Counts = dict[int, dict[tuple[int, ...], dict[int, int]]]


def main() -> None:
    args = arguments(__doc__ or "")
    tokenizer = checkpoint.load_tokenizer(smollm2())
    train, test = texts(args)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        seconds, store = timed(lambda: build_store(train, tokenizer, output_dir=place / "store"))
        rates = [sorting(store, place / str(i)) for i in range(1 if args.quick else 3)]
        rate = statistics.median(rates)
        found = look_up(store, passages(test, tokenizer, tokens=LOOKUPS))
        lookup = 1e6 * statistics.median(found.seconds)
        part = build_store(head(train, PART), tokenizer, output_dir=place / "part")
        counts = dictionaries(part)
        right = agree(part, counts) and agree_with_scan(store, 20 if args.quick else 200)
        theirs = sum(len(pickle.dumps(one)) for one in counts.values()) / part.meta["tokens"]
        theirs_lookup = dictionary_lookup(part, counts)
        each = figures(store)
        sizes = {name: f["bytes"] / each["tokens"] for name, f in store.meta["files"].items()}
    print(f"{each['tokens']:,.0f} tokens of {each['documents']:,.0f} documents")
    for name, size in sizes.items():
        print(f"  {name:12}{size:8.3f} bytes per token")
    hits = ", ".join(f"{share:.0%}" for share in found.seen.mean(0))
    print(f"  held-out contexts of 1 to {ORDER - 1} tokens seen: {hits}")
    figure = each["bytes_per_token"]
    ok = figure <= BYTES and lookup < MICROSECONDS and rate >= RATE and right
    line = {
        "claim": "ngram-store",
        "figure": round(figure, 3),
        "unit": f"bytes per token, n-grams of 2 to {ORDER} tokens",
        "baseline": f"pickled dictionaries of counts: {theirs:.1f}",
        "ratio": round(figure / theirs, 4),
        "target": BYTES,
        "ok": bool(ok),
        "note": f"{each['tokens'] / 1e6:.1f}M tokens; a lookup of {CANDIDATES} tokens takes "
        f"{lookup:.0f} microseconds (median; target {MICROSECONDS:.0f}; dictionaries in memory "
        f"{theirs_lookup:.0f}), sorting {rate / 1e6:.1f}M tokens a second on one thread (target "
        f"{RATE / 1e6:.0f}M); counts {'equal' if right else 'DIFFER FROM'} the dictionaries'.",
    }
    details = {
        "tokens": each["tokens"],
        "bytes_per_token": sizes,
        "lookup_microseconds": lookup,
        "lookup_microseconds_95": 1e6 * float(np.quantile(found.seconds, 0.95)),
        "dictionary_lookup_microseconds": theirs_lookup,
        "sorting_rates": rates,
        "seconds_with_tokenization": seconds,
        "hit_rates": found.seen.mean(0).tolist(),
        "counts_equal": right,
    }
    finish(__file__, line, details, args)


def texts(args: Any) -> tuple[list[str], list[str]]:
    """Documents to count, and documents that are held out."""
    books = args.data / "books"
    sources = [load_text(source) for source in (STDLIB, *([books] if books.is_dir() else []))]
    train = [list(one["train"]["text"]) for one in sources]
    if args.quick:
        train = [head(rows, QUICK) for rows in train]
    test = [text for one in sources for text in one["test"]["text"]]
    return [text for rows in train for text in rows], test


def head(rows: list[str], characters: int) -> list[str]:
    """The first documents of so many characters."""
    ends = np.cumsum([len(row) for row in rows])
    return rows[: int(np.searchsorted(ends, characters)) + 1]


def timed(work: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def sorting(store: NGramStore, folder: Path) -> float:
    """Tokens a second from tokens on disk to a store, one thread."""
    folder.mkdir()
    (folder / TOKENS).write_bytes(store.tokens.tobytes())
    described = ("tokenizer", "vocab_size", "separator", "dtype", "order", "sources", "licence")
    meta = {name: store.meta[name] for name in described}
    seconds, _ = timed(lambda: index(folder, meta))
    return store.meta["tokens"] / seconds


def dictionaries(store: NGramStore) -> Counts:
    """n -> context -> what follows -> how often, counted one token after another."""
    found: Counts = {n: defaultdict(lambda: defaultdict(int)) for n in range(2, ORDER + 1)}
    document: list[int] = []
    for token in tqdm(store.tokens.tolist(), desc="counting", disable=None):
        if token == store.separator:
            document = []
            continue
        for n in range(2, min(ORDER, len(document) + 1) + 1):
            found[n][tuple(document[len(document) - n + 1 :])][token] += 1
        document = [*document[-ORDER:], token]
    return {n: {key: dict(row) for key, row in rows.items()} for n, rows in found.items()}


def drawn(store: NGramStore, count: int) -> list[tuple[list[int], list[int]]]:
    """Contexts of the text, and candidates: what follows there, and other tokens of the text."""
    rng = np.random.default_rng(0)
    found = []
    for at in rng.integers(ORDER, len(store.tokens), count):
        others = store.tokens[rng.integers(0, len(store.tokens), CANDIDATES - 1)]
        found.append((store.tokens[at - ORDER : at].tolist(), [*others, store.tokens[at]]))
    return [(context, [int(token) for token in tokens]) for context, tokens in found]


def agree(store: NGramStore, counts: Counts) -> bool:
    """Whether the store counts what dictionaries do."""
    for context, tokens in drawn(store, CHECKS):
        known = len(store.last(context))
        found = store.counts(context, tokens)
        for n in range(2, ORDER + 1):
            row = counts[n].get(tuple(context[len(context) - n + 1 :]), {}) if known > n - 2 else {}
            if found[n - 2].tolist() != [row.get(token, 0) for token in tokens]:
                return False
    return True


def agree_with_scan(store: NGramStore, count: int) -> bool:
    """Whether the store counts what a walk through all its tokens finds, for what came next."""
    for context, tokens in drawn(store, count):
        last, token = store.last(context), tokens[-1]
        found = store.counts(context, [token])[:, 0]
        same = store.tokens == token
        if token == store.separator:
            same &= False
        for i, one in enumerate(last):
            same[i + 1 :] &= store.tokens[: len(same) - i - 1] == one
            if found[i] != np.count_nonzero(same[i + 1 :]):
                return False
    return True


def dictionary_lookup(store: NGramStore, counts: Counts) -> float:
    """Microseconds of the same question to dictionaries in memory."""
    times = []
    for context, tokens in drawn(store, CHECKS):
        began = time.perf_counter()
        for n in range(2, ORDER + 1):
            row = counts[n].get(tuple(context[len(context) - n + 1 :]))
            if row is not None:
                whole = sum(row.values())
                [row.get(token, 0) / whole for token in tokens]
        times.append(time.perf_counter() - began)
    return 1e6 * statistics.median(times)


if __name__ == "__main__":
    main()
