"""Offsets of other tools, in code points or in the UTF-16 units that browsers count.

They differ behind the first character beyond U+FFFF, such as an emoji. Which they are is told by
the text that a span covers, where the file gives it, or else by which of the two makes sense.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from attar.data.segments.cuts import cuts_of_spans
from attar.data.segments.streams import Offsets, Report
from attar.errors import DataError

Unit = Literal["codepoint", "utf16"]
_UNITS: tuple[Unit, ...] = ("codepoint", "utf16")
_NAMES = {
    "codepoint": "code points",
    "utf16": "UTF-16 units",
    "auto": "code points or UTF-16 units",
}
_NOTE = "texts whose offsets count UTF-16 units"


@dataclass(frozen=True)
class Span:
    """Where a label lies, end exclusive, and the text that the file says it covers."""

    start: int
    end: int
    label: str
    covered: str | None = None


def to_units(text: str, offsets: Sequence[int]) -> list[int]:
    """Offsets of code points as those of UTF-16 units."""
    edges = _edges(text)
    return [edges[offset] for offset in offsets]


def _edges(text: str) -> list[int]:
    """Where each code point begins, and the last ends, in UTF-16 units."""
    return [0, *accumulate(1 + (character > "\uffff") for character in text)]


class Counting:
    """Tells for one text of a file after another what its offsets count, as code points.

    Args:
        offsets: what they count. auto: told by each text.
        report: where texts with UTF-16 offsets are counted.
    """

    def __init__(self, offsets: Offsets, report: Report) -> None:
        self._offsets, self._report = offsets, report
        self._proven: dict[Unit, str] = {}

    def code_points(self, spans: Sequence[Span], text: str, *, where: str) -> list[Span]:
        """The spans with offsets of code points.

        Raises:
            DataError: the offsets do not fit the text, or it cannot be told what they count.
        """
        as_points = [span for span in spans if _fits(span, text)]
        if max(text, default="") <= "\uffff":  # both are the same
            if len(as_points) < len(spans):
                raise _misfit(spans, text, counted="code points", where=where)
            return list(spans)
        by_unit = {unit: point for point, unit in enumerate(_edges(text))}
        moved = [
            Span(by_unit.get(s.start, -1), by_unit.get(s.end, -1), s.label, s.covered)
            for s in spans
        ]
        as_units = [span for span in moved if _fits(span, text)]
        fit: dict[Unit, list[Span]] = {"codepoint": as_points, "utf16": as_units}
        unit: Unit = self._told(spans, fit, text=text, where=where)
        if unit == "utf16":
            self._report.note(_NOTE, where=where)
            return as_units
        return as_points

    def _told(
        self,
        spans: Sequence[Span],
        fit: Mapping[Unit, list[Span]],
        *,
        text: str,
        where: str,
    ) -> Unit:
        possible: list[Unit] = [
            unit
            for unit in _UNITS
            if self._offsets in ("auto", unit) and len(fit[unit]) == len(spans)
        ]
        if not possible:
            raise _misfit(spans, text, counted=_NAMES[self._offsets], where=where)
        if len(possible) == 2 and fit["codepoint"] != fit["utf16"]:
            possible = [unit for unit in possible if _tiles(fit[unit], text)] or possible
            if len(possible) == 2:
                raise DataError(
                    f"cannot tell whether the offsets in {where} count code points or UTF-16 "
                    "units, as both fit; say which with offsets (--offsets)"
                )
        if self._offsets == "auto" and len(possible) == 1:
            self._agree(possible[0], spans, where=where)
        return possible[0]

    def _agree(self, unit: Unit, spans: Sequence[Span], *, where: str) -> None:
        """Refuse a file that counts in two ways, unless the covered texts prove that it does."""
        if any(span.covered is not None for span in spans):
            return
        self._proven.setdefault(unit, where)
        if len(self._proven) == 2:
            raise DataError(
                f"the offsets in {self._proven['utf16']} count UTF-16 units, but those in "
                f"{self._proven['codepoint']} code points; say which with offsets (--offsets)"
            )


def _fits(span: Span, text: str) -> bool:
    inside = 0 <= span.start < span.end <= len(text)
    return inside and span.covered in (None, text[span.start : span.end])


def _tiles(spans: list[Span], text: str) -> bool:
    """Whether the spans cover the text without gap or overlap."""
    try:
        found = cuts_of_spans([(s.start, s.end) for s in spans], text=text, where="")
    except DataError:
        return False
    return found[1] == 0


def _misfit(spans: Sequence[Span], text: str, *, counted: str, where: str) -> DataError:
    bad = next((span for span in spans if not _fits(span, text)), spans[0])
    covered = "" if bad.covered is None else f" for {bad.covered[:40]!r}"
    return DataError(
        f"expected offsets that count {counted} and lie in the text of {len(text)} characters in "
        f"{where}, found {bad.start} to {bad.end}{covered}; correct it, or export it again"
    )
