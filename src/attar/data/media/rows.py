"""Data sets of pictures, sound or arrays, whose items are decoded when they are asked for."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    DatasetInfo,
    Features,
    Image,
    Value,
    concatenate_datasets,
)
from datasets.table import InMemoryTable

from attar.artefacts import expanded
from attar.data.data import Data, DataLike
from attar.data.files import ALIASES, LOADERS, group_by_split, kind, load_table
from attar.data.media.folders import (
    Archive,
    files_below,
    is_media,
    media_tables,
    open_archive,
)
from attar.data.media.reading import read_signal
from attar.data.media.signals import Signal
from attar.data.pictures import COUNTS, DEMO, demo_pictures
from attar.data.text import from_hub, progress_only_on_terminals
from attar.errors import ConfigError, DataError, did_you_mean, require

ACCEPTED = (
    "give a picture, a recording, a .npy file, a folder or a .tar of them, a Parquet file, a Hub "
    "name, or demo"
)


@dataclass(frozen=True, eq=False)
class MediaRows:
    """Rows of which one column holds pictures, sound or arrays: `rows[i]` decodes that of one row.

    Attributes:
        table: all columns; those of pictures and sound hold `{"bytes", "path"}`.
        column: that is decoded.
        origin: what errors call the data.
        archive: where the paths lie; None: on disk.
    """

    table: Dataset
    column: str
    origin: str
    archive: Archive | None = None

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.table)

    def __getitem__(self, index: int) -> Signal:
        """The signal of a row.

        Raises:
            IndexError: there is no such row.
            DataError: it cannot be read; names it.
        """
        source, name = self._item(index)
        return read_signal(source, name=name)

    def __iter__(self) -> Iterator[Signal]:
        return (self[index] for index in range(len(self)))

    def source(self, index: int) -> bytes | Path:
        """The file of a row as it is: its bytes, or its path."""
        return self._item(index)[0]

    def select(self, indices: Sequence[int]) -> "MediaRows":
        """Some of the rows, in this order."""
        return replace(self, table=self.table.select(indices))

    @property
    def names(self) -> list[str]:
        """A name for each row, all different: the path in the folder, the name of the file, or the
        number of the row."""
        if "file_name" in self.table.column_names:
            names = [str(name) for name in self.table["file_name"]]
        else:
            names = [Path(path or "").name for path in self._paths()]
        counts = Counter(names)
        return [
            name if name and counts[name] == 1 else f"{row:06}-{name}".removesuffix("-")
            for row, name in enumerate(names)
        ]

    def _paths(self) -> list[str | None]:
        """The path of each row, without reading the bytes beside it."""
        cells = self.table.select_columns([self.column]).with_format("arrow")[:][self.column]
        if pyarrow.types.is_struct(cells.type):
            return [path for part in cells.chunks for path in part.field("path").to_pylist()]
        text = pyarrow.types.is_string(cells.type) or pyarrow.types.is_large_string(cells.type)
        return cells.to_pylist() if text else [None] * len(cells)

    def _item(self, index: int) -> tuple[bytes | Path, str]:
        """Bytes or path of a row, and what errors call it."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        cell: Any = self.table[index][self.column]
        if isinstance(cell, dict):
            raw, path = cell["bytes"], cell["path"]
        else:
            raw, path = (cell, None) if isinstance(cell, bytes) else (None, cell)
        row = f"row {index} of {self.origin}"
        if raw is not None:
            return raw, f"{row} ({path})" if path else row
        if path is None:
            raise DataError(
                f"expected a file in column {self.column!r} of {row}, found nothing; leave the "
                "row out"
            )
        if self.archive is not None:
            return self.archive.read(path), f"{path} in {self.archive.path}"
        return expanded(path), path


def open_media(
    data: DataLike, *, split: str | None = None, max_items: int | None = None
) -> MediaRows:
    """One split of pictures, sound or arrays.

    Args:
        data: see `open_splits`.
        split: its name. None: `train`, or the only one.
        max_items: the first of its rows. None: all.

    Raises:
        ConfigError: there is no such split, or `max_items` is not positive.
        DataError: as `open_splits`.
    """
    require(max_items is None or max_items > 0, "max_items", max_items, "at least 1")
    splits = open_splits(data)
    if split is None:
        split = "train" if "train" in splits or len(splits) != 1 else next(iter(splits))
    if split not in splits:
        raise ConfigError(
            f"expected a split of {Data.of(data).origin}, which has {', '.join(splits)}, found "
            f"{split!r}; name one of these{did_you_mean(split, splits)}"
        )
    rows = splits[split]
    return rows if max_items is None else rows.select(range(min(max_items, len(rows))))


def open_splits(data: DataLike) -> dict[str, MediaRows]:
    """All splits of pictures, sound or arrays, none of which is decoded yet.

    Args:
        data: a picture, a recording or a .npy file; a folder or an unpacked .tar of them, see
            `media_tables`; a Parquet file, or a folder of them; a data set on the Hub; a data set
            object; or `demo`, see `attar.data.pictures`. `Data.media_column` says which column
            of the last four is meant, where several have pictures or sound.

    Returns:
        The rows of each split; `train` alone where the source knows of no splits.

    Raises:
        DataError: there is no such source, it is of another kind or has no rows, or no column
            tells that it is meant.
        ConfigError: a configuration of a source that is not on the Hub.
        MissingExtraError: of `demo`, a package is not installed.
    """
    data = Data.of(data)
    own, path = data.source == DEMO, data.path
    on_hub = data.is_on_hub(own=own)
    if own:
        rows = {split: MediaRows(_demo(split), "image", DEMO) for split in COUNTS}
    elif path is not None and not _holds_tables(path):
        with progress_only_on_terminals():  # metadata is a table
            rows = _from_files(path)
    else:
        with progress_only_on_terminals():
            splits = _tables(path) if path is not None else data.source
            if on_hub:
                splits = from_hub(data.origin, data.config, accepted=ACCEPTED)
        rows = _from_tables(splits, data)
    if empty := [split for split, found in rows.items() if not len(found)]:
        raise DataError(f"expected rows in {data.origin}, found none in {', '.join(empty)}")
    return rows


