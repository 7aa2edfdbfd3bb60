"""Making a store of n-grams: a text becomes tokens, shard by shard, and `index` sorts them."""

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.data.text import load_text
from attar.data.tokens import encode
from attar.decode.ngram_files import TOKENIZER, TOKENS, require_order
from attar.decode.ngram_index import SHARD_TOKENS, index
from attar.decode.ngrams import ORDER, NGramStore
from attar.errors import ConfigError, require
from attar.foreign import read_json
from attar.models import separator
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.runtime import Bar

_CHARACTERS = 4_000_000  # of text that are encoded at a time, about
_BATCH = 256  # documents that the tokenizer is given at a time


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
            rows = load_text(data)["train"]
            fill(work.folder, rows, tokenizer=tokenizer, build=build, state=work.state)
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
        fill(space.path, rows, tokenizer=tokenizer, build=build, state=space.state)
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
    *,
    tokenizer: PreTrainedTokenizerBase,
    build: Build,
    state: Path,
) -> None:
    """Write the store of some documents into a folder, with the tokenizer; `state` holds what is
    not complete."""
    ends = separator(tokenizer)
    vocab_size = 1 + max(tokenizer.get_vocab().values())  # ids may have gaps
    dtype = dtype_for(vocab_size)
    shards = list(_shards(rows, state))
    _check_plan([[start, stop] for start, stop, _ in shards], rows, noted=state / "plan.json")
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
        workers=build.workers,
        shard_tokens=build.shard_tokens,
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


def _check_plan(shards: list[list[int]], rows: Dataset, *, noted: Path) -> None:
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
