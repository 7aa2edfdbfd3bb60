"""Shards of latents: what a process writes of a data set of pictures or sound."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray

from attar import artefacts
from attar.codec.opening import load_codec, to_encode
from attar.coding.containers import Container
from attar.coding.latent_file import to_bytes
from attar.data.media.folders import Archive
from attar.data.media.rows import MediaRows
from attar.data.shards import Shard, write_shard
from attar.errors import CompatibilityError, ConfigError, DataError, did_you_mean
from attar.methods.walloc.codec import WaveletCodec

LATENTS = "latents"
"""The column of files of latents, one for each row."""
SIZE = "signal_size"
"""The column of samples along each axis of what they stand for: height and width, or length."""
NAME = "file_name"
"""The column of what the files were called."""

#: what a row counts at least, so that a shard has at most some thousand of them
_LEAST = 4096
#: of a cell
_FIELDS = [pc.StructFieldOptions(["bytes"]), pc.StructFieldOptions(["path"])]


@dataclass(frozen=True)
class CompressJob:
    """What a process needs to know to write a shard.

    Attributes:
        codec: its folder.
        fingerprint: of the codec.
        container: of the latents.
        column: of pictures or sound, by split.
        columns: that are kept, by split, with the types that they have afterwards.
        origin: what errors call the data.
        archives: where paths lie, by split.
        skip_broken: leave out rows that cannot be read, or do not suit the codec.
        state: where files lie that are not complete.
    """

    codec: Path
    fingerprint: str
    container: Container
    column: Mapping[str, str]
    columns: Mapping[str, Features]
    origin: str
    archives: Mapping[str, Archive | None]
    skip_broken: bool
    state: Path


# ------------------------------------------------------------------------------------ one shard


def compress_shard(shard: Shard, rows: Dataset, *, job: CompressJob) -> None:
    """Write the latents of a shard."""
    codec = load_codec(job.codec)
    if codec.fingerprint != job.fingerprint:
        raise CompatibilityError(f"the codec in {str(job.codec)!r} was changed; start over")
    part = rows.select(range(shard.start, shard.stop))
    media = MediaRows(rows, job.column[shard.split], job.origin, job.archives[shard.split])
    done, kept = _Done(), list[int]()
    with _one_thread(), to_encode(codec):
        for row in range(shard.start, shard.stop):
            try:
                signal = media[row]
                latents = codec.encode(signal, fingerprint=job.fingerprint)
            except DataError as error:
                if not job.skip_broken:
                    raise
                done.broken.append(str(error))
                continue
            done.files.append(to_bytes(latents, container=job.container))
            done.sizes.append(latents.size)
            done.count(codec, latents.stages, numbers=signal.values.numel())
            kept.append(row - shard.start)
    part = part.select(kept)
    others: Any = part.with_format("arrow")[:]
    columns: dict[str, Any] = {LATENTS: pa.array(done.files, pa.binary()), SIZE: done.sizes}
    features = job.columns[shard.split]
    for name in features:
        if name in others.column_names:
            columns[name] = others[name]
        elif name == NAME:
            columns[name] = _names(others[job.column[shard.split]])
    features = Features({LATENTS: Value("binary"), SIZE: List(Value("int64")), **features})
    schema = features.arrow_schema
    table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
    table = table.replace_schema_metadata(schema.metadata)
    write_shard(
        table,
        shard,
        facts=done.facts(before=int((sizes_of(replace(media, table=part)) - _LEAST).sum())),
        state=job.state,
        row_group_size=1000,
        use_dictionary=[name for name in schema.names if name != LATENTS],
    )


@dataclass
class _Done:
    """What is there of a shard, and what was counted."""

    files: list[bytes] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    numbers: int = 0
    latents: int = 0
    squares: float = 0.0

    def count(
        self, codec: WaveletCodec, stages: Sequence[NDArray[np.int16]], *, numbers: int
    ) -> None:
        """Add the latents of an item of so many numbers."""
        features = codec.dequantise(
            [torch.from_numpy(stage)[None].to(codec.device) for stage in stages]
        )
        self.numbers += numbers
        self.latents += features.numel()
        self.squares += float(features.detach().square().sum(dtype=torch.float64))

    def facts(self, *, before: int) -> dict[str, Any]:
        """All that the metadata of a shard keeps."""
        return {
            "rows": len(self.files),
            "bytes before": before,
            "bytes": sum(map(len, self.files)),
            "numbers": self.numbers,
            "latents": self.latents,
            "squares": self.squares,
            "broken": self.broken,
        }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Work in one thread: with several, the last bit of a sum may depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -------------------------------------------------------------------------------------- columns


def kept_columns(rows: MediaRows, columns: Sequence[str] | None) -> Features:
    """The columns that stay, with their types; `file_name` where there are paths.

    Raises:
        ConfigError: a column is not there, or has a name that is needed.
    """
    features = rows.table.features
    others = [name for name in features if name != rows.column]
    for name in columns or ():
        if name not in others:
            raise ConfigError(
                f"expected columns to keep of {rows.origin}, which has {', '.join(others) or 'no'} "
                f"others than {rows.column}, found {name!r}; correct columns (--columns)"
                f"{did_you_mean(name, others)}"
            )
    kept = Features({n: features[n] for n in others if columns is None or n in columns})
    if taken := [name for name in (LATENTS, SIZE) if name in kept]:
        raise ConfigError(
            f"expected no column named {taken[0]!r} in {rows.origin}, as latents need that name; "
            "rename it, or leave it out with columns (--columns)"
        )
    cell = rows.table.features.arrow_schema.field(rows.column).type
    if NAME not in features and not pa.types.is_binary(cell) and not pa.types.is_large_binary(cell):
        kept[NAME] = Value("string")
    return kept


def _cells(table: pa.Table, column: str) -> tuple[pa.Array | None, pa.Array | None]:
    """Bytes and paths of a column of pictures or sound."""
    cells = table[column].combine_chunks()
    if pa.types.is_struct(cells.type):
        raw, path = (pc.call_function("struct_field", [cells], options) for options in _FIELDS)
        return raw, path
    binary = pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type)
    return (cells, None) if binary else (None, cells)


def _names(cells: pa.ChunkedArray) -> pa.Array:
    """The last part of each path."""
    _, paths = _cells(pa.table({"cells": cells}), "cells")
    assert paths is not None
    return pa.array([path and Path(path).name for path in paths.to_pylist()], pa.string())


def sizes_of(rows: MediaRows) -> NDArray[np.int64]:
    """Bytes that each row counts in a shard."""
    whole: Any = rows.table.select_columns([rows.column]).with_format("arrow")
    sizes = list[NDArray[np.int64]]()
    for batch in whole.iter(1000):
        raw, paths = _cells(batch, rows.column)
        counted = np.zeros(len(batch), np.int64)
        if raw is not None:
            counted += np.asarray(
                pc.fill_null(pc.call_function("binary_length", [raw]), 0), np.int64
            )
        if paths is not None:
            bare = np.flatnonzero(counted == 0)
            named = paths.take(pa.array(bare)).to_pylist()
            counted[bare] = [_size_of(path, rows.archive) for path in named]
        sizes.append(counted)
    return np.concatenate([*sizes, np.zeros(0, np.int64)]) + _LEAST


def _size_of(path: str | None, archive: Archive | None) -> int:
    """Bytes of a file; 0 where there is none, which is told when it is read."""
    if path is None:
        return 0
    if archive is not None:
        return archive.places[path][1] if path in archive.places else 0
    try:
        return artefacts.expanded(path).stat().st_size
    except OSError:
        return 0