def _demo(split: Any) -> Dataset:
    """The pictures of `demo` as PNG, with their subject as a class."""
    names, cells, labels = list(COUNTS["train"]), [], []
    for number, (subject, image) in enumerate(demo_pictures(split)):
        out = io.BytesIO()
        image.save(out, format="PNG", compress_level=1)
        cells.append({"bytes": out.getvalue(), "path": f"{split}-{number:02}-{subject}.png"})
        labels.append(names.index(subject))
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=names)})
    table = pyarrow.table({"image": cells, "label": labels}, schema=features.arrow_schema)
    return Dataset(InMemoryTable(table), info=DatasetInfo(features=features))


def _holds_tables(path: Path) -> bool:
    """Whether a file is a table, or a folder has Parquet files and nothing to decode."""
    if not path.is_dir():
        return kind(path) is not None
    files = files_below(path)
    return not any(map(is_media, files)) and any(
        kind(file) == ".parquet" for file in files.values()
    )


def _from_files(path: Path) -> dict[str, MediaRows]:
    """A folder, an archive or a single file.

    Raises:
        DataError: it is none, or holds none.
    """
    archive, folder = None, None
    if path.is_dir():
        folder, files = path, {name: str(file) for name, file in files_below(path).items()}
    elif path.suffix.lower() == ".tar":
        archive = open_archive(path)
        files = {name: name for name in sorted(archive.places)}
    elif path.is_file() and is_media(path.name):
        files = {path.name: str(path)}
    else:
        raise DataError(f"expected a file of a known kind, found {path}; {ACCEPTED}")
    column, tables = media_tables(files, origin=str(path), folder=folder)
    return {split: MediaRows(table, column, str(path), archive) for split, table in tables.items()}


def _tables(path: Path) -> DatasetDict:
    """The Parquet files of each split.

    Raises:
        DataError: the file is another table.
    """
    splits = DatasetDict()
    for split, files in group_by_split(path).items():
        for file in files:
            if kind(file) != ".parquet":
                raise DataError(f"expected pictures or sound, found the table {file}; {ACCEPTED}")
        tables = [load_table(file, LOADERS[".parquet"] or "") for file in files]
        splits[split] = concatenate_datasets(tables)
    return splits


def _from_tables(splits: Any, data: Data) -> dict[str, MediaRows]:
    """Rows of data sets in memory or on disk.

    Raises:
        DataError: it is streamed, or no column is the one that is meant.
    """
    if isinstance(splits, Dataset):
        splits = {"train": splits}
    if not isinstance(splits, dict) or not all(isinstance(t, Dataset) for t in splits.values()):
        raise DataError(
            f"expected a Dataset or DatasetDict, found {type(splits).__name__} in {data.origin}; "
            "load it without streaming"
        )
    rows = {}
    for split, table in splits.items():
        column = _column(table, data)
        table = table.with_format(None)
        for name, feature in table.features.items():
            if isinstance(feature, Image | Audio) and feature.decode:
                table = table.cast_column(name, replace(feature, decode=False))
        rows[ALIASES.get(str(split), str(split))] = MediaRows(table, column, data.origin)
    if len(rows) < len(splits):
        raise DataError(
            f"expected each split once in {data.origin}, found {', '.join(map(str, splits))}, of "
            "which two are one; rename or leave out one"
        )
    return rows


def _column(table: Dataset, data: Data) -> str:
    """The column of pictures or sound.

    Raises:
        DataError: there is none, several, or not the one that is named.
    """
    features = table.features
    fitting = [name for name, kind in features.items() if isinstance(kind, Image | Audio)]
    named = data.media_column
    if named is None and len(fitting) == 1:
        return fitting[0]
    if named is None:
        found = f"several: {', '.join(fitting)}" if fitting else "none"
        raise DataError(
            f"expected one column of pictures or sound in {data.origin}, found {found} (columns: "
            f"{', '.join(features)}); name it with media_column (--media-column)"
        )
    if named not in features:
        raise DataError(
            f"expected a column {named!r} in {data.origin}, found the columns "
            f"{', '.join(features)}; name the right one with media_column (--media-column)"
            f"{did_you_mean(named, features)}"
        )
    if named not in fitting and not _holds_files(features[named]):
        raise DataError(
            f"expected pictures or sound in column {named!r} of {data.origin}, found "
            f"{features[named]}; name a column of pictures, sound, paths or bytes"
        )
    return named


def _holds_files(feature: Any) -> bool:
    """Whether a column without the type of pictures or sound may hold them all the same."""
    if isinstance(feature, dict):
        return {"bytes", "path"} <= set(feature)
    text_or_bytes = ("string", "large_string", "binary", "large_binary")
    return isinstance(feature, Value) and feature.dtype in text_or_bytes
