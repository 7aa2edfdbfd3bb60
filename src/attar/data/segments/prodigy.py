"""Prodigy: JSON lines with `tokens` of text, start, end, id and ws.

`ws` says that one space follows which is no token; read, it becomes a word, as every gap does.
Only rows whose answer is accept are taken for labels.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attar.data.segments.cuts import Segmented, cuts_of_spans, spans_of
from attar.data.segments.jsonl import objects, offsets_in, write_objects
from attar.data.segments.offsets import Counting, Span
from attar.data.segments.spans import read_offset
from attar.data.segments.streams import Options, spans_in
from attar.errors import expect

#: who answered, in newer and older versions
_WHO = ("_annotator_id", "_session_id")


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file; those without tokens, or not accepted, are raw.

    Raises:
        DataError: a row has no text, or its tokens do not fit it, or overlap.
    """
    counting = Counting(options.offsets, options.report)
    for line, row in objects(path, report=options.report):
        where, text, own = line.where, row.get("text"), row.get("meta")
        expect(isinstance(text, str), f"text of {where}", text, "a string")
        assert isinstance(text, str)
        meta = dict(own) if isinstance(own, Mapping) else {}
        if who := next((row[name] for name in _WHO if row.get(name)), None):
            meta["annotator"] = who
        answer = row.get("answer", "accept")
        if answer != "accept":
            meta |= {"answer": answer, "status": "skipped"}
        found = [*_spans(row, "tokens", where), *_spans(row, "spans", where)]
        spans = counting.code_points(found, text, where=where)
        words = [(span.start, span.end) for span in spans if not span.label]
        if others := [[span.start, span.end, span.label] for span in spans if span.label]:
            meta["spans"] = others
        cuts, gaps = cuts_of_spans(words, text=text, where=where)
        if answer != "accept" or not words:
            yield Segmented.raw(text, meta=meta)
            continue
        spaces = sum(one.get("ws") is True for one in row["tokens"])
        options.report.note("gaps that became words", where=where, count=max(0, gaps - spaces))
        decided = row.get("decided")
        if decided is not None:
            decided = offsets_in(decided, text, where=where, what="decided offsets")
        yield Segmented(text, cuts, decided, meta)


def _spans(row: Mapping[str, Any], name: str, where: str) -> list[Span]:
    """Tokens, whose label is empty, or labelled spans."""
    found = row.get(name) or []
    fine = isinstance(found, list) and all(isinstance(one, Mapping) for one in found)
    expect(fine, f"{name} of {where}", found, "a list of objects")
    spans = list[Span]()
    for one in found:
        start = read_offset(one.get("start"), what="a start", where=where)
        end = read_offset(one.get("end"), what="an end", where=where)
        covered = one.get("text")
        expect(covered is None or isinstance(covered, str), f"text in {where}", covered, "a string")
        spans.append(Span(start, end, "" if name == "tokens" else str(one.get("label")), covered))
    return spans


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file of answers, or of texts where nothing is decided.

    Raises:
        DataError: a meta is no JSON.
    """
    write_objects(map(_row, rows), path, report=options.report)


def _row(row: Segmented) -> dict[str, Any]:
    meta = dict(row.meta)
    fields: dict[str, Any] = {"text": row.text}
    if row.decided != () or len(row.text) < 2:
        fields["tokens"] = _tokens(row)
        if row.decided is not None:
            fields["decided"] = list(row.decided)
    if spans := spans_in(meta, "spans"):
        del meta["spans"]
        fields["spans"] = [{"start": s, "end": e, "label": str(name)} for s, e, name in spans]
    if meta.get("status") == "skipped":
        del meta["status"]
        fields["answer"] = meta.pop("answer", "ignore")
    elif "tokens" in fields:
        fields["answer"] = "accept"
    if isinstance(meta.get("annotator"), str):
        fields["_session_id"] = fields["_annotator_id"] = meta.pop("annotator")
    return fields | ({"meta": meta} if meta else {})


def _tokens(row: Segmented) -> list[dict[str, Any]]:
    """The words; a space of its own behind another word is that word's `ws`."""
    tokens = list[dict[str, Any]]()
    for start, end, text in spans_of(row):
        if text == " " and tokens and tokens[-1]["end"] == start:
            tokens[-1]["ws"] = True
        else:
            number = len(tokens)
            tokens.append({"text": text, "start": start, "end": end, "id": number, "ws": False})
    return tokens
