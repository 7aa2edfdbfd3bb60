"""A long JSON list of objects, read one object at a time."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attar.data.files import PIECE, opened, require_honest
from attar.data.segments.streams import BOM, Report
from attar.errors import DataError, expect
from attar.foreign import JSON_BYTES


def read_tasks(path: Path, *, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, or of JSON lines, and where each stands.

    Raises:
        DataError: it is not UTF-8, no JSON, something else than a list of objects, or an object
            takes more than 32 MB.
    """
    decoder = json.JSONDecoder()
    number, listed, comma = 0, False, False
    text = _Ahead(path)
    if text.peek() == BOM:
        report.note("byte order marks that were dropped", where=str(path))
        text.at += 1
    if text.peek() == "[":
        listed = True
        text.at += 1
    while (first := text.peek()) and not (listed and first == "]" and not comma):
        number += 1
        where = f"task {number} of {path}"
        value = text.decode(decoder, where)
        expect(isinstance(value, dict), where, value, "a JSON object")
        yield where, value
        comma = listed and text.peek() == ","
        text.at += comma
        if listed and not comma and text.peek() != "]":
            break
    if listed and text.peek() == "]" and not comma:
        text.at += 1
        listed = False
    if listed or text.peek():
        raise DataError(
            f"expected a list of JSON objects in {path}, but it breaks off or goes on wrongly "
            f"after task {number}; export it again"
        )


class _Ahead:
    """The text of a file from a place on, read as far as is asked for."""

    def __init__(self, path: Path) -> None:
        self._path, self._source = path, self._pieces()
        self._text, self.at = "", 0

    def _pieces(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        with opened(self._path) as source:
            while piece := source.read(PIECE // 4):
                require_honest(self._path, source)
                yield self._decoded(decoder, piece)
            yield self._decoded(decoder, b"")

    def _decoded(self, decoder: codecs.IncrementalDecoder, piece: bytes) -> str:
        try:
            return decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise DataError(
                f"expected UTF-8 text in {self._path}, found byte "
                f"0x{error.object[error.start]:02x}; convert the file to UTF-8"
            ) from None

    def _more(self) -> bool:
        piece = next(self._source, None)
        self._text, self.at = self._text[self.at :] + (piece or ""), 0
        return piece is not None

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self.at < len(self._text) and self._text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self._text):
                return self._text[self.at]
            if not self._more():
                return ""

    def decode(self, decoder: json.JSONDecoder, where: str) -> Any:
        """The next value, which is passed over."""
        while True:
            try:
                value, self.at = decoder.raw_decode(self._text, self.at)
                return value
            except RecursionError:
                said = "it is nested too deeply"
            except ValueError as error:  # perhaps for want of its end
                size = len(self._text) - self.at
                if size <= JSON_BYTES and self._more():
                    continue
                said = str(error) if size <= JSON_BYTES else f"over {JSON_BYTES:,} characters"
            raise DataError(f"{where} cannot be read as JSON ({said}); export it again")
