"""Raw text, one sentence a line; nothing in it is segmented."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from attar.data.segments.cuts import Segmented
from attar.data.segments.streams import BOM, Options, lines, require_none_of, writing
from attar.errors import DataError


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The lines of a file; empty ones are counted and left out.

    Raises:
        DataError: it is not UTF-8.
    """
    for line in lines(path, report=options.report):
        if line.text:
            yield Segmented.raw(line.text)
        else:
            options.report.note("lines without text", where=line.where)


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write the texts alone.

    Raises:
        DataError: a text holds the end of a line, or the first begins with U+FEFF.
    """
    with writing(path) as out:
        for number, row in enumerate(rows, 1):
            where = f"sentence {number}"
            require_none_of(row.text, "\n", name="lines", where=where)
            if row.text.endswith("\r") or (number == 1 and row.text.startswith(BOM)):
                raise DataError(
                    f"expected a sentence on one line for the format lines, found one in {where} "
                    "that ends in CR or begins with a byte order mark; write it as jsonl"
                )
            out(row.text + "\n")
            options.report.rows += 1
