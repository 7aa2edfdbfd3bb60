"""Making a store of n-grams: tokens by shards of text, then positions by shards of tokens.

Positions are sorted in shards by the token before them, so that the shards behind one another are
the whole list, whatever their number and whoever sorts them.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.data.text import load_text
from attar.decode.ngrams import (
    FOLLOWING,
    FORMAT,
    FREQUENT,
    META,
    ORDER,
    POSITIONS,
    STARTS,
    TOKENIZER,
    TOKENS,
    Integers,
    NGramStore,
    by_count,
    checksum,
    require_order,
)
from attar.errors import ConfigError, DataError, require
from attar.foreign import read_json
from attar.models import separator
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.runtime import Bar

SHARD_TOKENS = 2**23
"""Positions that are sorted at a time: about 30 bytes each."""
_CHARACTERS = 4_000_000  # of text that are encoded at a time, about
_BATCH = 256  # documents that the tokenizer is given at a time
_MOST = 2**32  # positions are 32 bits
_LISTED = (2, 3)  # n-grams whose frequent contexts are listed

Row = tuple[int, Integers, Integers]
"""Start of the range of a frequent context, the tokens that follow it, and their counts."""


@dataclass(frozen=True)
class Build:
    """How a store is made.

    Attributes:
        order: the longest n-gram.
        workers: threads; the store does not depend on it.
        shard_tokens: positions that each sorts at a time; nor on this.
        sources: where the text comes from.
        licence: of the text.
    """

    order: int = ORDER
    workers: int = 1
    shard_tokens: int = SHARD_TOKENS
    sources: tuple[str, ...] = ()
    licence: str | None = None

    def __post_init__(self) -> None:
        require_order(self.order)
        require(self.workers >= 1, "workers", self.workers, "1 or more")
        require(self.shard_tokens >= 1, "shard_tokens", self.shard_tokens, "1 or more")


def train_ngrams(
    model: str | Path | PreTrainedTokenizerBase,
    data: DataLike = STDLIB,
    *,
    order: int = ORDER,
    workers: int = 1,
    shard_tokens: int = SHARD_TOKENS,
    licence: str | None = None,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Count the n-grams of the training split of a text.

    Args:
        model: folder, file or Hub name of a model or tokenizer, or a tokenizer; the store serves
            models with this tokenizer.
        data: whatever `attar.data.load_text` takes.
        order: the longest n-gram, 2 to 8 tokens.
        workers: threads; the store does not depend on it.
        shard_tokens: positions that each thread sorts at a time, about 30 bytes each; the store
            does not depend on it either.
        licence: of the text, for the record.
        output_dir: where the store goes.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run; text that was encoded is not encoded again.

    Returns:
        The record, also written to `attar.json`: documents, tokens, and bytes per token.

    Raises:
        ConfigError: the output folder is taken, or an option is out of range.
        DataError: the text or the tokenizer cannot be read, or there is no text.
        ResourceError: the disk is full.
    """
    named = not isinstance(model, PreTrainedTokenizerBase)
    tokenizer = checkpoint.load_tokenizer(model) if named else model
    data = Data.of(data)
    build = Build(order, workers, shard_tokens, (data.name,), licence)
    settings = {
        "model": str(model) if named else tokenizer.name_or_path,
        **data.settings(),
        "tokenizer": checkpoint.tokenizer_fingerprint(tokenizer),
        "order": order,
        "licence": licence,
    }
    with artefact(
        output_dir, command="ngrams train", settings=settings, recipe=recipe, resume=resume
    ) as work:
        if work.main:
            assert work.state is not None
            fill(work.folder, load_text(data)["train"], tokenizer, build=build, state=work.state)
            work.run.quality = {"train": figures(NGramStore.load(work.folder))}
    return work.run


def build_store(
    texts: Dataset | Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    output_dir: str | Path,
    build: Build = Build(),
) -> NGramStore:
    """Count the n-grams of documents.

    Args:
        texts: documents, or a data set with a column `text`.
        tokenizer: of the models that the store is to serve.
        output_dir: where the store goes; must be new or empty.
        build: how it is made.

    Raises:
        ConfigError: the folder is taken.
        DataError: there is no text, or the tokenizer has no token to separate documents.
    """
    rows = texts if isinstance(texts, Dataset) else Dataset.from_dict({"text": list(texts)})
    with artefacts.workspace(output_dir, settings={"command": "ngrams"}) as space:
        fill(space.path, rows, tokenizer, build=build, state=space.state)
    return NGramStore.load(output_dir)


def figures(store: NGramStore) -> dict[str, float]:
    """What a store holds."""
    tokens = store.meta["tokens"]
    return {
        "documents": store.meta["documents"],
        "tokens": tokens,
        "bytes_per_token": store.data_bytes / tokens,
    }


