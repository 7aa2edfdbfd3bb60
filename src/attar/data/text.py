"""Text as three splits of documents.

A data set here is always a `DatasetDict` with the splits train, validation and test and one string
column, `text`, one document a row. It comes from the Hugging Face Hub, from local files, from
Python objects, or from `python-stdlib`, the sources of the running Python, which every user has.
"""

import hashlib
import logging
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import datasets.config
import numpy as np
from datasets import Dataset, DatasetDict, Features, Value
from datasets.exceptions import DatasetGenerationError

from attar.checkpoint.sources import not_on_hub
from attar.data.data import STDLIB, Data, DataLike
from attar.data.files import (
    ACCEPTED,
    ALIASES,
    LOADERS,
    group_by_split,
    is_larger,
    kind,
    load_table,
    read_text,
    reason,
    stream_rows,
)
from attar.errors import DataError, did_you_mean

logger = logging.getLogger(__name__)


SPLITS = ("train", "validation", "test")
HELD_OUT = 0.05
"""Share of the documents that a split gets when it has to be cut from the training split."""
ROW_CHARACTERS = 16_384
"""A .txt file is cut at line ends into rows of at most this many characters."""

LARGE = 64_000_000
"""A .txt file of more bytes, unpacked, is read a piece at a time, and held on disk."""

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_TEXT = Features({"text": Value("string")})
# Tests and vendored packages are not the library; generated files differ from machine to machine.
_NOT_STDLIB = re.compile(
    r"__pycache__|dist-packages|idlelib|lib2to3|site-packages|tests?"
    r"|config-\d.*|_sysconfigdata.*|_sysconfig_vars.*"
)


def load_text(data: DataLike = STDLIB) -> DatasetDict:
    """Load documents as the splits train, validation and test, each with one column `text`.

    A split that the source lacks is cut from train (5% each): a long or single .txt by position, so
    that neighbouring lines stay together, everything else by a hash of the document, so that equal
    documents stay together and another reading gives the same splits. In a folder, files named
    train*, valid*, val*, dev* or test* are those splits; without such names all files are pooled.
    Joined, the rows of a .txt give back the file.

    Args:
        data: a data set on the Hub, a file or folder (.txt, .jsonl, .parquet, .csv, .tsv, each also
            with .gz; a .txt of up to 64 MB is read into memory whole), a data set object, or
            "python-stdlib"; or `Data` with one of these and the column that holds the documents
            (not used by .txt and "python-stdlib").

    Raises:
        DataError: the source is missing, damaged, not text, or too small for three splits.
        ConfigError: a configuration of a source that is not on the Hub.
    """
    data = Data.of(data)
    source, config, origin = data.source, data.config, data.origin
    text_column = data.text_column or "text"
    path, own = data.path, source == STDLIB
    on_hub = data.is_on_hub(own=own)
    with progress_only_on_terminals():
        if own:
            parts = _stdlib()
        elif path is not None:
            parts = _from_files(path, text_column)
        else:
            loaded = from_hub(origin, config) if on_hub else source
            splits = name_splits(loaded, origin)
            tables = {name: [_text_only(d, text_column, origin)] for name, d in splits.items()}
            parts = complete(tables)
    return check_splits(parts, origin)


