"""What all formats share: lines of a file that come and go one at a time, and what was noticed."""

import codecs
import gzip
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from attar.artefacts import new_file
from attar.data.files import opened, require_honest
from attar.data.segments.cuts import Segmented
from attar.errors import DataError
from attar.foreign import JSON_BYTES

OnPipe = Literal["error", "escape"]
Offsets = Literal["auto", "codepoint", "utf16"]

BOM = "\ufeff"


@dataclass
class Report:
    """What a reader tolerated, or a writer had to change.

    Attributes:
        rows: sentences read, or written.
        counts: how often each thing was noticed, in the order in which they came.
        places: where each was noticed first.
    """

    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, *, where: str, count: int = 1) -> None:
        """Count something that was noticed."""
        if count:
            self.counts[what] = self.counts.get(what, 0) + count
            self.places.setdefault(what, where)

    @property
    def warnings(self) -> list[str]:
        """One sentence for each thing that was noticed."""
        return [
            f"{what}: {count:,} (first in {self.places[what]})"
            for what, count in self.counts.items()
        ]


@dataclass(frozen=True)
class Options:
    """How a format is read and written.

    Attributes:
        on_pipe: what a writer does with characters of a text that the format keeps for itself, as
            BEST does `|`: refuse them, or write them in full width (U+FF5C).
        offsets: in what the offsets of a file count. auto: told by its texts where it can be, and
            code points in what is written.
        report: where to note what was noticed.
    """

    on_pipe: OnPipe = "error"
    offsets: Offsets = "auto"
    report: Report = field(default_factory=Report)


class Line(NamedTuple):
    """A line of a file without its end, and where it stands."""

    text: str
    number: int
    file: Path

    @property
    def where(self) -> str:
        """For messages."""
        return f"line {self.number} of {self.file}"


def lines(file: Path, *, report: Report) -> Iterator[Line]:
    """The lines of a file, unpacked on the way, without LF or CR LF; only LF ends one.

    Raises:
        DataError: it cannot be read, is not UTF-8, or has a line of more than 32 MB.
    """
    with opened(file) as source:
        rows = iter(lambda: source.readline(JSON_BYTES + 1), b"")
        for number, row in enumerate(rows, 1):
            require_honest(file, source)
            if len(row) > JSON_BYTES:
                raise DataError(
                    f"expected lines of at most {JSON_BYTES:,} bytes, found a longer one in "
                    f"line {number} of {file}; break it, one sentence a line"
                )
            if number == 1 and row.startswith(codecs.BOM_UTF8):
                report.note("byte order marks that were dropped", where=f"line 1 of {file}")
                row = row[len(codecs.BOM_UTF8) :]
            row = row.removesuffix(b"\n")
            if row.endswith(b"\r"):
                report.note("lines that end in CR LF", where=f"line {number} of {file}")
                row = row[:-1]
            try:
                yield Line(row.decode(), number, file)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"expected UTF-8 text in line {number} of {file}, found byte "
                    f"0x{row[error.start]:02x}; convert the file to UTF-8"
                ) from None


@contextmanager
def writing(path: str | Path) -> Iterator[Callable[[str], object]]:
    """A function that writes text to a file that appears when the block ends well; packed where it
    is called .gz, to the same bytes each time.

    Raises:
        ConfigError: something is there already.
        DataError: it cannot be written; nothing is left behind.
    """
    with new_file(path) as out:
        if str(path).lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as packed:
                yield lambda text: packed.write(text.encode())
        else:
            yield lambda text: out.write(text.encode())


def require_whole(row: Segmented, *, name: str, where: str) -> None:
    """Refuse a sentence with offsets that nobody decided on, where a format has no room for them.

    Raises:
        DataError: some offset is not decided.
    """
    if row.decided is not None and len(row.decided) < max(len(row.text) - 1, 0):
        raise DataError(
            f"expected whole segmentations for the format {name}, found {len(row.decided)} of "
            f"{len(row.text) - 1} offsets decided in {where}; write them as jsonl, or leave such "
            "sentences out"
        )


def require_none_of(text: str, characters: str, *, name: str, where: str) -> None:
    """Refuse a sentence that would break the lines of a format.

    Raises:
        DataError: it holds one of the characters.
    """
    if bad := next((c for c in characters if c in text), None):
        raise DataError(
            f"expected a sentence on one line for the format {name}, found {bad!r} at offset "
            f"{text.index(bad)} of {where}; write it as jsonl, or leave it out"
        )


def spans_in(meta: Mapping[str, Any], name: str) -> list[list[Any]]:
    """The lists `[start, end, text]` under a name in the meta of a sentence."""
    found = meta.get(name) or []
    if not isinstance(found, list | tuple):
        return []
    return [list(span) for span in found if isinstance(span, list | tuple) and len(span) == 3]
