"""doccano: JSON lines with words as `"label": [[start, end, "W"], ...]`.

A row does not say which text a span covers, and some versions count UTF-16 units as the browser
does. So offsets are told by whether they fit, and whether words made of them leave gaps; where both
counts make sense, or two rows contradict each other, the user has to say.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attar.data.segments.cuts import Segmented
from attar.data.segments.jsonl import objects, write_objects
from attar.data.segments.offsets import Counting, Span, to_units
from attar.data.segments.spans import from_spans, read_offset, to_spans, without_spans
from attar.data.segments.streams import Options
from attar.errors import expect

_LABELS = ("label", "labels", "entities")
_OWN = ("text", "meta", "decided", "relations", "Comments", *_LABELS)


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file; one without labels is raw.

    Raises:
        DataError: a row has no text, or its spans do not fit it, or overlap, or it cannot be told
            what their offsets count.
    """
    counting = Counting(options.offsets, options.report)
    for line, row in objects(path, report=options.report):
        text, own = row.get("text"), row.get("meta")
        expect(isinstance(text, str), f"text of {line.where}", text, "a string")
        assert isinstance(text, str)
        meta = {name: value for name, value in row.items() if name not in _OWN}
        meta |= own if isinstance(own, Mapping) else {}
        yield from_spans(
            _spans(row, line.where),
            text,
            meta=meta,
            decided=row.get("decided"),
            where=line.where,
            counting=counting,
            report=options.report,
        )


def _spans(row: Mapping[str, Any], where: str) -> list[Span]:
    found = next((row[name] for name in _LABELS if row.get(name)), [])
    expect(isinstance(found, list), f"label of {where}", found, "a list of spans")
    spans = list[Span]()
    for one in found:
        if isinstance(one, Mapping):
            one = [one.get("start_offset"), one.get("end_offset"), one.get("label")]
        fine = isinstance(one, list) and len(one) == 3 and isinstance(one[2], str)
        expect(fine, f"a label of {where}", one, "[start, end, name]")
        start = read_offset(one[0], what="a start", where=where)
        end = read_offset(one[1], what="an end", where=where)
        spans.append(Span(start, end, str(one[2])))
    return spans


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file to import.

    Raises:
        DataError: a meta is no JSON.
    """
    units = options.offsets == "utf16"
    write_objects((_row(row, units=units) for row in rows), path, report=options.report)


def _row(row: Segmented, *, units: bool) -> dict[str, Any]:
    meta, spans = without_spans(row), to_spans(row)
    edges = [edge for span in spans for edge in (span.start, span.end)]
    edges = to_units(row.text, edges) if units else edges
    label = [[*edges[2 * n : 2 * n + 2], span.label] for n, span in enumerate(spans)]
    fields: dict[str, Any] = {"id": meta.pop("id")} if "id" in meta else {}
    fields |= {"text": row.text, "label": label}
    if row.decided:
        fields["decided"] = list(row.decided)
    return fields | ({"meta": meta} if meta else {})
