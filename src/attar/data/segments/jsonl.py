"""The native format: JSON lines that lose nothing.

A row is `{"id", "text", "cuts": [...], "tokens": [...], "decided": null | [...], "arms", "batch",
"guideline", "annotator", "model", "history", "meta"}`. `tokens` repeats what `text` and `cuts` say,
and is checked. A row of text alone is raw; keys of others go to the meta.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attar.data.segments.cuts import Segmented, check, cuts_of
from attar.data.segments.streams import Line, Options, Report, lines, writing
from attar.errors import DataError, expect
from attar.foreign import parse_json

#: keys of the meta that stand beside the text
TOP = ("id", "arms", "batch", "guideline", "annotator", "model", "history")
_OWN = ("text", "cuts", "tokens", "decided", "meta")


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file.

    Raises:
        DataError: a line is no JSON object, or its fields contradict each other.
    """
    for line, row in objects(path, report=options.report):
        yield from_fields(row, where=line.where)


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write one JSON object a line.

    Raises:
        DataError: a meta is no JSON.
    """
    write_objects(map(to_fields, rows), path, report=options.report)


def objects(path: Path, *, report: Report) -> Iterator[tuple[Line, dict[str, Any]]]:
    """The objects of a file of JSON lines and where they stand; blank lines are counted.

    Raises:
        DataError: a line is no JSON object.
    """
    for line in lines(path, report=report):
        if not line.text.strip():
            report.note("blank lines", where=line.where)
            continue
        row = parse_json(line.text, "", origin=line.where)
        expect(isinstance(row, dict), line.where, row, "a JSON object")
        yield line, row


def write_objects(rows: Iterable[Mapping[str, Any]], path: Path, *, report: Report) -> None:
    """Write one JSON object a line.

    Raises:
        DataError: one holds what JSON cannot.
    """
    with writing(path) as out:
        for number, row in enumerate(rows, 1):
            out(to_json(row, where=f"sentence {number}") + "\n")
            report.rows += 1


def to_json(value: Any, *, where: str, indent: int | None = None) -> str:
    """JSON of one line, in which characters are themselves.

    Raises:
        DataError: it holds what JSON cannot.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"expected a meta of JSON values in {where}, but {error}; leave that value out"
        ) from None


def to_fields(row: Segmented) -> dict[str, Any]:
    """A sentence as the fields of a row."""
    top = {name: row.meta[name] for name in TOP if name in row.meta}
    rest = {name: value for name, value in row.meta.items() if name not in TOP}
    fields = {
        **({"id": top.pop("id")} if "id" in top else {}),
        "text": row.text,
        "cuts": list(row.cuts),
        "tokens": row.tokens,
        "decided": None if row.decided is None else list(row.decided),
        **top,
    }
    return fields | ({"meta": rest} if rest else {})


def from_fields(row: Mapping[str, Any], *, where: str) -> Segmented:
    """The sentence that a row stands for.

    Args:
        row: fields, of which `text`, or `tokens`, has to be there.
        where: they came from, for the message.

    Raises:
        DataError: a field is of another type, or they contradict each other.
    """
    text, cuts, tokens, decided = (row.get(name) for name in _OWN[:4])
    if tokens is not None:
        plain = isinstance(tokens, Sequence) and all(isinstance(t, str) and t for t in tokens)
        expect(
            plain and not isinstance(tokens, str), f"tokens of {where}", tokens, "a list of words"
        )
        if text is None:
            text = "".join(tokens)
    elif "text" not in row:
        raise DataError(
            f"expected a column text, or tokens, in {where}; it has {', '.join(row) or 'none'}: "
            "rename the one with the sentences"
        )
    expect(isinstance(text, str), f"text of {where}", text, "a string")
    assert isinstance(text, str)
    raw = cuts is None and tokens is None
    if cuts is None:
        cuts = cuts_of(tokens) if tokens else ()
    cuts = offsets_in(cuts, text, where=where, what="cuts")
    if tokens is not None and ("".join(tokens) != text or cuts_of(tokens) != cuts):
        raise DataError(
            f"expected tokens that joined are the text and begin at its cuts in {where}, found "
            "others; correct them, or leave out tokens"
        )
    if decided is not None:
        decided = offsets_in(decided, text, where=where, what="decided offsets")
    own = row.get("meta")
    expect(own is None or isinstance(own, Mapping), f"meta of {where}", own, "an object")
    meta = {name: value for name, value in row.items() if name not in _OWN}
    return Segmented(text, cuts, () if raw and decided is None else decided, meta | dict(own or {}))


def offsets_in(found: Any, text: str, *, where: str, what: str) -> tuple[int, ...]:
    """A list of offsets that a file gives.

    Raises:
        DataError: it is none, or they are no offsets of the text.
    """
    whole = isinstance(found, Sequence) and all(type(one) is int for one in found)
    expect(whole, f"{what} of {where}", found, "a list of whole numbers")
    check(text, found, where=where, what=what)
    return tuple(found)
