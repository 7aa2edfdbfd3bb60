"""Encode a large text once: shards of ids on disk, the same whatever the number of processes."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from pyarrow import parquet
from tqdm import tqdm

from attar import artefacts
from attar.artefacts import new_file
from attar.data.data import Data
from attar.data.encoded import NAME, is_encoded, load_encoded
from attar.data.text import load_text
from attar.errors import ConfigError, DataError, ResourceError
from attar.methods.equal_info.config import PAPER
from attar.methods.equal_info.tokenizer import load_equal_info
from attar.portable.tokenization_equal_info import EqualInfoTokenizer
from attar.report.record import Run

logger = logging.getLogger(__name__)


_SHARD = 16_000_000
"""Bytes of text in a shard: what a process holds at a time, about twice over."""
_FEW = 16
"""Shards up to which a single worker is this process."""
_ROWS = 1000  # documents whose lengths are read at a time


@dataclass(frozen=True)
class Shard:
    """Documents `start` to `stop` of a split, and the file that their ids go to."""

    split: str
    start: int
    stop: int
    file: Path


def encode_corpus(
    tokenizer: str | Path,
    data: str | Path | Dataset | DatasetDict,
    *,
    output_dir: str | Path,
    context: int | None = None,
    workers: int = 1,
    data_config: str | None = None,
    text_column: str = "text",
    resume: bool = False,
) -> Run:
    """Encode the three splits of a text into Parquet files with a column `input_ids`.

    Each document's ids are followed by the end token. Text is taken as it is: what looks like a
    special token in it is text. `datasets.load_dataset(output_dir)` reads the folder, `attar
    pretrain` takes it as data, and the tokenizer lies in it.

    Args:
        tokenizer: folder of an `EqualInfoTokenizer`.
        data: whatever `attar.data.load_text` takes; a .txt file is not held in memory.
        output_dir: where the shards go.
        context: ids in a row, as a model trains on them (what does not fill a row at the end of
            a shard is left out); None: a document a row.
        workers: processes; the result does not depend on it.
        data_config: configuration of a data set on the Hub.
        text_column: column of a table that holds the text.
        resume: go on with an interrupted run; finished shards stay.

    Returns:
        The record, also written to `attar.json`: documents, bytes and ids of each split.

    Raises:
        ConfigError: the output folder is taken, or the options do not fit the tokenizer.
        DataError: the text or the tokenizer cannot be read, or the disk is full.
    """
    loaded = load_equal_info(tokenizer)
    if context is not None and context < 1:
        raise ConfigError(f"expected a context of 1 or more, found {context}")
    if loaded.codec["eos"] == "in_window" and context is None:
        raise ConfigError(
            "expected a context for a tokenizer that codes the ends of documents inside "
            "windows, as its documents do not end between ids; give --context"
        )
    if workers < 1:
        raise ConfigError(f"expected 1 worker or more, found {workers}")
    settings = {
        "tokenizer": _meaning(loaded),
        "data": Data.of(data).name,
        "data_config": data_config,
        "text_column": text_column,
        "context": context,
    }
    with artefacts.workspace(output_dir, settings=settings, resume=resume) as space:
        began = time.perf_counter()
        documents = load_text(data, config=data_config, text_column=text_column)
        plan = list(shards_of(documents, space.path))
        _check_plan(plan, space.state / "plan.json", documents)
        left = [shard for shard in plan if not shard.file.exists()]
        if len(left) < len(plan):
            logger.info("%d of %d shards are there already", len(plan) - len(left), len(plan))
        documents = _on_disk(documents, space.state) if workers > 1 else documents
        job = _Job(Path(tokenizer), _meaning(loaded), context, space.state)
        _encode_all(left, documents, job, workers)
        counts = {str(split): _counts(plan, str(split)) for split in documents}
        _require_rows(counts, context)
        run = Run(
            command="tokenizer encode",
            method="equal_info",
            paper=PAPER,
            data=settings["data"],
            settings=settings,
            quality=counts,
            details={"codec": loaded.codec, "shards": len(plan)},
            seconds=time.perf_counter() - began,
        )
        loaded.save_pretrained(space.path)
        run.save(space.path)
    return run


@dataclass(frozen=True)
class _Job:
    """What a process needs to know to encode a shard: the tokenizer's folder and what its ids mean,
    the length of rows, and a folder for files that are not complete."""

    tokenizer: Path
    meaning: str
    context: int | None
    state: Path


def _meaning(tokenizer: EqualInfoTokenizer) -> str:
    """What the ids of a text hang on, as one word."""
    facts = [tokenizer.codec, tokenizer.added_tokens_encoder, tokenizer.eos_token_id]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _on_disk(documents: DatasetDict, state: Path) -> DatasetDict:
    """Rows that lie in memory go to disk, where other processes read them."""
    for split, rows in documents.items():
        if not rows.cache_files:
            rows.save_to_disk(state / "text" / str(split))
            documents[split] = Dataset.load_from_disk(str(state / "text" / str(split)))
    return documents


def _require_rows(counts: Mapping[str, Mapping[str, float]], context: int | None) -> None:
    for split, found in counts.items():
        if not found["rows"]:
            raise DataError(
                f"expected at least one row of ids in the split {split}, found none; give more "
                f"text{f', or a context below {context}' if context else ''}"
            )


def shards_of(documents: DatasetDict, folder: Path) -> Iterator[Shard]:
    """Cut every split into shards of about 16 MB of text, between documents."""
    for split, rows in documents.items():
        batches: Any = rows.with_format("arrow").iter(_ROWS)
        sizes = [size for batch in batches for size in _sizes(batch["text"])]
        place = np.cumsum(sizes) // _SHARD
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
    if noted.exists() and json.loads(noted.read_text(encoding="utf-8")) != now:
        raise ConfigError(
            "cannot resume: the text has changed since the shards that are there were written; "
            "delete the unfinished folder and start anew"
        )
    artefacts.write_text(noted, json.dumps(now))


def _encode_all(shards: Sequence[Shard], documents: DatasetDict, job: _Job, workers: int) -> None:
    progress = tqdm(total=len(shards), desc="encoding", unit="shard", disable=None)
    began = time.perf_counter()

    def tell(done: int) -> None:
        progress.update()
        if progress.disable and (done == len(shards) or done % 10 == 0):
            seconds = time.perf_counter() - began
            logger.info("%d of %d shards, %.0f s", done, len(shards), seconds)

    if workers == 1 and len(shards) <= _FEW:
        for done, shard in enumerate(shards, start=1):
            _encode_shard(shard, documents[shard.split], job)
            tell(done)
        return
    # Of many shards also a single worker is a process: rows are mapped anew for each one, so that
    # the pages of the one before are given back.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    with pool:
        jobs = [pool.submit(_encode_shard, s, documents[s.split], job) for s in shards]
        try:
            for done, one in enumerate(jobs, start=1):
                one.result()
                tell(done)
        except BrokenProcessPool:
            raise ResourceError(
                "a process that encoded was ended from outside, perhaps for want of memory; go on "
                "with --resume and fewer --workers, finished shards stay"
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


def _encode_shard(shard: Shard, documents: Dataset, job: _Job) -> None:
    """Write the ids of a shard aside, then put them in place."""
    tokenizer = load_equal_info(job.tokenizer)
    if _meaning(tokenizer) != job.meaning:
        raise ConfigError(f"the tokenizer in {str(job.tokenizer)!r} was changed; start anew")
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
    aside = job.state / f"{shard.file.name}.{os.getpid()}"
    try:
        parquet.write_table(
            written,
            aside,
            compression="zstd",
            row_group_size=10_000,
            write_page_checksum=True,
        )
        aside.replace(shard.file)
    finally:
        with suppress(OSError):
            aside.unlink()


def _counts(plan: Sequence[Shard], split: str) -> dict[str, float]:
    """Documents, bytes and ids of a split, as its files tell."""
    found = {"documents": 0, "bytes": 0, "ids": 0, "rows": 0}
    for shard in plan:
        if shard.split == split:
            file = parquet.ParquetFile(shard.file)
            facts = json.loads((file.schema_arrow.metadata or {})[b"attar"])
            found["documents"] += facts["documents"]
            found["bytes"] += facts["bytes"]
            found["rows"] += file.metadata.num_rows
            groups = range(file.metadata.num_row_groups)
            found["ids"] += sum(file.metadata.row_group(g).column(0).num_values for g in groups)
    return found | {"bytes_per_id": found["bytes"] / max(1, found["ids"])}


def decode_corpus(folder: str | Path, *, output_file: str | Path) -> int:
    """Write the documents of an encoded corpus as .jsonl, with the columns split and text.

    Returns:
        How many there are.

    Raises:
        DataError: the folder holds no tokenizer, or not all shards, or one is damaged.
        ConfigError: its rows are blocks, or the file exists.
    """
    if not is_encoded(folder):
        raise DataError(
            f"expected a folder that attar tokenizer encode wrote, found none at {str(folder)!r}"
        )
    tokenizer = load_equal_info(folder)
    splits = load_encoded(folder)
    if Run.load(folder).settings["context"] is not None:
        raise ConfigError(
            "expected a corpus whose rows are documents, found blocks, which have lost the ends "
            "of some; encode it without --context"
        )
    count = 0
    with new_file(output_file) as out:
        for split, rows in splits.items():
            for row in rows:
                text = tokenizer.decode_documents(row["input_ids"])  # pyright: ignore[reportCallIssue,reportArgumentType]
                line = {"split": str(split), "text": "".join(text)}
                written = json.dumps(line, ensure_ascii=False) + "\n"
                out.write(written.encode("utf-8", "surrogatepass"))
                count += 1
    return count
