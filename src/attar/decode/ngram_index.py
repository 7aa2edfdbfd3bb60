"""Sorting the positions of a text by the tokens before them, in shards of bounded memory.

A shard holds the positions after some tokens of the vocabulary, so that the shards behind one
another are the whole list, whatever their number and whoever sorts them.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar import artefacts
from attar.decode.ngram_files import (
    FOLLOWING,
    FORMAT,
    FREQUENT,
    META,
    POSITIONS,
    STARTS,
    TOKENS,
    Integers,
    by_count,
    checksum,
)
from attar.errors import DataError
from attar.runtime import Bar

SHARD_TOKENS = 2**23
"""Positions that are sorted at a time: about 30 bytes each."""
_MOST = 2**32 - 1  # positions and where they begin are 32 bits
_LISTED = (2, 3)  # n-grams whose frequent contexts are listed

Row = tuple[int, Integers, Integers]
"""Start of the range of a frequent context, the tokens that follow it, and their counts."""


def index(
    folder: Path, meta: dict[str, Any], *, workers: int = 1, shard_tokens: int = SHARD_TOKENS
) -> None:
    """Sort the positions of the tokens in a folder, list what follows frequent contexts, and
    describe it all in `meta.json`.

    Args:
        folder: holds `tokens.bin`.
        meta: what is known of the store: order, separator, type and number of ids, and more.
        workers: threads.
        shard_tokens: positions that each sorts at a time.

    Raises:
        DataError: there are no tokens, or too many.
    """
    if not (folder / TOKENS).stat().st_size:
        raise DataError("expected text to count n-grams of, found none; give more text")
    tokens = np.asarray(np.memmap(folder / TOKENS, meta["dtype"], mode="r"))
    if len(tokens) > _MOST:
        raise DataError(
            f"expected at most {_MOST:,} tokens in an n-gram store, found {len(tokens):,}; make "
            "several stores, and merge them"
        )
    artefacts.require_space(folder, needed=5 * len(tokens), what="the n-gram store")
    counts = np.zeros(meta["vocab_size"], np.int64)
    for _, part in _pieces(tokens):
        counts += np.bincount(part, minlength=len(counts))
    starts = np.concatenate([[0], np.cumsum(counts)])
    starts.astype(np.uint32).tofile(folder / STARTS)
    positions = np.memmap(folder / POSITIONS, np.uint32, mode="w+", shape=len(tokens))

    def work(bounds: tuple[int, int]) -> dict[int, list[Row]]:
        low, high = bounds
        start, stop = starts[low], starts[high]
        positions[start:stop] = _sorted(tokens, low, high, order=meta["order"])
        listed = [n for n in _LISTED if n <= meta["order"]]
        part = positions[start:stop]
        return {
            n: list(_frequent(tokens, part, start=int(start), separator=meta["separator"], n=n))
            for n in listed
        }

    shards = list(_vocabulary_shards(starts, shard_tokens))
    with ThreadPoolExecutor(workers) as pool:
        bar = Bar(pool.map(work, shards), desc="sorting", unit="shard", total=len(shards))
        parts = list(bar)
    positions.flush()
    rows = {n: [row for part in parts for row in part[n]] for n in parts[0]}
    for n in rows:
        _list(rows[n]).tofile(folder / FOLLOWING.format(n=n))
    documents = int(counts[meta["separator"]])
    counted = {"documents": documents, "tokens": len(tokens) - documents}
    frequent = {str(n): len(rows[n]) for n in rows}
    _describe(folder, meta | {"frequent_from": FREQUENT, "frequent": frequent} | counted)


def _describe(folder: Path, meta: dict[str, Any]) -> None:
    """Write `meta.json`, with size and checksum of each file."""
    names = [TOKENS, POSITIONS, STARTS, *(FOLLOWING.format(n=n) for n in meta["frequent"])]
    files = {
        name: {"bytes": (folder / name).stat().st_size, "crc32": checksum(folder / name)}
        for name in names
    }
    described = {"format": FORMAT, **meta, "files": files}
    artefacts.write_text(folder / META, json.dumps(described, indent=2) + "\n")


def _pieces(tokens: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """An array in pieces, with where each begins."""
    for at in range(0, len(tokens), SHARD_TOKENS):
        yield at, tokens[at : at + SHARD_TOKENS]


def _vocabulary_shards(starts: Integers, size: int) -> Iterator[tuple[int, int]]:
    """Tokens from one to another before which there are about so many positions, all of them."""
    low, last = 0, len(starts) - 1
    while low < last:
        high = int(np.searchsorted(starts, starts[low] + size, side="right")) - 1
        high = min(max(high, low + 1), last)
        yield low, high
        low = high


def _sorted(tokens: NDArray[Any], low: int, high: int, *, order: int) -> Integers:
    """The positions after the tokens from `low` to `high`, sorted by the tokens before them, the
    last one first, and then by their own: by one key after another, the last one first.

    The last token stands before the first.
    """
    parts = [np.flatnonzero((part >= low) & (part < high)) + at + 1 for at, part in _pieces(tokens)]
    places = np.concatenate(parts) % len(tokens)
    for back in (0, *range(order - 1, 0, -1)):
        for shift in range(0, 8 * tokens.itemsize, 16):  # radix sort takes keys of 16 bits
            before = tokens.take(places - back, mode="wrap")
            key = (before >> shift).astype(np.uint16)
            places = places[np.argsort(key, kind="stable")]
    return places


def _frequent(
    tokens: NDArray[Any], positions: NDArray[np.uint32], *, start: int, separator: int, n: int
) -> Iterator[Row]:
    """What follows each context of `n - 1` tokens that is frequent, in a sorted list of positions
    that begins at `start` of the whole list."""
    places = positions.astype(np.int64)
    context = [tokens[places - back] for back in range(1, n)]
    same = np.ones(max(0, len(places) - 1), bool)
    for one in context:
        same &= one[1:] == one[:-1]
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    stops = np.append(starts[1:], len(places))
    for i in np.flatnonzero(stops - starts >= FREQUENT):
        if all(one[starts[i]] != separator for one in context):
            after = tokens[places[starts[i] : stops[i]]]
            yield start + int(starts[i]), *by_count(after, separator)


def _list(rows: Sequence[Row]) -> NDArray[np.uint32]:
    """Rows as one array, of which `Following.of` finds the parts."""
    sizes = [len(tokens) for _, tokens, _ in rows]
    parts = [np.asarray([start for start, *_ in rows]), np.cumsum([0, *sizes])]
    parts += [tokens for _, tokens, _ in rows]
    parts += [counts for *_, counts in rows]
    return np.concatenate(parts).astype(np.uint32)
