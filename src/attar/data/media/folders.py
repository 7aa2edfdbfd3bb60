"""Folders and archives of pictures, sound or arrays, as tables of their paths."""

import logging
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
from datasets import Audio, ClassLabel, Dataset, DatasetInfo, Features, Image, Value
from datasets.table import InMemoryTable

from attar.data.files import ALIASES, LOADERS, kind, load_table, reason
from attar.data.media import audio, images, reading
from attar.data.text import SPLITS
from attar.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = {"image": images.SUFFIXES, "audio": audio.SUFFIXES, "array": reading.ARRAYS}
"""Names of the files of each kind; the column of such a folder is called like the kind."""

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_KEY = "file_name"
_CELL = {"bytes": Value("binary"), "path": Value("string")}
_CELLS = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
_FEATURES = {"image": Image(decode=False), "audio": Audio(decode=False), "array": _CELL}


@dataclass(frozen=True)
class Archive:
    """Files in a .tar file, found without reading it again."""

    path: Path
    places: Mapping[str, tuple[int, int]]
    """Offset and size of each file."""

    def read(self, member: str) -> bytes:
        """One file.

        Raises:
            DataError: the archive cannot be read, or is shorter than it was.
        """
        offset, size = self.places[member]
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                raw = file.read(size)
        except OSError as error:
            raise DataError(
                f"cannot read {self.path}: {error.strerror}; correct the path"
            ) from error
        if len(raw) < size:
            raise DataError(f"{self.path} breaks off in {member}; take another copy of the archive")
        return raw


def open_archive(path: Path) -> Archive:
    """The files in a .tar file that is not packed; hidden ones are left out.

    Raises:
        DataError: it is none, or damaged.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            places = {
                member.name.removeprefix("./"): (member.offset_data, member.size)
                for member in tar
                if member.isreg() and not member.issparse()
            }
            places = {name: place for name, place in places.items() if _is_visible(name)}
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(
            f"cannot read the archive {path}: {reason(error)}; unpack it, if it is packed, or take "
            "another copy"
        ) from error
    return Archive(path, places)


def files_below(folder: Path) -> dict[str, Path]:
    """The files in a folder and those below it, by their path in it; hidden ones are left out."""
    within = sorted((file.relative_to(folder) for file in folder.rglob("*")), key=Path.as_posix)
    visible = (file for file in within if _is_visible(file.as_posix()))
    return {file.as_posix(): folder / file for file in visible if (folder / file).is_file()}


def _is_visible(name: str) -> bool:
    return not any(part.startswith(".") for part in name.split("/"))


def media_tables(
    files: Mapping[str, str], *, origin: str, folder: Path | None = None
) -> tuple[str, dict[str, Dataset]]:
    """A table for each split of a folder or an archive, and the column of the files.

    A folder at the top that is named train, validation or test (or valid, val, dev, training) is a
    split; without such folders all files are `train`. Folders of one level within a split, two at
    least, are classes: `label`. Rows of metadata.csv, .jsonl or .parquet with the column
    `file_name` add their columns.

    Args:
        files: their paths as they are kept, by that in the folder or archive, with slashes.
        origin: for errors.
        folder: where metadata is looked for. None: nowhere.

    Returns:
        The column, `image`, `audio` or `array`, and a data set for each split with it, `file_name`
        (the path within the split), and the columns above.

    Raises:
        DataError: there are none, of two kinds, or metadata that does not fit.
    """
    found = {what: [n for n in files if _suffix(n) in ends] for what, ends in SUFFIXES.items()}
    kinds = [what for what, files in found.items() if files]
    if len(kinds) != 1:
        counts = " and ".join(f"{len(found[what]):,} of kind {what}" for what in kinds)
        raise DataError(
            f"expected pictures, sound or arrays, and one of them, in {origin}, found "
            f"{counts or 'none'}; give a folder of files such as .png, .jpg, .wav, .flac or .npy"
        )
    column = kinds[0]
    for path in chain.from_iterable((name, files[name]) for name in found[column]):
        if not path.isprintable() and any("\ud800" <= c <= "\udfff" for c in path):
            raise DataError(
                f"expected names of files in UTF-8 in {origin!a}, found {path!a}; rename the "
                "file, or set a UTF-8 locale"
            )
    splits = _by_split(found[column], origin)
    tops = {split: _classes(files) for split, files in splits.items()}
    classes = sorted({label for labels in tops.values() for label in labels or ()})
    labelled = all(labels is not None for labels in tops.values()) and len(classes) > 1
    tables = {}
    for split, names in splits.items():
        paths = [{"bytes": None, "path": files[name]} for name in names.values()]
        columns: dict[str, Any] = {column: pyarrow.array(paths, _CELLS)}
        columns[_KEY] = pyarrow.array(list(names))
        features: dict[str, Any] = {column: _FEATURES[column], _KEY: Value("string")}
        if labelled:
            labels = [classes.index(label) for label in tops[split] or ()]
            columns["label"] = pyarrow.array(labels, pyarrow.int64())
            features["label"] = ClassLabel(names=classes)
        if folder is not None and (rows := _metadata(list(names), folder, split)) is not None:
            given = rows.with_format("arrow")[:]
            more = [name for name in rows.column_names if name not in (column, _KEY)]
            columns |= {name: given[name] for name in more}
            features |= {name: rows.features[name] for name in more}
        info = DatasetInfo(features=Features(features))
        tables[split] = Dataset(InMemoryTable(pyarrow.table(columns)), info=info)
    return column, tables


def is_media(name: str) -> bool:
    """Whether the name is that of a picture, of sound or of an array."""
    return any(_suffix(name) in ends for ends in SUFFIXES.values())


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for."""
    known = ALIASES.get(name.lower(), name.lower())
    return known if known in SPLITS else None


