"""CoNLL-2003: a word a line, `word -X- _ B-W`, a blank line after each sentence.

Words are the project's own, white space included, and are never made by splitting at it: they are
escaped, as the first line says, and columns are separated by tabs. In files of others columns may
be separated by spaces; what they leave out between words is lost.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from attar.data.segments.cuts import Segmented
from attar.data.segments.escapes import HEADER, escape, unescape
from attar.data.segments.streams import Line, Options, lines, require_whole, writing
from attar.errors import DataError

_DOCUMENT = "-DOCSTART-"


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file; a line tagged I goes on with the word before it.

    Raises:
        DataError: a line lacks columns, or a tag is none of B-, I- and O.
    """
    words, inside, escaped = list[str](), False, False
    for line in lines(path, report=options.report):
        if line.text == HEADER and line.number == 1:
            escaped = True
        elif not line.text.strip():
            if words:
                yield Segmented.of(words)
            words, inside = [], False
        else:
            word, tag = _columns(line)
            kind = tag.partition("-")[0]
            if kind not in ("B", "I", "O"):
                raise DataError(
                    f"expected a tag B-W, I-W or O in {line.where}, found {tag!r}; correct it"
                )
            if word == _DOCUMENT and kind == "O":
                continue
            word = unescape(word) if escaped else word
            if kind == "I" and inside:
                words[-1] += word
            else:
                words.append(word)
            inside = kind != "O"
    if words:
        yield Segmented.of(words)


def _columns(line: Line) -> tuple[str, str]:
    """The word and the tag."""
    columns = line.text.split("\t") if "\t" in line.text else line.text.rsplit(" ", 3)
    if len(columns) < 2 or not columns[0] or not columns[-1]:
        raise DataError(
            f"expected a word, -X-, _ and a tag in {line.where}, found {line.text[:40]!r}; "
            "separate the columns by tabs"
        )
    return columns[0], columns[-1]


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file.

    Raises:
        DataError: a sentence is not segmented.
    """
    with writing(path) as out:
        out(HEADER + "\n")
        for number, row in enumerate(rows, 1):
            require_whole(row, name="conll2003", where=f"sentence {number}")
            out("".join(f"{escape(token)}\t-X-\t_\tB-W\n" for token in row.tokens) + "\n")
            options.report.rows += 1
