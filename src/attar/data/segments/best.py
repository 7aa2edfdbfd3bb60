"""BEST and VISTEC: one sentence a line, words ended by `|`, and tags around some of them.

The files of BEST 2009/2010 have blemishes, which are tolerated and counted: byte order marks in the
middle, CR LF, tags that are not closed or lack their `>`, empty words and lines without the last
`|`. Neither format can hold a literal `|`. VISTEC adds the tags ne and msp (misspelt), of which the
latter may hold a correction: `<msp='ครับ'>คับ</msp>`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from attar.data.segments.cuts import Segmented
from attar.data.segments.streams import (
    BOM,
    Options,
    Report,
    lines,
    require_none_of,
    require_whole,
    spans_in,
    writing,
)
from attar.errors import DataError

_BEST = ("NER", "NE", "AB", "POEM")
_VISTEC = (*_BEST, "ne", "msp")
#: what stands for `|` and `<` where they are text
_FULL_WIDTH = {"|": "\uff5c", "<": "\uff1c"}
_LOST = "spans that the format cannot hold"


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file of BEST; `spans` in their meta are `[start, end, tag]`.

    Raises:
        DataError: it is not UTF-8.
    """
    return _read(path, _BEST, options.report)


def read_vistec(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The same of VISTEC; `corrections` in their meta are `[start, end, text]`.

    Raises:
        DataError: it is not UTF-8.
    """
    return _read(path, _VISTEC, options.report)


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file of BEST, with `spans` as tags.

    Raises:
        DataError: a sentence holds `|`, a tag or a line end, or is not segmented.
    """
    _write(rows, path, name="best", labels=_BEST, options=options)


def write_vistec(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file of VISTEC, with `spans` as tags and `corrections` in them.

    Raises:
        DataError: a sentence holds `|`, a tag or a line end, or is not segmented.
    """
    _write(rows, path, name="vistec", labels=_VISTEC, options=options)


@dataclass
class _Parsed:
    """What a line says; `edges` are the offsets of its `|`, in order."""

    text: str
    edges: list[int]
    spans: list[list[Any]]
    corrections: list[list[Any]]
    noted: list[str]

    @property
    def cuts(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.edges) - {0, len(self.text)}))

    @property
    def meta(self) -> dict[str, Any]:
        both = {"spans": self.spans, "corrections": self.corrections}
        return {name: found for name, found in both.items() if found}


@cache
def _tag(labels: tuple[str, ...]) -> re.Pattern[str]:
    """A tag; the last of a pair may lack its `>`."""
    names = "|".join(labels)
    value = (
        r"""\s*(?:value\s*)?=\s*(?:'(?P<one>[^'\n]*)'|"(?P<two>[^"\n]*)"|(?P<bare>[^>|\s]*))\s*"""
    )
    return re.compile(rf"<(?P<opens>{names})(?:(?<=msp){value})?>|</(?P<closes>{names})(?P<end>>?)")


def _parse(line: str, labels: tuple[str, ...]) -> _Parsed:
    parts, edges, length = list[str](), list[int](), 0
    still_open = list[tuple[int, str, str | None]]()
    parsed = _Parsed("", edges, [], [], [])

    def take(piece: str) -> None:
        nonlocal length
        first, *others = piece.split("|")
        parts.append(first)
        length += len(first)
        for part in others:
            edges.append(length)
            parts.append(part)
            length += len(part)

    at = 0
    for found in _tag(labels).finditer(line) if "<" in line else ():
        opens, closes = found["opens"], found["closes"]
        begun = next((one for one in reversed(still_open) if one[1] == closes), None)
        if closes and not found["end"] and not begun:
            continue  # text that only looks like a tag
        take(line[at : found.start()])
        at = found.end()
        if opens:
            value = next((v for v in found.group("one", "two", "bare") if v is not None), None)
            still_open.append((length, opens, value))
            continue
        if not found["end"]:
            parsed.noted.append("tags without >")
        if begun is None:
            parsed.noted.append("tags that close nothing")
            continue
        still_open.remove(begun)
        start, label, value = begun
        if start == length:
            parsed.noted.append("tags around nothing")
            continue
        parsed.spans.append([start, length, label])
        if value is not None:
            parsed.corrections.append([start, length, value])
    take(line[at:])
    parsed.noted += ["tags that are never closed"] * len(still_open)
    parsed.text = "".join(parts)
    parsed.spans.sort(key=_outer_first)
    parsed.corrections.sort(key=_outer_first)
    return parsed


