"""Data sets of Hugging Face: a folder of Parquet files, a split for each arm.

Columns: `text`, `tokens`, `cuts`, `decided` (null: all), `arms`, and `meta`, JSON of all that is
known. `datasets.load_dataset(folder)` reads it. A sentence of several arms is in the split of each,
so that a split is what its arm has drawn; read here, it comes once.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from attar.artefacts import replacing, require_new_file
from attar.data.files import reason
from attar.data.segments.cuts import Segmented
from attar.data.segments.jsonl import from_fields, to_json
from attar.data.segments.streams import Options
from attar.errors import DataError

#: the split of sentences that belong to no arm
_NO_ARM = "train"
_ROWS = 1000
_SCHEMA = pyarrow.schema(
    [
        ("text", pyarrow.string()),
        ("tokens", pyarrow.list_(pyarrow.string())),
        ("cuts", pyarrow.list_(pyarrow.int32())),
        ("decided", pyarrow.list_(pyarrow.int32())),
        ("arms", pyarrow.list_(pyarrow.string())),
        ("meta", pyarrow.string()),
    ]
)


# ------------------------------------------------------------------------------------------ reading


def is_data_set(folder: Path) -> bool:
    """Whether a folder is one that this module or `save_to_disk` writes."""
    return _is_saved(folder) or next(folder.rglob("*.parquet"), None) is not None


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a Parquet file, of a folder of them, or of one of `save_to_disk`.

    Raises:
        DataError: it cannot be read, or has neither `text` nor `tokens`.
    """
    if path.is_dir() and _is_saved(path):
        try:
            saved = datasets.load_from_disk(str(path))
        except Exception as error:
            raise DataError(f"cannot read {path}: {reason(error)}; make it again") from error
        yield from from_dataset(saved, origin=str(path))
        return
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    splits = [file.stem.partition("-")[0] for file in files]  # test-00000-of-00002
    for file, split in zip(files, splits, strict=True):
        try:
            with parquet.ParquetFile(file) as table:
                batches = table.iter_batches(_ROWS)
                rows = (row for batch in batches for row in batch.to_pylist())
                yield from _rows(rows, split=split, splits=splits, origin=str(file))
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(
                f"cannot read {file} as Parquet: {reason(error)}; make it again"
            ) from error


def from_dataset(source: Dataset | DatasetDict, *, origin: str) -> Iterator[Segmented]:
    """The sentences of a data set in memory; `origin` is its name for messages.

    Raises:
        DataError: it has neither a column `text` nor `tokens`.
    """
    splits = source if isinstance(source, DatasetDict) else {_NO_ARM: source}
    for split, rows in splits.items():
        plain = rows.with_format(None)
        yield from _rows(plain, split=str(split), splits=[*map(str, splits)], origin=origin)


def _rows(
    rows: Iterable[Any], *, split: str, splits: Sequence[str], origin: str
) -> Iterator[Segmented]:
    """The sentences of one of the splits; those that an earlier one has, too, are left out."""
    for number, row in enumerate(rows, 1):
        first = next((name for name in _splits(row.get("arms")) if name in splits), split)
        if first != split and split in _splits(row.get("arms")):
            continue
        where = f"row {number} of split {split} of {origin}"
        # a missing text is told as such; another column without a value is as if it were not there
        fields = {name: v for name, v in row.items() if v is not None or name == "text"}
        if isinstance(given := row.get("meta"), str):
            fields["meta"] = _parse(given, where)
            fields.pop("arms", None)  # as they are in the meta
        yield from_fields(fields, where=where)


def _parse(meta: str, where: str) -> Any:
    try:
        return json.loads(meta)
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected JSON as meta of {where}, but {error}; correct it") from None


# ------------------------------------------------------------------------------------------ writing


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a folder that appears when it is complete.

    Raises:
        ConfigError: something is there already.
        DataError: a meta is no JSON, or the folder cannot be written.
    """
    require_new_file(path)
    try:
        with replacing(path) as unfinished:
            try:
                unfinished.mkdir()
                _fill(unfinished, rows, options)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
    except OSError as error:
        raise DataError(
            f"cannot write {str(path)!r}: {reason(error)}; nothing was left behind, choose another "
            "place"
        ) from error


def _fill(folder: Path, rows: Iterable[Segmented], options: Options) -> None:
    waiting: dict[str, list[dict[str, Any]]] = {}
    with ExitStack() as files:
        tables: dict[str, parquet.ParquetWriter] = {}

        def put(split: str) -> None:
            table = pyarrow.Table.from_pylist(waiting[split], schema=_SCHEMA)
            tables[split].write_table(table)
            waiting[split].clear()

        for number, row in enumerate(rows, 1):
            fields = _fields(row, where=f"sentence {number}")
            for split in _splits(fields["arms"]):
                if split not in tables:
                    writer = parquet.ParquetWriter(folder / f"{split}.parquet", _SCHEMA)
                    tables[split], waiting[split] = files.enter_context(writer), []
                waiting[split].append(fields)
                if len(waiting[split]) == _ROWS:
                    put(split)
            options.report.rows += 1
        for split in tables:
            put(split)
    card = "".join(f"  - split: {name}\n    path: {name}.parquet\n" for name in tables)
    head = f"---\nconfigs:\n- config_name: default\n  data_files:\n{card}---\n"
    (folder / "README.md").write_text(head if tables else "", encoding="utf-8")


def _fields(row: Segmented, *, where: str) -> dict[str, Any]:
    arms = row.meta.get("arms")
    return {
        "text": row.text,
        "tokens": row.tokens,
        "cuts": row.cuts,
        "decided": row.decided,
        "arms": list(map(str, arms)) if isinstance(arms, list | tuple) else [],
        "meta": to_json(dict(row.meta), where=where),
    }


def _splits(arms: Any) -> list[str]:
    """The splits of a sentence, whose names must be of letters and digits."""
    known = arms if isinstance(arms, list) else []
    names = [re.sub(r"\W", "_", str(arm), flags=re.ASCII) or _NO_ARM for arm in known]
    return list(dict.fromkeys(names)) or [_NO_ARM]
