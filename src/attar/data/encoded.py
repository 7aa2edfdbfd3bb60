"""A text as a folder of ids: Parquet shards next to the tokenizer that gives the text back.

A shard is written aside and then put in place, so that what is there is complete; which documents
go into which shard depends on the text alone.
"""

import glob
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from attar import artefacts, checkpoint
from attar.data.text import SPLITS, progress_only_on_terminals
from attar.errors import ConfigError, DataError, ResourceError
from attar.foreign import read_json
from attar.models import DocumentTokenizer
from attar.runtime import Bar

logger = logging.getLogger(__name__)

NAME = "{split}-{i:05d}-of-{n:05d}.parquet"
"""The files of a split, with a column `input_ids`."""
SHARD_BYTES = 16_000_000
"""Bytes of text in a shard: what a process holds at a time, about twice over."""
FEW_SHARDS = 16
"""Shards up to which a single worker is this process."""
_ROWS = 1000  # documents whose lengths are read at a time


# ------------------------------------------------------------------------------------------ reading


def is_encoded(source: object) -> bool:
    """Whether this is a folder that `attar tokenizer encode` wrote."""
    if not isinstance(source, str | Path):
        return False
    folder = artefacts.expanded(source)
    return bool(encoded_files(folder, "train")) and (folder / "tokenizer_config.json").exists()


def encoded_files(folder: str | Path, split: str) -> list[Path]:
    """The files of a split, in order."""
    return sorted(artefacts.expanded(folder).glob(f"{split}-*-of-*.parquet"))


def load_encoded(folder: str | Path) -> DatasetDict:
    """The rows of ids in an encoded folder, by split.

    Raises:
        DataError: a split has no files, or one is missing or damaged.
    """
    loaded = DatasetDict()
    for split in SPLITS:
        files = encoded_files(folder, split)
        whole = int(files[0].stem.rpartition("-")[2]) if files else 0
        if not files or len(files) != whole:
            raise DataError(
                f"expected {whole or 'some'} files of the split {split} in {str(folder)!r}, found "
                f"{len(files)}; encode the text again"
            )
        try:
            for file in files:
                _check(file)
            with progress_only_on_terminals():
                names = [glob.escape(str(file)) for file in files]  # `datasets` takes patterns
                rows = datasets.load_dataset("parquet", data_files=names, split="train")
        except Exception as error:
            raise DataError(
                f"cannot read the ids in {str(folder)!r}, a file may be damaged "
                f"({' '.join(str(error).split())[:200]}); encode the text again"
            ) from error
        assert isinstance(rows, Dataset)  # one split, not streamed
        loaded[split] = rows
    return loaded


def _check(file: Path) -> None:
    """Compare a file with the checksums in it, which `datasets` does not."""
    with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
        for _ in opened.iter_batches():
            pass


# ------------------------------------------------------------------------------------------ writing


@dataclass(frozen=True)
class Shard:
    """Documents `start` to `stop` of a split, and the file that their ids go to."""

    split: str
    start: int
    stop: int
    file: Path


@dataclass(frozen=True)
class EncodeJob:
    """What a process needs to know to encode a shard.

    Attributes:
        tokenizer: its folder.
        meaning: what `meaning_of` said of it.
        context: ids in a row; None: a document a row.
        folder: where shards go.
        state: where files lie that are not complete, and the plan.
    """

    tokenizer: Path
    meaning: str
    context: int | None
    folder: Path
    state: Path


def meaning_of(tokenizer: DocumentTokenizer) -> str:
    """What the ids of a text depend on, as one word."""
    facts = json.dumps(tokenizer.dependencies, sort_keys=True)
    return sha256(facts.encode()).hexdigest()[:16]


def encode_shards(documents: DatasetDict, job: EncodeJob, *, workers: int) -> list[Shard]:
    """Write all shards that are not there yet; the result does not depend on `workers`.

    Returns:
        All shards, by split and in order.

    Raises:
        ConfigError: the text or the tokenizer has changed since other shards were written.
        ResourceError: a process was ended from outside.
    """
    plan = list(_plan(documents, job.folder))
    _check_plan(plan, job.state / "plan.json", documents)
    left = [shard for shard in plan if not shard.file.exists()]
    if len(left) < len(plan):
        logger.info("%d of %d shards are already written", len(plan) - len(left), len(plan))
    documents = _on_disk(documents, job.state) if workers > 1 else documents
    _encode_all(left, documents, job=job, workers=workers)
    return plan


def count_shards(plan: Sequence[Shard]) -> dict[str, dict[str, float]]:
    """Documents, bytes, ids and rows of each split, as its files tell."""
    splits = dict.fromkeys(shard.split for shard in plan)
    return {split: _counts(plan, split) for split in splits}


