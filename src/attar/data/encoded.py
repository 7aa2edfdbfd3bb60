"""A text as a folder of ids: Parquet shards next to the tokenizer that gives the text back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from pyarrow import parquet

from attar import artefacts, checkpoint
from attar.data.shards import Shard, cut, facts_of, files_of, load_shards, write_shard, write_shards
from attar.data.text import SPLITS
from attar.errors import ConfigError
from attar.models import DocumentTokenizer

SHARD_BYTES = 16_000_000
"""Bytes of text in a shard: what a process holds at a time, about twice over."""
_ROWS = 1000  # documents whose lengths are read at a time


# ------------------------------------------------------------------------------------------ reading


def is_encoded(source: object) -> bool:
    """Whether this is a folder that `attar tokenizer encode` wrote."""
    if not isinstance(source, str | Path):
        return False
    folder = artefacts.expanded(source)
    return bool(files_of(folder, "train")) and (folder / "tokenizer_config.json").exists()


def load_encoded(folder: str | Path) -> DatasetDict:
    """The rows of ids in an encoded folder, by split.

    Raises:
        DataError: a split has no files, or one is missing or damaged.
    """
    return load_shards(folder, SPLITS, what="the ids", again="encode the text again")


# ------------------------------------------------------------------------------------------ writing


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
    sizes = {str(split): _sizes(rows) for split, rows in documents.items()}
    plan = cut(sizes, size=SHARD_BYTES, folder=job.folder)
    write_shards(
        plan,
        documents,
        write=partial(_encode_shard, job=job),
        state=job.state,
        workers=workers,
        desc="encoding",
        what="the text",
    )
    return plan


def count_shards(plan: Sequence[Shard]) -> dict[str, dict[str, float]]:
    """Documents, bytes, ids and rows of each split, as its files tell."""
    splits = dict.fromkeys(shard.split for shard in plan)
    return {split: _counts(plan, split) for split in splits}


def _sizes(rows: Dataset) -> NDArray[np.int64]:
    """Bytes of the text of each row."""
    batches: Any = rows.with_format("arrow").iter(_ROWS)
    sizes = [pc.call_function("binary_length", [batch["text"]]) for batch in batches]
    return np.concatenate([np.asarray(part, np.int64) for part in sizes] or [np.zeros(0, np.int64)])


def _encode_shard(shard: Shard, documents: Dataset, *, job: EncodeJob) -> None:
    """Write the ids of a shard."""
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
    facts = {"bytes": size, "documents": len(texts)}
    table = pa.table({"input_ids": column})
    write_shard(table, shard, facts=facts, state=job.state, row_group_size=10_000)


def _counts(plan: Sequence[Shard], split: str) -> dict[str, float]:
    """Documents, bytes and ids of a split, as its files tell."""
    counts = {"documents": 0, "bytes": 0, "ids": 0, "rows": 0}
    for shard in plan:
        if shard.split == split:
            facts = facts_of(shard.file)
            counts["documents"] += facts["documents"]
            counts["bytes"] += facts["bytes"]
            file = parquet.ParquetFile(shard.file)
            counts["rows"] += file.metadata.num_rows
            groups = range(file.metadata.num_row_groups)
            counts["ids"] += sum(file.metadata.row_group(g).column(0).num_values for g in groups)
    return counts | {"bytes_per_id": counts["bytes"] / max(1, counts["ids"])}
