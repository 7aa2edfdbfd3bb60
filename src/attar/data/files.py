"""Local files: those in a folder, the split that each belongs to, and what is in one."""

import codecs
import csv
import glob
import gzip
import io
import json
import logging
import re
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import datasets.config
import pyarrow
from datasets import Dataset
from datasets.table import InMemoryTable
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from attar.artefacts import disk_is_full
from attar.errors import ConfigError, DataError, ResourceError
from attar.foreign import JSON_BYTES, read_json

logger = logging.getLogger(__name__)


LOADERS = {
    ".txt": None,
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
}
"""The loader of `datasets` for each kind of table; .txt files are read here, to the letter. A .json
file is a list of rows, or JSON lines."""
ALIASES = {"training": "train", "valid": "validation", "val": "validation", "dev": "validation"}
ACCEPTED = (
    "give a Hub name, a file (.txt, .json, .jsonl, .parquet, .csv or .tsv, also .gz), a folder of "
    "them, or python-stdlib"
)

PIECE = 2**22
"""Bytes of a text file that are read at a time. No row depends on it."""

#: a packed file that unpacks to more than so many bytes, and times its own size, is no text
_BOMB, _RATIO = 2**27, 50
#: brackets of a row of JSON that make it worth while to look how deep they go
_BRACKETS = 500

#: how pandas begins to say that it leaves out cells without a column
_LONGER = "Length of header"
#: what `datasets` says of a table that is a header alone
_NO_ROWS = "corresponds to no data"
_SPLIT_STEM = re.compile(r"(train|valid|val|dev|test)(ing|ation)?(?![a-z])", re.IGNORECASE)


def group_by_split(path: Path) -> dict[str, list[Path]]:
    """The files of each split, sorted by path.

    Raises:
        DataError: a file of unknown kind, a pipe, or a folder without text to train on.
    """
    if path.is_file():
        if kind(path) is None:
            raise DataError(f"expected a file of a known kind, found {path}; {ACCEPTED}")
        return {"train": [path]}
    if not path.is_dir():
        raise DataError(
            f"expected a file or folder, found {path}, which can be read only once; write what it "
            "gives to a file"
        )
    within = sorted((f.relative_to(path) for f in path.rglob("*")), key=Path.as_posix)
    # a .json file among others is rather a description of them
    kinds = {f: kind(f) for f in within if not any(p.startswith(".") for p in f.parts)}
    files = [f for f, found in kinds.items() if found not in (None, ".json")]
    groups: dict[str, list[Path]] = {}
    for file in files:
        match = _SPLIT_STEM.match(file.name)
        name = match[1].lower() if match else ""
        if (path / file).is_file():
            groups.setdefault(ALIASES.get(name, name), []).append(path / file)
    unnamed = groups.pop("", [])
    if "train" in groups:
        if unnamed:
            logger.warning(
                "left out %d files in %s whose names are those of no split", len(unnamed), path
            )
    elif unnamed:
        groups["train"] = unnamed
    elif len(groups) == 1:
        groups = {"train": next(iter(groups.values()))}
    else:
        contents = f"only {' and '.join(groups)} files" if groups else "no file of a known kind"
        remedy = "add a file named train, or give one file" if groups else ACCEPTED
        raise DataError(f"expected text to train on in folder {path}, found {contents}; {remedy}")
    return groups


def kind(path: Path) -> str | None:
    """The suffix that says how to read a file, without .gz; None for a kind that is not read."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in LOADERS if name.endswith(suffix)), None)


def cache_folder() -> Path:
    """Where `datasets` keeps what it has read.

    Raises:
        ConfigError: nothing can be written there.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(
            f"cannot write to the cache of data sets, {str(folder)!r}: {error.strerror}; set "
            "HF_HOME to a folder that you may write to"
        ) from None


def read_text(file: Path) -> str:
    """The file as it is, line ends and byte order mark included.

    Raises:
        DataError: it is empty, cannot be read, or is not UTF-8.
    """
    raw = b"".join(_pieces(file))
    if not raw:
        raise DataError(f"expected text in {file}, found an empty file; give a file with text")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8 text in {file}, found byte 0x{raw[error.start]:02x} at offset "
            f"{error.start}; convert the file to UTF-8"
        ) from error