def stdlib_files() -> Iterator[tuple[str, str, str]]:
    """Path, split and text of the .py files of the standard library, each text once.

    The path is relative to the library, with slashes; the split depends on it alone.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    seen: set[str] = set()
    for file in sorted(root.rglob("*.py"), key=lambda file: file.relative_to(root).as_posix()):
        relative = file.relative_to(root)
        if any(map(_NOT_STDLIB.fullmatch, relative.parts)):
            continue
        try:
            text = file.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if text and text not in seen:
            seen.add(text)
            path = relative.as_posix()
            place = hash_of(path) / 2**64
            held_out = "validation" if place < 1 - HELD_OUT else "test"
            yield path, "train" if place < 1 - 2 * HELD_OUT else held_out, text


def _stdlib() -> dict[str, list[Dataset]]:
    rows: dict[str, list[str]] = {name: [] for name in SPLITS}
    for _, split, text in stdlib_files():
        rows[split].append(text)
    return {name: [_dataset(texts)] for name, texts in rows.items()}


def from_hub(name: str, config: str | None, *, accepted: str = ACCEPTED) -> DatasetDict | Dataset:
    """A data set of the Hub with all its splits and columns.

    Args:
        name: on the Hub.
        config: which of its configurations.
        accepted: what else the caller takes, for the message.

    Raises:
        DataError: `name` cannot be a name on the Hub, or loading fails.
    """
    if not _HUB_NAME.fullmatch(name) or kind(Path(name)) is not None:
        raise DataError(f"there is no file or folder {name!r}; {accepted}")
    try:
        return datasets.load_dataset(name, config)  # pyright: ignore[reportReturnType]
    except Exception as error:
        if absent := not_on_hub(error, "data set"):
            raise DataError(
                f"there is no file or folder {name!r} here, and {absent}; {accepted}"
            ) from error
        raise DataError(
            f"there is no file or folder {name!r}, and loading it as a data set of the Hub"
            f"{f' with config {config!r}' if config else ''} failed "
            f"({reason(error)}); {accepted}"
        ) from error


def name_splits(loaded: object, origin: str) -> dict[str, Dataset]:
    """Bring the split names of others to ours; a single split under any name is the pool.

    Raises:
        DataError: `loaded` is no data set in memory, a split is there under two names, or none of
            several is train.
    """
    if isinstance(loaded, Dataset):
        return {"train": loaded}
    if not isinstance(loaded, DatasetDict):
        raise DataError(
            f"expected a Dataset or DatasetDict, found {type(loaded).__name__} in {origin}; "
            "load it without streaming"
        )
    splits = {ALIASES.get(str(name), str(name)): rows for name, rows in loaded.items()}
    if len(splits) < len(loaded):
        raise DataError(
            f"expected each split once in {origin}, found {', '.join(map(str, loaded))}, of which "
            "two are one; rename or leave out one"
        )
    if len(splits) == 1:
        return {"train": next(iter(splits.values()))}
    if "train" not in splits:
        raise DataError(
            f"expected a split named train in {origin}, found {', '.join(splits) or 'none'}; "
            "rename one, or give a single split"
        )
    return {name: splits[name] for name in SPLITS if name in splits}


def _text_only(dataset: Dataset, column: str, origin: str) -> Dataset:
    """The documents as the only column, `text`, without nulls."""
    if column not in dataset.column_names:
        if "input_ids" in dataset.column_names:
            raise DataError(
                f"expected text in {origin}, found ids; give the text that they were made from"
            )
        columns = dataset.column_names
        raise DataError(
            f"expected a text column {column!r} in {origin}, found the columns "
            f"{', '.join(columns) or 'none'}; name the right one with text_column "
            f"(--text-column){did_you_mean(column, columns)}"
        )
    feature = dataset.features[column]
    if not (isinstance(feature, Value) and feature.dtype in ("string", "large_string")):
        dtype = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        raise DataError(
            f"expected text in column {column!r} of {origin}, found {dtype}; "
            "name a column of strings"
        )
    dataset = dataset.select_columns([column]).with_format(None)
    dataset = dataset if column == "text" else dataset.rename_column(column, "text")
    if dataset.data.column("text").null_count:
        whole = len(dataset)
        dataset = dataset.filter(lambda text: text is not None, input_columns="text")
        logger.warning("left out %d rows of %s without text", whole - len(dataset), origin)
    return dataset if dataset.features == _TEXT else dataset.cast(_TEXT)


def check_splits(parts: dict[str, list[Dataset]], origin: str) -> DatasetDict:
    """The tables of each split put together.

    Raises:
        DataError: one has no row.
    """
    tables = {name: [d for d in parts.get(name, []) if len(d)] for name in SPLITS}
    if empty := [name for name, found in tables.items() if not found]:
        counts = ", ".join(f"{name} {sum(map(len, tables[name]))}" for name in SPLITS)
        raise DataError(
            f"expected documents for train, validation and test in {origin}, found too few for "
            f"{' and '.join(empty)} (documents: {counts}); give more text"
        )
    return DatasetDict({name: datasets.concatenate_datasets(d) for name, d in tables.items()})


def _from_files(path: Path, column: str) -> dict[str, list[Dataset]]:
    groups = group_by_split(path)
    missing = [name for name in SPLITS if name not in groups]
    parts: dict[str, list[Dataset]] = {}
    by_position: dict[str, list[Dataset]] = {name: [] for name in SPLITS}
    for split, files in groups.items():
        texts: list[str] = []
        tables: list[Dataset] = []
        for file in files:
            if loader := LOADERS[kind(file) or ""]:
                tables.append(_text_only(load_table(file, loader), column, str(file)))
                continue
            if is_larger(file, LARGE):
                if split != "train":
                    tables.append(_streamed(file))
                    continue
                for name, rows in _cut_rows(_streamed(file), missing).items():
                    by_position[name].append(rows)
                continue
            text = read_text(file)
            long = len(files) == 1 or len(text) > ROW_CHARACTERS
            if split == "train" and missing and long:
                for name, part in _cut_by_position(text, missing).items():
                    by_position[name].append(_dataset(_rows(part)))
            else:
                texts.extend(_rows(text))
        parts[split] = [_dataset(texts), *tables]
    parts = complete(parts)
    return {name: [*by_position[name], *parts.get(name, [])] for name in SPLITS}


def _streamed(file: Path) -> Dataset:
    """The rows of a large .txt file, which go to the disk cache and not into memory."""
    stat = file.stat()
    facts = {"file": str(file.resolve()), "size": stat.st_size, "time": stat.st_mtime_ns}
    try:
        rows = Dataset.from_generator(_generate_rows, gen_kwargs=facts, features=_TEXT)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise DataError(f"cannot read {file}: {reason(error)}; make room in HF_HOME") from error
    assert isinstance(rows, Dataset)  # not streamed
    return rows


def _generate_rows(file: str, size: int, time: int) -> Iterator[dict[str, str]]:
    """What `datasets` caches under the file's name, size and time."""
    yield from ({"text": row} for row in stream_rows(Path(file), characters=ROW_CHARACTERS))