def fill(
    folder: Path,
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    build: Build,
    state: Path,
) -> None:
    """Write the store of some documents into a folder, with the tokenizer; `state` holds what is
    not complete."""
    ends = separator(tokenizer)
    vocab_size = 1 + max(tokenizer.get_vocab().values())  # ids may have gaps
    dtype = dtype_for(vocab_size)
    shards = list(_shards(rows, state))
    _check_plan([[start, stop] for start, stop, _ in shards], rows, state / "plan.json")
    left = [shard for shard in shards if not shard[2].exists()]
    encode([""], tokenizer)  # threads must find the tokenizer's options as they stay

    def work(shard: tuple[int, int, Path]) -> None:
        start, stop, file = shard
        with artefacts.replacing(file) as unfinished, unfinished.open("xb") as out:
            for at in range(start, stop, _BATCH):
                for ids in encode(rows[at : min(at + _BATCH, stop)]["text"], tokenizer):
                    out.write(np.asarray([*ids, ends], dtype).tobytes())

    with ThreadPoolExecutor(build.workers) as pool:
        for _ in Bar(pool.map(work, left), desc="encoding", unit="shard", total=len(left)):
            pass
    with (folder / TOKENS).open("wb") as out:
        for *_, file in shards:
            with file.open("rb") as part:
                shutil.copyfileobj(part, out)
    tokenizer.save_pretrained(folder / TOKENIZER)
    index(
        folder,
        {
            "tokenizer": checkpoint.tokenizer_fingerprint(tokenizer),
            "vocab_size": vocab_size,
            "separator": ends,
            "dtype": dtype,
            "order": build.order,
            "sources": list(build.sources),
            "licence": build.licence,
        },
        build=build,
    )


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """The ids of documents, without special tokens; those without a token are left out."""
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # documents may well be longer than the model's context
    )["input_ids"]
    yield from (ids for ids in encoded if ids)


def index(folder: Path, meta: dict[str, Any], *, build: Build) -> None:
    """Sort the positions of the tokens in a folder, list what follows frequent contexts, and
    describe it all in `meta.json`.

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
        positions[start:stop] = _sorted(tokens, low, high, order=build.order)
        listed = [n for n in _LISTED if n <= build.order]
        part = positions[start:stop]
        return {n: list(_frequent(tokens, part, int(start), meta, n=n)) for n in listed}

    shards = list(_vocabulary_shards(starts, build.shard_tokens))
    with ThreadPoolExecutor(build.workers) as pool:
        bar = Bar(pool.map(work, shards), desc="sorting", unit="shard", total=len(shards))
        parts = list(bar)
    positions.flush()
    meta |= {"frequent_from": FREQUENT, "frequent": {}}
    for n in parts[0]:
        rows = [row for part in parts for row in part[n]]
        _list(rows).tofile(folder / FOLLOWING.format(n=n))
        meta["frequent"][str(n)] = len(rows)
    names = [TOKENS, POSITIONS, STARTS, *(FOLLOWING.format(n=n) for n in meta["frequent"])]
    files = {
        name: {"bytes": (folder / name).stat().st_size, "crc32": checksum(folder / name)}
        for name in names
    }
    documents = int(counts[meta["separator"]])
    counted = {"documents": documents, "tokens": len(tokens) - documents}
    artefacts.write_text(
        folder / META,
        json.dumps({"format": FORMAT, **meta, **counted, "files": files}, indent=2) + "\n",
    )


def dtype_for(vocab_size: int) -> str:
    """The type that holds all ids."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def _shards(rows: Dataset, state: Path) -> Iterator[tuple[int, int, Path]]:
    """Documents from one to another, of about so many characters, and the file of their tokens."""
    start, size, count = 0, 0, 0
    for stop, length in enumerate(_lengths(rows), start=1):
        size += length
        if size >= _CHARACTERS or stop == len(rows):
            yield start, stop, state / f"tokens-{count:05d}.bin"
            start, size, count = stop, 0, count + 1


def _lengths(rows: Dataset) -> Iterator[int]:
    for at in range(0, len(rows), 1000):
        yield from map(len, rows[at : at + 1000]["text"])


def _check_plan(shards: list[list[int]], rows: Dataset, noted: Path) -> None:
    """Refuse to go on where the text is another one by now.

    Raises:
        ConfigError: it is.
    """
    now = [*shards, rows._fingerprint]
    if noted.exists() and read_json(noted, "the list of shards") != now:
        raise ConfigError(
            "cannot resume: the text has changed since the run began; delete the unfinished folder "
            "and start over"
        )
    artefacts.write_text(noted, json.dumps(now))


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
        places = places[np.argsort(tokens[places - back], kind="stable")]
    return places


def _frequent(
    tokens: NDArray[Any], positions: NDArray[np.uint32], start: int, meta: dict[str, Any], *, n: int
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
        if all(one[starts[i]] != meta["separator"] for one in context):
            after = tokens[places[starts[i] : stops[i]]]
            yield start + int(starts[i]), *by_count(after, meta["separator"])


def _list(rows: Sequence[Row]) -> NDArray[np.uint32]:
    """Rows as one array, of which `Following.of` finds the parts."""
    sizes = [len(tokens) for _, tokens, _ in rows]
    parts = [np.asarray([start for start, *_ in rows]), np.cumsum([0, *sizes])]
    parts += [tokens for _, tokens, _ in rows]
    parts += [counts for *_, counts in rows]
    return np.concatenate(parts).astype(np.uint32)
