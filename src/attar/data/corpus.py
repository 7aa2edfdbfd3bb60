"""Text as ids: encode a large text once into a folder of shards, and get it back."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from datasets import DatasetDict

from attar import checkpoint
from attar.artefacts import expanded, new_file
from attar.data.data import STDLIB, Data, DataLike
from attar.data.encoded import (
    EncodeJob,
    count_shards,
    encode_shards,
    is_encoded,
    load_encoded,
    meaning_of,
)
from attar.data.text import load_text
from attar.errors import ConfigError, DataError, require
from attar.models import DocumentTokenizer
from attar.report.artefact import artefact
from attar.report.record import FILE_NAME, Run
from attar.report.tables import Table


def encode_corpus(
    model: str | Path,
    data: DataLike = STDLIB,
    *,
    context: int | None = None,
    workers: int = 1,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Encode the three splits of a text into Parquet files with a column `input_ids`.

    Each document's ids are followed by the end token. Text is taken as it is: what looks like a
    special token in it is text. `datasets.load_dataset(output_dir)` reads the folder, `attar
    pretrain` takes it as data, and the tokenizer lies in it.

    Args:
        model: folder of a tokenizer that encodes whole documents, as `attar tokenizer train`
            makes.
        data: whatever `attar.data.load_text` takes; a .txt file is not held in memory.
        context: ids in a row, as a model trains on them (what does not fill a row at the end of
            a shard is left out); None: a document a row.
        workers: processes; the result does not depend on it.
        output_dir: where the shards go.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run; finished shards stay.

    Returns:
        The record, also written to `attar.json`: documents, bytes and ids of each split.

    Raises:
        ConfigError: the output folder is taken, or the options do not fit the tokenizer.
        DataError: the text or the tokenizer cannot be read.
        ResourceError: the disk is full, or a process was ended from outside.
    """
    tokenizer = checkpoint.load_document_tokenizer(model)
    require(context is None or context >= 1, "context", context, "1 or more")
    require(workers >= 1, "workers", workers, "1 or more")
    if tokenizer.ends_inside and context is None:
        raise ConfigError(
            "expected a context for a tokenizer that codes the ends of documents inside "
            "windows, as its documents do not end between ids; give context"
        )
    data = Data.of(data)
    settings = {
        "model": str(model),
        **data.settings(),
        "tokenizer": meaning_of(tokenizer),
        "context": context,
    }
    with artefact(
        output_dir, command="tokenizer encode", settings=settings, recipe=recipe, resume=resume
    ) as work:
        if work.main:
            assert work.state is not None
            job = EncodeJob(Path(model), meaning_of(tokenizer), context, work.folder, work.state)
            plan = encode_shards(load_text(data), job, workers=workers)
            work.run.quality = count_shards(plan)
            _require_rows(work.run.quality, context)
            work.run.details = {**tokenizer.dependencies, "shards": len(plan)}
            _credit(work.run, Path(model))
            tokenizer.save_pretrained(work.folder)
    return work.run


def decode_corpus(model: str | Path, *, output_file: str | Path | None = None) -> Run:
    """Write the documents of an encoded corpus as .jsonl, with the columns split and text.

    Args:
        model: a folder that `encode_corpus` wrote: ids, and the tokenizer that reads them.
        output_file: the .jsonl file; must not exist. None: the folder's name with .jsonl.

    Returns:
        A record, kept in memory: `details["documents"]` says how many there are.

    Raises:
        DataError: the folder holds no tokenizer, or not all shards, or one is damaged.
        ConfigError: its rows are cut to one length, or the file exists.
    """
    model = expanded(model)
    if not is_encoded(model):
        raise DataError(
            f"expected a folder that attar tokenizer encode wrote, found none at {str(model)!r}"
        )
    tokenizer = checkpoint.load_document_tokenizer(model)
    splits = load_encoded(model)
    settings = Run.load(model).settings
    if settings.get("context", settings.get("block_size")) is not None:
        raise ConfigError(
            "expected a corpus whose rows are documents, found rows of one length, which have lost "
            "the ends of some; encode it without context"
        )
    target = Path(f"{model}.jsonl") if output_file is None else expanded(output_file)
    options = {"model": str(model), "output_file": str(target)}
    with artefact(None, command="tokenizer decode", settings=options) as work:
        work.run.details["documents"] = 0
        with new_file(target) as out:
            for line in _lines(splits, tokenizer):
                out.write(line)
                work.run.details["documents"] += 1
    return work.run


def encoded_table(run: Run) -> str:
    """What `encode_corpus` counted, split by split, as a table."""
    rows = [
        [
            split,
            *(f"{counts[key]:,}" for key in ("documents", "bytes", "ids")),
            f"{counts['bytes_per_id']:.2f}",
        ]
        for split, counts in run.quality.items()
    ]
    return str(Table(["Split", "Documents", "Bytes", "Ids", "Bytes per id"], rows))


def _credit(run: Run, tokenizer: Path) -> None:
    """Name the method and the publication behind the tokenizer, where its own record does."""
    if (tokenizer / FILE_NAME).is_file():
        record = Run.load(tokenizer)
        run.method, run.paper = record.method, record.paper


def _require_rows(counts: Mapping[str, Mapping[str, float]], context: int | None) -> None:
    for split, of_split in counts.items():
        if not of_split["rows"]:
            raise DataError(
                f"expected at least one row of ids in the split {split}, found none; give more "
                f"text{f', or a context below {context}' if context else ''}"
            )


def _lines(splits: DatasetDict, tokenizer: DocumentTokenizer) -> Iterator[bytes]:
    for split, rows in splits.items():
        for row in rows:
            texts = tokenizer.decode_documents(row["input_ids"])  # pyright: ignore[reportCallIssue,reportArgumentType]
            line = json.dumps({"split": str(split), "text": "".join(texts)}, ensure_ascii=False)
            yield f"{line}\n".encode("utf-8", "surrogatepass")