def _plan(documents: DatasetDict, folder: Path) -> Iterator[Shard]:
    """Cut every split into shards of about 16 MB of text, between documents."""
    for split, rows in documents.items():
        batches: Any = rows.with_format("arrow").iter(_ROWS)
        sizes = [size for batch in batches for size in _sizes(batch["text"])]
        place = np.cumsum(sizes) // SHARD_BYTES
        starts = [0, *(np.flatnonzero(np.diff(place)) + 1).tolist()]
        stops = [*starts[1:], len(sizes)]
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            name = NAME.format(split=split, i=i, n=len(starts))
            yield Shard(str(split), start, stop, folder / name)


def _sizes(texts: pa.ChunkedArray) -> list[int]:
    """Bytes of each text."""
    return pc.call_function("binary_length", [texts]).to_pylist()


def _check_plan(plan: Sequence[Shard], noted: Path, documents: DatasetDict) -> None:
    """Refuse to go on where the text is another one by now."""
    now = [[s.split, s.start, s.stop] for s in plan]
    now += [[split, rows._fingerprint] for split, rows in documents.items()]
    if noted.exists() and read_json(noted, "the list of shards") != now:
        raise ConfigError(
            "cannot resume: the text has changed since the shards that are there were written; "
            "delete the unfinished folder and start over"
        )
    artefacts.write_text(noted, json.dumps(now))


def _on_disk(documents: DatasetDict, state: Path) -> DatasetDict:
    """Rows that lie in memory go to disk, where other processes read them."""
    for split, rows in documents.items():
        if not rows.cache_files:
            rows.save_to_disk(state / "text" / str(split))
            documents[split] = Dataset.load_from_disk(str(state / "text" / str(split)))
    return documents


def _encode_all(
    shards: Sequence[Shard], documents: DatasetDict, *, job: EncodeJob, workers: int
) -> None:
    progress = Bar(total=len(shards), desc="encoding", unit="shard")
    if workers == 1 and len(shards) <= FEW_SHARDS:
        for shard in shards:
            _encode_shard(shard, documents[shard.split], job)
            progress.update()
        return
    # Of many shards also a single worker is a process: rows are mapped again for each one, so that
    # the pages of the one before are given back.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    with pool:
        jobs = [pool.submit(_encode_shard, s, documents[s.split], job) for s in shards]
        try:
            for one in jobs:
                one.result()
                progress.update()
        except BrokenProcessPool:
            raise ResourceError(
                "a worker process was killed, perhaps because memory ran out; continue with resume "
                "(--resume) and fewer workers, finished shards are kept"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """A killed parent leaves its processes waiting for work for ever, so they watch it."""

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _encode_shard(shard: Shard, documents: Dataset, job: EncodeJob) -> None:
    """Write the ids of a shard aside, then put them in place."""
    tokenizer = checkpoint.load_document_tokenizer(job.tokenizer)
    if meaning_of(tokenizer) != job.meaning:
        raise ConfigError(f"the tokenizer in {str(job.tokenizer)!r} was changed; start over")
    table: Any = documents.with_format("arrow")[shard.start : shard.stop]
    texts = [text for text in table["text"].to_pylist() if text]
    if job.context is None:
        rows = [tokenizer.encode_documents([text]) for text in texts]
        ids = np.concatenate(rows) if rows else np.zeros(0, np.int32)
        ends = np.cumsum([0, *map(len, rows)])
        size = sum(len(text.encode()) for text in texts)
    else:
        ids = tokenizer.encode_documents(texts)
        ends = np.arange(0, len(ids) + 1, job.context)
        ids = ids[: ends[-1]]
        size = len(tokenizer.decode_bytes(ids))
    column = pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(ids, pa.int32()))
    facts = json.dumps({"bytes": size, "documents": len(texts)})
    written = pa.table({"input_ids": column}).replace_schema_metadata({"attar": facts})
    with artefacts.replacing(shard.file, folder=job.state) as unfinished:
        parquet.write_table(
            written,
            unfinished,
            compression="zstd",
            row_group_size=10_000,
            write_page_checksum=True,
        )


def _counts(plan: Sequence[Shard], split: str) -> dict[str, float]:
    """Documents, bytes and ids of a split, as its files tell."""
    counts = {"documents": 0, "bytes": 0, "ids": 0, "rows": 0}
    for shard in plan:
        if shard.split == split:
            file = parquet.ParquetFile(shard.file)
            facts = json.loads((file.schema_arrow.metadata or {})[b"attar"])
            counts["documents"] += facts["documents"]
            counts["bytes"] += facts["bytes"]
            counts["rows"] += file.metadata.num_rows
            groups = range(file.metadata.num_row_groups)
            counts["ids"] += sum(file.metadata.row_group(g).column(0).num_values for g in groups)
    return counts | {"bytes_per_id": counts["bytes"] / max(1, counts["ids"])}