def stream_rows(file: Path, *, characters: int) -> Iterator[str]:
    """The rows of a text file, cut at line ends, of at most so many characters; the file is read a
    piece at a time.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    held, offset = "", 0
    try:
        for piece in _pieces(file):
            held += decoder.decode(piece)
            offset += len(piece)
            start = 0
            while len(held) - start > characters:
                end = held.rfind("\n", start, start + characters) + 1 or start + characters
                yield held[start:end]
                start = end
            held = held[start:]
        held += decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8 text in {file}, found byte 0x{error.object[error.start]:02x} after "
            f"about {offset} bytes; convert the file to UTF-8"
        ) from error
    if held:
        yield held


def is_larger(file: Path, size: int) -> bool:
    """Whether a file has more bytes than this, as they are after unpacking.

    Raises:
        DataError: it is packed, and damaged.
    """
    if not _is_gzip(file):
        return file.stat().st_size > size
    seen = 0
    return any((seen := seen + len(piece)) > size for piece in _pieces(file))


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """A file to read, unpacked on the way.

    Raises:
        DataError: it cannot be read, now or later.
    """
    try:
        with gzip.open(file) if _is_gzip(file) else file.open("rb") as source:
            yield source  # pyright: ignore[reportReturnType]
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot read {file}: {reason(error)}; correct the file or leave it out"
        ) from error


def _pieces(file: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked."""
    with opened(file) as source:
        while piece := source.read(PIECE):
            require_honest(file, source)
            yield piece


def require_honest(file: Path, source: BinaryIO) -> None:
    """Refuse a small file that never ends unpacking."""
    if not isinstance(source, gzip.GzipFile):
        return
    beneath: Any = source.fileobj
    size, packed = source.tell(), beneath.tell()
    if size > max(_BOMB, _RATIO * packed):
        raise DataError(
            f"expected text in {file}, found over {size // 10**6:,} MB in its first {packed:,} "
            f"bytes, more than {_RATIO} times as much: no text packs like that; unpack it "
            "yourself if it is meant"
        )


def _check_table(file: Path, loader: str) -> None:
    """Refuse what the libraries that read a table would die of.

    Raises:
        DataError: it never ends unpacking, or a row is too long or nested too deeply.
    """
    if file.suffix.lower() == ".json" and not _has_rows(file):
        read_json(file, "the table")
    elif loader == "json":
        with opened(file) as source:
            rows = iter(lambda: source.readline(JSON_BYTES + 1), b"")
            for number, row in enumerate(rows, 1):
                require_honest(file, source)
                _check_row(row, f"line {number} of {file}")
    elif _is_gzip(file):
        for _ in _pieces(file):
            pass


def _broken_line(file: Path) -> str:
    """Which line of JSON lines is none, or that there are only blank ones; empty where all are."""
    blank = True
    with opened(file) as source:
        for number, row in enumerate(source, 1):
            blank = blank and not row.strip()
            try:
                json.loads(row if row.strip() else b"{}")
            except (ValueError, RecursionError) as error:
                return f"line {number} is not JSON ({error})"
    return "it has only blank lines" if blank else ""


def _has_rows(file: Path) -> bool:
    """Whether a JSON file has an object in its first line, as one of JSON lines has."""
    with opened(file) as source:
        first = source.readline(JSON_BYTES)
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _check_row(row: bytes, place: str) -> None:
    found = f"more than {JSON_BYTES:,} bytes" if len(row) > JSON_BYTES else ""
    if row.startswith(codecs.BOM_UTF8):
        found = "a byte order mark before it"
    elif row.lstrip().startswith(b"null"):
        found = "null"
    if not found:
        _require_utf8(row, place)
    if not found and row.count(b"[") + row.count(b"{") > _BRACKETS:
        try:
            json.loads(row)
        except ValueError:  # the loader says it better
            return
        except RecursionError:
            found = "one that is nested too deeply"
    if found:
        raise DataError(f"expected a JSON object in {place}, found {found}; leave it out")


