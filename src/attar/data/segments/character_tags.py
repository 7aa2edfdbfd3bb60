r"""Characters with their tags, `character TAB tag` a line, a blank line after each sentence.

BIO: a word begins at B and goes on at I; the tag ? is one that nobody has decided on. BIES: a word
is S, or B, any number of I, and E. White space is escaped, as the first line says.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from attar.data.segments.cuts import Segmented
from attar.data.segments.escapes import HEADER, escape, unescape
from attar.data.segments.streams import Line, Options, Report, lines, require_whole, writing
from attar.errors import DataError

_UNDECIDED = "?"
#: what may follow each tag; the first and the last are the ends of the sentence
_BIO = {"": "BO", "B": "BIO?", "I": "BIO?", "O": "BO?", "?": "BIO?"}
_BIES = {"": "BS", "B": "IE", "I": "IE", "E": "BS", "S": "BS"}
_ALIASES = {"M": "I", "L": "E", "U": "S", "W": "S"}


def read_bio(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file of BIO; characters tagged O make words of their own, and are counted.

    Raises:
        DataError: a line is no character and tag, or a tag cannot stand there.
    """
    for letters in _sentences(path, _BIO, options.report):
        tags = [tag for _, tag, _ in letters]
        outside = sum(tag == "O" for tag in tags)
        options.report.note("characters tagged O", where=letters[0][2].where, count=outside)
        begins = {b for b, (was, tag) in enumerate(pairwise(tags), 1) if _begins(was, tag)}
        decided = tuple(b for b, tag in enumerate(tags[1:], 1) if tag != _UNDECIDED)
        yield Segmented(
            "".join(letter for letter, _, _ in letters),
            tuple(sorted(begins)),
            decided if _UNDECIDED in tags else None,
        )


def read_bies(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file of BIES; M, L, U and W are other names of I, E, S and S.

    Raises:
        DataError: a line is no character and tag, or a tag cannot stand there.
    """
    for letters in _sentences(path, _BIES, options.report):
        _, last, line = letters[-1]
        if last not in "ES":
            raise _misplaced("the end of a sentence", last, line)
        text = "".join(letter for letter, _, _ in letters)
        yield Segmented(text, tuple(b for b, (_, t, _) in enumerate(letters) if b and t in "BS"))


def write_bio(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file of BIO."""

    def tags(row: Segmented, number: int) -> Iterator[str]:
        cuts = {0, *row.cuts}
        known = None if row.decided is None else {0, *row.decided}
        for offset in range(len(row.text)):
            if known is not None and offset not in known:
                yield _UNDECIDED
            else:
                yield "B" if offset in cuts else "I"

    _write(rows, path, tags, options.report)


def write_bies(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file of BIES.

    Raises:
        DataError: a sentence is not segmented.
    """

    def tags(row: Segmented, number: int) -> Iterator[str]:
        require_whole(row, name="bies", where=f"sentence {number}")
        for token in row.tokens:
            yield from "S" if len(token) == 1 else f"B{'I' * (len(token) - 2)}E"

    _write(rows, path, tags, options.report)


def _begins(was: str, tag: str) -> bool:
    return tag == "B" or (tag == "O") != (was == "O")


def _sentences(
    path: Path, follow: dict[str, str], report: Report
) -> Iterator[list[tuple[str, str, Line]]]:
    """The characters of each sentence with their tags."""
    letters, escaped = list[tuple[str, str, Line]](), False
    for line in lines(path, report=report):
        if line.text == HEADER:
            escaped = True
        elif line.text.startswith("#") and not line.text.startswith("#\t"):
            report.note("comments", where=line.where)
        elif not line.text.strip():
            if letters:
                yield letters
            letters = []
        else:
            letter, tab, tag = line.text.rpartition("\t")
            letter = unescape(letter) if escaped else letter
            if not tab or len(letter) != 1:
                raise DataError(
                    f"expected one character, a tab and its tag in {line.where}, found "
                    f"{line.text[:40]!r}; write each character on a line of its own"
                )
            short = tag.strip().partition("-")[0]
            short = _ALIASES.get(short, short) if follow is _BIES else short
            before = letters[-1][1] if letters else ""
            if not short or short not in follow[before]:
                raise _misplaced(
                    f"the tag after {before!r}" if before else "a first tag", tag, line
                )
            letters.append((letter, short, line))
    if letters:
        yield letters


def _misplaced(place: str, tag: str, line: Line) -> DataError:
    return DataError(
        f"expected {place} to fit in {line.where}, found {tag!r}, which cannot stand there; "
        "correct the tags, or name the other of the formats bio and bies"
    )


def _write(
    rows: Iterable[Segmented],
    path: Path,
    tags: Callable[[Segmented, int], Iterable[str]],
    report: Report,
) -> None:
    with writing(path) as out:
        out(HEADER + "\n")
        for number, row in enumerate(rows, 1):
            pairs = zip(row.text, tags(row, number), strict=True)
            out("".join(f"{escape(letter)}\t{tag}\n" for letter, tag in pairs) + "\n")
            report.rows += 1