def _by_split(names: list[str], origin: str) -> dict[str, dict[str, str]]:
    """For each split the names of its files, by their path within it."""
    splits: dict[str, dict[str, str]] = {}
    unnamed: dict[str, str] = {}
    for name in names:
        top, _, rest = name.partition("/")
        split = split_of(top) if rest else None
        if split is None:
            unnamed[name] = name
        else:
            splits.setdefault(split, {})[rest] = name
    if not splits:
        return {"train": unnamed}
    if unnamed:
        logger.warning(
            "left out %d files in %s that lie in the folder of no split", len(unnamed), origin
        )
    return {split: splits[split] for split in SPLITS if split in splits}


def _classes(files: Mapping[str, str]) -> list[str] | None:
    """The folder of each file; None unless all lie exactly one folder deep."""
    parts = [name.split("/") for name in files]
    return [part[0] for part in parts] if all(len(part) == 2 for part in parts) else None


# ------------------------------------------------------------------------------------- metadata


def _metadata(files: list[str], folder: Path, split: str) -> Dataset | None:
    """The rows of a metadata file in the folder of a split, or in that of all, one for each file.

    Raises:
        DataError: its rows are not those of the files.
    """
    own = [child for child in folder.iterdir() if child.is_dir() and split_of(child.name) == split]
    places = [place / name for place in own or [folder] for name in _METADATA]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return None
    rows = load_table(file, LOADERS[kind(file) or ""] or "")
    if _KEY not in rows.column_names:
        raise DataError(
            f"expected a column {_KEY!r} in {file}, found {', '.join(rows.column_names)}; name the "
            "file of each row there"
        )
    there = {name: row for row, name in enumerate(rows[_KEY])}
    missing = [name for name in files if name not in there]
    if missing or len(there) < len(rows):
        found = f"none for {missing[0]}" if missing else "one file twice"
        raise DataError(f"expected one row for each file in {file}, found {found}; correct it")
    return rows.select([there[name] for name in files])