def _require_utf8(row: bytes, place: str) -> None:
    """Refuse what fails only where a row is used."""
    try:
        row.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8 text in {place}, found byte 0x{row[error.start]:02x}; convert the "
            "file to UTF-8"
        ) from None


def load_table(file: Path, loader: str) -> Dataset:
    """All columns of one file, cached by `datasets`.

    Args:
        file: one of `LOADERS` that is a table, with or without .gz.
        loader: json, parquet or csv.

    Raises:
        DataError: it is empty, or cannot be read.
    """
    if file.stat().st_size == 0:
        raise DataError(f"expected documents in {file}, found an empty file; give a file with text")
    cache_folder()
    _check_table(file, loader)
    level = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the error below says it all
    try:
        if loader == "parquet" and _is_gzip(file):  # the one pair that `datasets` does not unpack
            table = parquet.read_table(io.BytesIO(gzip.decompress(file.read_bytes())))
            return Dataset(InMemoryTable(table))
        # pandas would read the words NA and null as missing text.
        # It would take the first cells of rows that are longer than the header for an index.
        options: dict[str, Any] = (
            {"keep_default_na": False, "index_col": False} if loader == "csv" else {}
        )
        if kind(file) == ".tsv":
            options |= {"sep": "\t", "quoting": csv.QUOTE_NONE}
        pattern = glob.escape(str(file.resolve()))
        with warnings.catch_warnings():
            warnings.filterwarnings("error", _LONGER)
            rows = datasets.load_dataset(loader, data_files=pattern, split="train", **options)
    except Exception as error:
        if disk_is_full(error):
            raise ResourceError(
                f"cannot keep {file} in the cache of data sets, {str(cache_folder())!r}, as the "
                "disk is full; make room, or set HF_HOME to a folder on another disk"
            ) from error
        said = (_broken_line(file) if loader == "json" else "") or reason(error)
        if _LONGER in said:
            said = "its rows have more cells than its header"
        if _NO_ROWS in said:
            said = "it has no rows"
        coded = "codec can't decode" in said
        remedy = "convert the file to UTF-8" if coded else "correct the file or leave it out"
        raise DataError(f"cannot read {file} as {loader}: {said}; {remedy}") from error
    finally:
        datasets.logging.set_verbosity(level)
    assert isinstance(rows, Dataset)  # one split, not streamed
    return rows


def read_cells(file: Path) -> pyarrow.Table:
    """All cells of a .csv or .tsv file as strings, its first line too; columns are f0, f1, ...

    In .tsv quotation marks are text, as in the files of GLUE; empty cells are empty strings.

    Raises:
        DataError: the file is empty or not UTF-8, or a line has another number of cells.
    """
    text = read_text(file).removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"expected rows in {file}, found only blank lines; give a file with rows")
    tabs = kind(file) == ".tsv"
    lines = io.StringIO(text, newline=None)  # whichever character ends them
    width = next(lines).count("\t") + 1 if tabs else len(next(csv.reader(lines), [""]))
    names = [f"f{i}" for i in range(width)]
    raw = text.encode()
    try:
        return arrow_csv.read_csv(
            io.BytesIO(raw),
            # A line must fit in one block; without threads, errors tell the row.
            read_options=arrow_csv.ReadOptions(
                column_names=names,
                block_size=min(max(len(raw), 1 << 20), (1 << 31) - 1),
                use_threads=False,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter="\t" if tabs else ",",
                quote_char=False if tabs else '"',
                newlines_in_values=not tabs,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pyarrow.string())
            ),
        )
    except (pyarrow.ArrowInvalid, csv.Error) as error:
        raise DataError(
            f"expected {width} cells in every line of {file}, as in its first, but "
            f"{reason(error)}; correct the file"
        ) from error


def _is_gzip(file: Path) -> bool:
    return file.name.lower().endswith(".gz")


def reason(error: BaseException) -> str:
    """The first cause of an error, on one line of bearable length."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    told = getattr(error, "strerror", None) or error  # without number and path
    text = " ".join(str(told).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
