"""The formats of segmented text, read and written through one table."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from datasets import Dataset, DatasetDict

from attar.artefacts import expanded
from attar.data.segments import (
    best,
    character_tags,
    conll2003,
    conllu,
    doccano,
    hugging_face,
    jsonl,
    label_studio,
    prodigy,
    raw,
    talpco,
)
from attar.data.segments.cuts import Segmented
from attar.data.segments.guess import guess, suffix
from attar.data.segments.hugging_face import is_data_set
from attar.data.segments.streams import Offsets, OnPipe, Options, Report
from attar.errors import ConfigError, DataError, did_you_mean


class Reader(Protocol):
    """Gives the sentences of a file, one at a time."""

    def __call__(self, path: Path, /, *, options: Options) -> Iterator[Segmented]:
        """The sentences; counts what was tolerated."""
        ...


class Writer(Protocol):
    """Writes sentences to a new file."""

    def __call__(self, rows: Iterable[Segmented], path: Path, /, *, options: Options) -> None:
        """Write them; counts them and what was changed."""
        ...


@dataclass(frozen=True)
class Format:
    """How a format is read and written.

    Attributes:
        read: a file.
        write: a file that is not there yet.
        suffixes: of its files, the first that of those that are written.
    """

    read: Reader
    write: Writer
    suffixes: tuple[str, ...]


#: files of a data set that are about it
_ABOUT = re.compile(
    r"(readme|licen[cs]e|notice|(dataset_(info|infos|dict)|state)\.json)", re.IGNORECASE
)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "jsonl": Format(jsonl.read, jsonl.write, (".jsonl",)),
        "best": Format(best.read, best.write, (".txt", ".label")),
        "vistec": Format(best.read_vistec, best.write_vistec, (".txt",)),
        "bio": Format(character_tags.read_bio, character_tags.write_bio, (".bio",)),
        "bies": Format(character_tags.read_bies, character_tags.write_bies, (".bies",)),
        "conllu": Format(conllu.read, conllu.write, (".conllu",)),
        "conll2003": Format(conll2003.read, conll2003.write, (".conll",)),
        "label-studio": Format(label_studio.read, label_studio.write, (".json",)),
        "doccano": Format(doccano.read, doccano.write, (".jsonl",)),
        "prodigy": Format(prodigy.read, prodigy.write, (".jsonl",)),
        "talpco": Format(talpco.read, talpco.write, (".txt",)),
        "datasets": Format(hugging_face.read, hugging_face.write, (".parquet",)),
        "lines": Format(raw.read, raw.write, (".txt",)),
    }
)
"""Each format under its name. lines: raw text, one sentence a line."""


def read_segments(
    source: str | Path | Dataset | DatasetDict,
    *,
    format: str | None = None,
    offsets: Offsets = "auto",
    report: Report | None = None,
) -> Iterator[Segmented]:
    """The sentences of a file, a folder of files or a pattern (`corpus/*.txt`), one at a time.

    Where there are several files, the meta of each sentence names its own as `document`.

    Args:
        source: files of one format, each also packed as .gz; or a data set in memory.
        format: a name of `FORMATS`. None: told by names and contents.
        offsets: in what the offsets of a file count. auto: told by its texts.
        report: counts the sentences and what was tolerated. None: nobody asks.

    Raises:
        ConfigError: there is no such format.
        DataError: there is no such file, it is not of the format, or holds no sentence.
    """
    if format is not None:
        _named(format)
    options = Options(offsets=offsets, report=Report() if report is None else report)
    if isinstance(source, Dataset | DatasetDict):
        rows = hugging_face.from_dataset(source, origin="the data set")
        return _some(_counted(rows, where="the data set", report=options.report), "the data set")
    files, root = _files(source, format)
    return _some(_read_all(files, root=root, format=format, options=options), str(source))


def write_segments(
    rows: Iterable[Segmented],
    path: str | Path,
    *,
    format: str,
    on_pipe: OnPipe = "error",
    offsets: Offsets = "auto",
    report: Report | None = None,
) -> None:
    """Write sentences to a new file, which appears when it is complete; packed if named .gz.

    Args:
        rows: sentences.
        path: the file.
        format: a name of `FORMATS`.
        on_pipe: refuse a `|` in the text where the format has no room for one (error), or write it
            in full width (escape).
        offsets: in what they are written, where a format has any. auto: code points.
        report: counts the sentences, and what was changed. None: nobody asks.

    Raises:
        ConfigError: there is no such format, or the file is there already.
        DataError: the format cannot hold a sentence.
    """
    options = Options(on_pipe, offsets, Report() if report is None else report)
    _named(format).write(_with_text(rows, options.report), expanded(path), options=options)


def _with_text(rows: Iterable[Segmented], report: Report) -> Iterator[Segmented]:
    for number, row in enumerate(rows, 1):
        if row.text:
            yield row
        else:
            report.note("empty texts that were left out", where=f"sentence {number}")


def convert(
    source: str | Path,
    output: str | Path,
    *,
    to_format: str,
    from_format: str | None = None,
    on_pipe: OnPipe = "error",
    offsets: Offsets = "auto",
) -> Report:
    """Write the sentences of one format in another, one at a time.

    Args:
        source: as for `read_segments`.
        output: a new file.
        to_format: a name of `FORMATS`.
        from_format: a name of `FORMATS`. None: told by names and contents.
        on_pipe: as for `write_segments`.
        offsets: in what those of the source count; those written are code points.

    Returns:
        How many sentences were written, and what was tolerated or changed.

    Raises:
        ConfigError: there is no such format, or the output is there already.
        DataError: the source is not of the format, or the other cannot hold a sentence.
    """
    found = Report()
    rows = read_segments(source, format=from_format, offsets=offsets, report=found)
    written = Report()
    write_segments(rows, output, format=to_format, on_pipe=on_pipe, report=written)
    return Report(written.rows, found.counts | written.counts, found.places | written.places)


def _named(format: str) -> Format:
    if format not in FORMATS:
        raise ConfigError(
            f"expected a format of segmented text, one of {', '.join(FORMATS)}; found {format!r}"
            f"{did_you_mean(format, FORMATS)}"
        )
    return FORMATS[format]


def _read_all(
    files: list[Path], *, root: Path | None, format: str | None, options: Options
) -> Iterator[Segmented]:
    for file in files:
        form = FORMATS[format or guess(file)]
        name = file.relative_to(root).as_posix() if root else None
        rows = form.read(file, options=options)
        yield from _counted(rows, document=name, where=str(file), report=options.report)


def _counted(
    rows: Iterator[Segmented], *, document: str | None = None, where: str, report: Report
) -> Iterator[Segmented]:
    """The sentences that have text, with the name of their document."""
    before = report.rows
    for row in rows:
        if not row.text:
            report.note("empty texts that were left out", where=where)
            continue
        if document is not None and "document" not in row.meta:
            row = replace(row, meta={**row.meta, "document": document})
        report.rows += 1
        yield row
    if report.rows == before:
        report.note("files without sentences", where=where)


def _some(rows: Iterator[Segmented], where: str) -> Iterator[Segmented]:
    """Refuse a source without any sentence."""
    first = next(rows, None)
    if first is None:
        raise DataError(f"expected sentences in {where}, found none; give a file with text")
    yield first
    yield from rows


def _files(source: str | Path, format: str | None) -> tuple[list[Path], Path | None]:
    """The files of a source, and the folder of several."""
    if not str(source):
        raise DataError("expected a file or a folder of them, found an empty name")
    path = expanded(source)
    if path.is_file():
        return [path], None
    known = {end for form in FORMATS.values() for end in form.suffixes}
    wanted = set(FORMATS[format].suffixes) if format else known
    if path.is_dir():
        try:
            found = _named_so(path, wanted)
            if format == "datasets" or (not format and is_data_set(path)):
                if not format:
                    _require_alike(found, path)
                return [path], None
        except OSError as error:
            raise DataError(
                f"cannot read the folder {str(source)!r} ({error}); name the files"
            ) from error
        if not found:
            raise DataError(
                f"expected files named {', '.join(sorted(wanted))} in the folder {path}, found "
                "none; name the format and the files"
            )
        return found, path
    if glob.has_magic(str(path)):
        found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if files := [file for file in found if file.is_file()]:
            return files, Path(os.path.commonpath([file.parent for file in files]))
    raise DataError(f"expected a file or a folder of them, found nothing at {str(source)!r}")


def _named_so(folder: Path, wanted: Set[str]) -> list[Path]:
    """The files of a folder whose names end so, but for hidden ones."""
    return [
        file
        for file in sorted(folder.rglob("*"), key=Path.as_posix)
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and suffix(file) in wanted
    ]


def _require_alike(files: Sequence[Path], folder: Path) -> None:
    """Refuse a data set among other texts, of which one would be left out.

    Raises:
        DataError: so it is.
    """
    ends = {suffix(file) for file in files if not _ABOUT.match(file.name)}
    if other := sorted(ends - {".parquet"}):
        raise DataError(
            f"expected a data set or other files in the folder {folder}, found .parquet beside "
            f"{', '.join(other)}: say --format datasets, or name the files"
        )
