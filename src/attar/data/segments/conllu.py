r"""CoNLL-U of Universal Dependencies: ten columns a word, the text in a comment.

White space is no word there: it is told by `SpaceAfter=No`, and where it is not a single space by
`SpacesAfter` and `SpacesBefore` with the escapes \s, \t, \r, \n, \p and \\. Read, the white space
between two words is one word; `SpaceCuts` (offsets in it) tells where more than one begins.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from attar.data.segments.cuts import Segmented
from attar.data.segments.streams import (
    Line,
    Options,
    Report,
    lines,
    require_none_of,
    require_whole,
    writing,
)
from attar.errors import DataError

_ESCAPES = {" ": r"\s", "\t": r"\t", "\r": r"\r", "\n": r"\n", "|": r"\p", "\\": r"\\"}
_CHARACTERS = {escape: character for character, escape in _ESCAPES.items()}
_ESCAPED = re.compile(r"\\(?:[strnp\\]|u[0-9a-f]{4})")
_ID = re.compile(r"(\d+)(?:-(\d+)|\.\d+)?")


@dataclass
class _Word:
    """A word, and the white space around it; `given` tells whether the file speaks of it."""

    form: str
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=lambda: [" "])
    given: bool = False


# ------------------------------------------------------------------------------------------ reading


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file, whose text is exactly that of the comment `# text`.

    Multiword tokens are read as they are written, empty nodes are left out. The meta holds `id`,
    and `document` where the file tells it.

    Raises:
        DataError: a line has not ten columns, or the words are not those of `# text`.
    """
    document: str | None = None
    block = list[Line]()
    for line in _and_end(lines(path, report=options.report)):
        if line is not None and line.text.strip():
            block.append(line)
            continue
        if block:
            comments = _comments(block)
            document = comments.get("newdoc id", comments.get("filename", document))
            words = _words(block)
            if words:
                yield _sentence(words, comments, document, first=block[0], report=options.report)
        block = []


def _and_end(rows: Iterator[Line]) -> Iterator[Line | None]:
    yield from rows
    yield None


def _comments(block: list[Line]) -> dict[str, str]:
    pairs = (line.text[1:].partition("=") for line in block if line.text.startswith("#"))
    return {name.strip(): value.removeprefix(" ") for name, sign, value in pairs if sign}


def _words(block: list[Line]) -> list[_Word]:
    words, covered = list[_Word](), 0
    for line in block:
        if line.text.startswith("#"):
            continue
        columns = line.text.split("\t")
        number = _ID.fullmatch(columns[0])
        if len(columns) != 10 or not number or not columns[1]:
            raise DataError(
                f"expected a number, a word and eight more columns between tabs in {line.where}, "
                f"found {line.text[:40]!r}; correct it, or name the format of the file"
            )
        if "." in columns[0] or int(number[1]) <= covered:
            continue  # an empty node, or a part of the word before
        covered = int(number[2] or 0)
        words.append(_word(columns[1], columns[9], line))
    return words


def _word(form: str, misc: str, line: Line) -> _Word:
    pairs = (part.partition("=") for part in misc.split("|"))
    fields = {name: value for name, _, value in pairs}
    word = _Word(form, given="SpaceAfter" in fields or "SpacesAfter" in fields)
    if fields.get("SpaceAfter") == "No":
        word.after = []
    try:
        if "SpacesAfter" in fields:
            word.after = _split(fields["SpacesAfter"], fields.get("SpaceCuts", ""))
        if "SpacesBefore" in fields:
            word.before = _split(fields["SpacesBefore"], fields.get("SpaceCutsBefore", ""))
    except ValueError:
        raise DataError(
            f"expected SpaceCuts to be rising offsets within the spaces of {line.where}, found "
            f"{misc!r}; correct it"
        ) from None
    return word


def _split(escaped: str, cuts: str) -> list[str]:
    """White space as words."""
    spaces = _ESCAPED.sub(_unescaped, escaped)
    edges = [0, *map(int, cuts.split(",") if cuts else ()), len(spaces)]
    if sorted(set(edges)) != edges:
        if spaces or cuts:
            raise ValueError(cuts)
        return []
    return [spaces[a:b] for a, b in pairwise(edges)]


