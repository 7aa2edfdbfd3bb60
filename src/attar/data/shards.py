"""A data set as a folder of Parquet shards, which several processes write.

A shard is written aside and then put in place, so that what is there is complete; which rows go
into which shard depends on the data alone.
"""

import glob
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Literal, get_args

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict
from datasets.table import InMemoryTable
from numpy.typing import NDArray
from pyarrow import parquet

from attar import artefacts
from attar.data.cluster import on_ray
from attar.data.text import progress_only_on_terminals
from attar.errors import ConfigError, DataError, ResourceError, require
from attar.foreign import read_json
from attar.runtime import Bar

logger = logging.getLogger(__name__)

NAME = "{split}-{i:05d}-of-{n:05d}.parquet"
"""The files of a split."""
FEW_SHARDS = 16
"""Shards up to which a single worker is this process."""

#: in the metadata of a shard: what was counted while it was written
_FACTS = b"attar"


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of a split, and the file that they go to."""

    split: str
    start: int
    stop: int
    file: Path


Engine = Literal["processes", "ray"]
"""What writes shards: processes of this machine, or a cluster of Ray's."""

Write = Callable[[Shard, Dataset], None]
"""Writes a shard of the rows of its split, with `write_shard`."""


# ------------------------------------------------------------------------------------------ reading


def files_of(folder: str | Path, split: str) -> list[Path]:
    """The files of a split, in order."""
    return sorted(artefacts.expanded(folder).glob(f"{split}-*-of-*.parquet"))


def load_shards(
    folder: str | Path, splits: Sequence[str], *, what: str, again: str, unchecked: str = ""
) -> DatasetDict:
    """The rows of a folder of shards, by split.

    Args:
        folder: the folder.
        splits: which of them.
        what: is in it, for errors.
        again: what to do where a file is missing or damaged, for errors.
        unchecked: a column whose cells have checksums of their own.

    Raises:
        DataError: a split has no files, or one is missing or damaged.
    """
    loaded = DatasetDict()
    for split in splits:
        files = files_of(folder, split)
        whole = int(files[0].stem.rpartition("-")[2]) if files else 0
        if not files or len(files) != whole:
            raise DataError(
                f"expected {whole or 'some'} files of the split {split} in {str(folder)!r}, found "
                f"{len(files)}; {again}"
            )
        try:
            for file in files:
                _check(file, unchecked)
            with progress_only_on_terminals():
                names = [glob.escape(str(file)) for file in files]  # `datasets` takes patterns
                rows = datasets.load_dataset("parquet", data_files=names, split="train")
        except Exception as error:
            raise DataError(
                f"cannot read {what} in {str(folder)!r}, a file may be damaged "
                f"({' '.join(str(error).split())[:200]}); {again}"
            ) from error
        assert isinstance(rows, Dataset)  # one split, not streamed
        loaded[split] = rows
    return loaded


def _check(file: Path, unchecked: str) -> None:
    """Compare a file with the checksums in it, which `datasets` does not."""
    with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
        columns = [name for name in opened.schema_arrow.names if name != unchecked]
        for _ in opened.iter_batches(columns=columns) if columns else ():
            pass


def facts_of(file: Path) -> dict[str, Any]:
    """What was counted while a shard was written."""
    with parquet.ParquetFile(file) as opened:
        return json.loads((opened.schema_arrow.metadata or {})[_FACTS])


# ------------------------------------------------------------------------------------------ writing


def cut(sizes: Mapping[str, NDArray[np.integer]], *, size: int, folder: Path) -> list[Shard]:
    """Cut every split into shards of about `size` bytes, between rows.

    Args:
        sizes: of each row, by split.
        size: of a shard.
        folder: of the files.
    """
    plan = list[Shard]()
    for split, of_rows in sizes.items():
        place = np.cumsum(of_rows) // size
        starts = [0, *(np.flatnonzero(np.diff(place)) + 1).tolist()]
        stops = [*starts[1:], len(of_rows)]
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            name = NAME.format(split=split, i=i, n=len(starts))
            plan.append(Shard(str(split), start, stop, folder / name))
    return plan