def _outer_first(span: list[Any]) -> tuple[int, int]:
    return span[0], -span[1]


def _read(path: Path, labels: tuple[str, ...], report: Report) -> Iterator[Segmented]:
    ended, without, first = 0, 0, ""
    for line in lines(path, report=report):
        content = line.text
        if content.startswith(BOM):
            report.note("byte order marks that were dropped", where=line.where)
            content = content.removeprefix(BOM)
        parsed = _parse(content, labels)
        for what in parsed.noted:
            report.note(what, where=line.where)
        if not parsed.text:
            report.note("lines without text", where=line.where)
            continue
        edges = [0, *parsed.edges]
        empty = sum(a == b for a, b in pairwise(edges))
        report.note("empty words that were dropped", where=line.where, count=empty)
        if edges[-1] == len(parsed.text):
            ended += 1
        else:
            without, first = without + 1, first or line.where
        yield Segmented(parsed.text, parsed.cuts, meta=parsed.meta)
    if ended > without:  # otherwise none is meant to have it, as in Wisesight's files
        report.note("lines without the last |", where=first, count=without)


def _write(
    rows: Iterable[Segmented], path: Path, *, name: str, labels: tuple[str, ...], options: Options
) -> None:
    with writing(path) as out:
        for number, row in enumerate(rows, 1):
            where = f"sentence {number}"
            require_whole(row, name=name, where=where)
            require_none_of(row.text, "\n", name=name, where=where)
            out(_line(row, labels, name=name, where=where, options=options) + "\n")
            options.report.rows += 1


def _line(
    row: Segmented, labels: tuple[str, ...], *, name: str, where: str, options: Options
) -> str:
    text = row.text
    if options.on_pipe == "escape":
        text = text.replace("|", _FULL_WIDTH["|"])
        text = _tag(labels).sub(lambda found: _FULL_WIDTH["<"] + found[0][1:], text)
        changed = sum(a != b for a, b in zip(text, row.text, strict=True))
        options.report.note("characters written in full width", where=where, count=changed)
    given = spans_in(row.meta, "spans")
    spans = [span for span in given if span[2] in labels]
    lost = len(given) - len(spans)
    values = {(start, end): value for start, end, value in spans_in(row.meta, "corrections")}
    line = _compose(text, row.cuts, spans=spans, values=values)
    if "|" not in text and "<" not in line:
        options.report.note(_LOST, where=where, count=lost)
        return line
    back = _parse(line.removeprefix("|"), labels)
    if back.spans != sorted(map(list, spans), key=_outer_first) or back.noted:
        lost = len(given)
        line = _compose(text, row.cuts, spans=[], values={})
        back = _parse(line.removeprefix("|"), labels)
    options.report.note(_LOST, where=where, count=lost)
    if back.text != text or back.cuts != row.cuts:
        raise DataError(
            f"expected a sentence without | and tags for the format {name}, found one in {where}, "
            f"{row.text[:40]!r}; write them in full width with on_pipe escape (--on-pipe escape), "
            "or write jsonl"
        )
    return line


def _compose(
    text: str,
    cuts: tuple[int, ...],
    *,
    spans: list[list[Any]],
    values: dict[tuple[int, int], str],
) -> str:
    """The line; an empty word before it where the text would begin like a byte order mark."""
    marks: dict[int, list[str]] = {}
    for _, end, label in sorted(spans, key=lambda span: (-span[0], span[1])):  # inner first
        marks.setdefault(end, []).append(f"</{label}>")
    for cut in (*cuts, len(text)):
        marks.setdefault(cut, []).append("|")
    for start, end, label in sorted(spans, key=_outer_first):
        value = values.get((start, end)) if label == "msp" else None
        quote = '"' if value and "'" in value else "'"
        opening = f"<{label}>" if value is None else f"<{label}={quote}{value}{quote}>"
        marks.setdefault(start, []).append(opening)
    pieces, at = ["|"] if text.startswith(BOM) else [], 0
    for offset in sorted(marks):
        pieces += [text[at:offset], *marks[offset]]
        at = offset
    return "".join(pieces)