def _cut_rows(rows: Dataset, missing: Sequence[str]) -> dict[str, Dataset]:
    """Cut the last rows off, 5% a split."""
    bounds = [len(rows) - round(HELD_OUT * len(rows)) * i for i in range(len(missing), -1, -1)]
    parts = {"train": rows.select(range(bounds[0]))}
    for name, start, stop in zip(missing, bounds, bounds[1:], strict=False):
        parts[name] = rows.select(range(start, stop))
    return parts


# ---------------------------------------------------------------------------------------- cutting


def complete(parts: dict[str, list[Dataset]]) -> dict[str, list[Dataset]]:
    """Draw missing splits from train by a hash of the column `text`: order does not matter, nor
    doubles."""
    missing = [name for name in SPLITS if name not in parts]
    if not missing:
        return parts
    pool = datasets.concatenate_datasets(parts["train"])
    keys = np.asarray([hash_of(text) for text in pool["text"]], dtype=np.uint64)
    distinct = np.unique(keys)
    if len(distinct) <= len(missing):
        return parts
    size = max(1, round(HELD_OUT * len(distinct)))
    place = np.searchsorted(distinct, keys) // size
    drawn = {name: [pool.select(np.flatnonzero(place == i))] for i, name in enumerate(missing)}
    return parts | {"train": [pool.select(np.flatnonzero(place >= len(missing)))]} | drawn


def _cut_by_position(text: str, missing: Sequence[str]) -> dict[str, str]:
    """Cut off the tail of a text, 5% a split, at line ends where there are any."""
    parts, start = {}, 0
    for i, name in enumerate(("train", *missing)):
        end = int(len(text) * (1 - HELD_OUT * (len(missing) - i)))
        if i < len(missing):
            end = text.rfind("\n", start, end) + 1 or end
        parts[name], start = text[start:end], end
    return parts


def _rows(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + ROW_CHARACTERS
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        yield text[start:end]
        start = end


def _dataset(texts: Iterable[str]) -> Dataset:
    return Dataset.from_dict({"text": list(texts)}, features=_TEXT)


def hash_of(text: str) -> int:
    """64 bits that are the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


@contextmanager
def progress_only_on_terminals() -> Iterator[None]:
    """Keep the bars of `datasets` out of log files, where they would be drawn too."""
    hide = not sys.stderr.isatty() and not datasets.are_progress_bars_disabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()