def write_shards(
    plan: Sequence[Shard],
    splits: DatasetDict,
    *,
    write: Write,
    state: Path,
    workers: int,
    desc: str,
    what: str,
    engine: Engine = "processes",
) -> None:
    """Write all shards that are not there yet; the result depends neither on `workers` nor on the
    engine.

    Args:
        plan: all shards.
        splits: the rows.
        write: of a module, for other processes.
        state: where the plan is noted.
        workers: processes, or shards that are written at a time by Ray.
        desc: what is done, for the progress.
        what: the rows are, for errors.
        engine: what runs the work; Ray's machines must see the files under the same paths.

    Raises:
        ConfigError: the rows have changed since other shards were written.
        MissingExtraError: of Ray, it is not installed.
        ResourceError: a process was ended from outside.
    """
    require(engine in get_args(Engine), "engine", engine, " or ".join(get_args(Engine)))
    left = left_of(plan, splits, state=state, what=what)
    splits = on_disk(splits, state) if workers > 1 or engine == "ray" else splits
    progress = Bar(total=len(left), desc=desc, unit="shard")
    if engine == "ray":
        tables = {str(split): rows for split, rows in splits.items()}

        def task(number: int) -> None:
            write(left[number], tables[left[number].split])

        for _ in on_ray(task, count=len(left), workers=workers):
            progress.update()
        return
    if workers == 1 and len(left) <= FEW_SHARDS:
        for shard in left:
            write(shard, splits[shard.split])
            progress.update()
        return
    # Of many shards also a single worker is a process: rows are mapped again for each one, so that
    # the pages of the one before are given back.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    with pool:
        jobs = [pool.submit(write, shard, splits[shard.split]) for shard in left]
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


def left_of(plan: Sequence[Shard], splits: DatasetDict, *, state: Path, what: str) -> list[Shard]:
    """The shards that are not written yet.

    Raises:
        ConfigError: the rows have changed since other shards were written.
    """
    now = [[s.split, s.start, s.stop] for s in plan]
    now += [[split, rows._fingerprint] for split, rows in splits.items()]
    noted = state / "plan.json"
    if noted.exists() and read_json(noted, "the list of shards") != now:
        raise ConfigError(
            f"cannot resume: {what} has changed since the shards that are there were written; "
            "delete the unfinished folder and start over"
        )
    artefacts.write_text(noted, json.dumps(now))
    left = [shard for shard in plan if not shard.file.exists()]
    if len(left) < len(plan):
        logger.info("%d of %d shards are already written", len(plan) - len(left), len(plan))
    return left


def on_disk(splits: DatasetDict, state: Path) -> DatasetDict:
    """The rows, where other processes read them: those that lie in memory go to disk.

    Pictures and sound do so as they are in the table, as paths or bytes: files that paths name are
    not copied.
    """
    there = DatasetDict(splits)
    for split, rows in splits.items():
        if not rows.cache_files:
            place = state.absolute() / "rows" / str(split)
            table: Any = rows.with_format("arrow")[:]
            plain = Dataset(InMemoryTable(table.replace_schema_metadata(None)))
            with progress_only_on_terminals():
                plain.save_to_disk(place)
            there[split] = Dataset.load_from_disk(str(place))
    return there


def write_shard(
    table: pa.Table, shard: Shard, *, facts: Mapping[str, Any], state: Path, **options: Any
) -> None:
    """Write a shard aside, then put it in place.

    Args:
        table: its rows, with the metadata that they are to have.
        shard: whose they are.
        facts: what `facts_of` gives.
        state: where the unfinished file lies.
        options: of `pyarrow.parquet.write_table`.
    """
    kept = {**(table.schema.metadata or {}), _FACTS: json.dumps(facts).encode()}
    with artefacts.replacing(shard.file, folder=state) as unfinished:
        parquet.write_table(
            table.replace_schema_metadata(kept),
            unfinished,
            compression="zstd",
            write_page_checksum=True,
            **options,
        )


def _end_with_parent() -> None:
    """A killed parent leaves its processes waiting for work for ever, so they watch it."""

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
