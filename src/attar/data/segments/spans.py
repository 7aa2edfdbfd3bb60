"""Words as labelled spans, which is how general annotation tools keep them."""

from collections.abc import Mapping, Sequence
from typing import Any

from attar.data.segments.cuts import Segmented, cuts_of_spans
from attar.data.segments.jsonl import offsets_in
from attar.data.segments.offsets import Counting, Span
from attar.data.segments.streams import Report, spans_in
from attar.errors import expect

WORD = "W"
"""The label of a word."""


def read_offset(value: Any, *, what: str, where: str) -> int:
    """An offset that a file gives.

    Raises:
        DataError: it is no whole number.
    """
    expect(type(value) is int, f"{what} in {where}", value, "a whole number")
    return value


def from_spans(
    found: Sequence[Span],
    text: str,
    *,
    meta: Mapping[str, Any],
    decided: Any,
    where: str,
    counting: Counting,
    report: Report,
) -> Segmented:
    """The sentence that spans stand for.

    Gaps between words become words, and are counted. Spans of other labels go to the meta. Without
    any word, a text of more than one character is raw.

    Args:
        found: all labelled spans of the text.
        text: that they lie in.
        meta: what else is known.
        decided: a list of the decided offsets, in code points; None: all are.
        where: they came from, for messages.
        counting: tells what the offsets count.
        report: where to note what was noticed.

    Raises:
        DataError: spans do not fit the text, or words overlap.
    """
    spans = counting.code_points(found, text, where=where)
    words = [(span.start, span.end) for span in spans if span.label == WORD]
    others = [[span.start, span.end, span.label] for span in spans if span.label != WORD]
    meta = {**meta, "spans": others} if others else meta
    if not words and len(text) > 1:
        if others:
            report.note(f"texts with spans but none of the label {WORD}, a word's", where=where)
        return Segmented.raw(text, meta=meta)
    cuts, gaps = cuts_of_spans(words, text=text, where=where)
    report.note("gaps that became words", where=where, count=gaps)
    if decided is not None:
        decided = offsets_in(decided, text, where=where, what="decided offsets")
    return Segmented(text, cuts, decided, meta)


def to_spans(row: Segmented) -> list[Span]:
    """A word each, and the `spans` of the meta; none of raw text."""
    if row.decided == () and len(row.text) > 1:
        return []
    spans, start = list[Span](), 0
    for token in row.tokens:
        spans.append(Span(start, start + len(token), WORD, token))
        start += len(token)
    for start, end, label in spans_in(row.meta, "spans"):
        spans.append(Span(start, end, str(label), row.text[start:end]))
    return spans


def without_spans(row: Segmented) -> dict[str, Any]:
    """The meta without what is written as spans."""
    kept = row.decided == () and len(row.text) > 1  # no span is written
    return {name: value for name, value in row.meta.items() if kept or name != "spans"}