def _unescaped(found: re.Match[str]) -> str:
    return _CHARACTERS.get(found[0]) or chr(int(found[0][2:], 16))


def _sentence(
    words: list[_Word],
    comments: dict[str, str],
    document: str | None,
    *,
    first: Line,
    report: Report,
) -> Segmented:
    named = {"id": comments.get("sent_id"), "document": document}
    meta = {name: value for name, value in named.items() if value is not None}
    text = comments.get("text")
    tokens = [part for word in words for part in (*word.before, word.form, *word.after)]
    last = words[-1].after
    bare = tokens[: len(tokens) - len(last)]
    if text is None:
        return Segmented.of(tokens if words[-1].given else bare, meta=meta)
    for found in (tokens, bare):
        if "".join(found) == text:
            return Segmented.of(found, meta=meta)
    report.note("sentences whose spaces are told otherwise than by # text", where=first.where)
    return Segmented.of(_aligned(words, text, first), meta=meta)


def _aligned(words: list[_Word], text: str, first: Line) -> list[str]:
    """The words as they lie in the text, with the white space between them."""
    tokens, at = list[str](), 0
    for form in [*(word.form for word in words), ""]:
        start = text.find(form, at) if form else len(text)
        gap = text[at:start]
        if start < 0 or (gap and not gap.isspace()):
            found = repr(form) if form else "their end"
            raise DataError(
                f"expected the words of # text in the sentence that begins in {first.where}, found "
                f"{found} where the text has {text[at : at + 20]!r}; correct one"
            )
        tokens += [part for part in (gap, form) if part]
        at = start + len(form)
    return tokens


# ------------------------------------------------------------------------------------------ writing


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file; what is not known of a word is `_`.

    Raises:
        DataError: a sentence is not segmented, or is white space alone; a line ends in it, or a tab
            lies in a word.
    """
    document: Any = None
    with writing(path) as out:
        for number, row in enumerate(rows, 1):
            where = f"sentence {number}"
            require_whole(row, name="conllu", where=where)
            require_none_of(row.text, "\n\r", name="conllu", where=where)
            head, now = "", row.meta.get("document")
            if now != document and _fits(now):
                head = f"# newdoc id = {now}\n"
                document = now
            out(head + _block(row, where=where) + "\n")
            options.report.rows += 1


def _fits(value: Any) -> bool:
    return isinstance(value, str | int) and not any(end in str(value) for end in "\r\n")


def _block(row: Segmented, *, where: str) -> str:
    words, spaces = list[_Word](), list[str]()
    for token in row.tokens:
        if token.isspace():
            (words[-1].after if words else spaces).append(token)
        else:
            require_none_of(token, "\t", name="conllu", where=where)
            words.append(_Word(token, after=[]))
    if not words:
        raise DataError(
            f"expected a word in {where}, found white space alone, which the format conllu cannot "
            "hold; leave it out"
        )
    words[0].before = spaces
    name = row.meta.get("id")
    head = f"# sent_id = {name}\n" if _fits(name) else ""
    body = "".join(
        f"{n}\t{word.form}\t_\t_\t_\t_\t_\t_\t_\t{_misc(word)}\n" for n, word in enumerate(words, 1)
    )
    return f"{head}# text = {row.text}\n{body}"


def _misc(word: _Word) -> str:
    fields = list[str]()
    if word.before:
        fields += _spaces("SpacesBefore", "SpaceCutsBefore", word.before)
    if not word.after:
        fields.append("SpaceAfter=No")
    elif word.after != [" "]:
        fields += _spaces("SpacesAfter", "SpaceCuts", word.after)
    return "|".join(fields) or "_"


def _spaces(name: str, cuts: str, parts: list[str]) -> list[str]:
    escaped = "".join(_ESCAPES.get(c) or (f"\\u{ord(c):04x}") for part in parts for c in part)
    offsets = ",".join(map(str, accumulate(map(len, parts[:-1]))))
    return [f"{name}={escaped}", *([f"{cuts}={offsets}"] if offsets else [])]
