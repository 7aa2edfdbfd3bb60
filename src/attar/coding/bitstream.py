"""A file of chunks that can be read alone: damage stays where it is, and is reported.

    file    = header, chunk, ..., end
    header  = "EqIW" version window-bits 0 0, SHA-256 of the dictionary, CRC-32
    chunk   = "EqIC" index windows size, CRC-32 of the payload, CRC-32 of the text, CRC-32 of this,
              payload: the windows' codes of window-bits each, highest bit first, zeros to a byte
    end     = "EqIE" chunks size, CRC-32 of this

Sizes are of the text, in bytes. All integers are unsigned, the lowest byte first, of 32 bits, but
64 for the size in `end`.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from attar.errors import DataError

VERSION = 1

_MAGIC, _CHUNK_MAGIC, _END_MAGIC = b"EqIW", b"EqIC", b"EqIE"
_HEADER = struct.Struct("<4sBBxx32s")
_CHUNK = struct.Struct("<4sIIIII")
_END = struct.Struct("<4sIQ")
_CRC = struct.Struct("<I")


@dataclass(frozen=True)
class Header:
    """What a stream was written with: bits of a window, and the SHA-256 of the dictionary."""

    window_bits: int
    digest: bytes

    def to_bytes(self) -> bytes:
        """As it stands at the head of a file."""
        return _sealed(_HEADER.pack(_MAGIC, VERSION, self.window_bits, self.digest))


@dataclass(frozen=True)
class Chunk:
    """One chunk: its codes as bytes, and what they should give back, so many bytes of text.

    `intact` says whether the payload is what was written. Where it ends early, `windows` are those
    that are there whole.
    """

    index: int
    windows: int
    size: int
    text_crc: int
    payload: bytes
    intact: bool = True

    def to_bytes(self) -> bytes:
        """As it stands in a file."""
        crc = zlib.crc32(self.payload)
        head = _CHUNK.pack(_CHUNK_MAGIC, self.index, self.windows, self.size, crc, self.text_crc)
        return _sealed(head) + self.payload


@dataclass(frozen=True)
class End:
    """The last words of a stream: how many chunks, and bytes of text, there are in all.

    `after` is how many bytes follow in the file, which do not belong to it.
    """

    chunks: int
    size: int
    after: int = 0

    def to_bytes(self) -> bytes:
        """As it stands in a file."""
        return _sealed(_END.pack(_END_MAGIC, self.chunks, self.size))


def read_header(data: bytes | mmap, *, name: str) -> Header:
    """The header of a stream.

    Args:
        data: the whole file, mapped or read.
        name: of the file, for messages.

    Raises:
        DataError: `name` is no such file, of another version, or its header is damaged.
    """
    if data[:4] != _MAGIC:
        raise DataError(
            f"expected a file that attar tokenizer compress wrote, found {name}, which begins with "
            f"{bytes(data[:4])!r}; give the compressed file"
        )
    fields = _opened(data, 0, _HEADER)
    if fields is None:
        raise DataError(f"the header of {name} is damaged; take another copy of the file")
    _, version, window_bits, digest = fields
    if version != VERSION:
        raise DataError(
            f"expected version {VERSION} of the format, found {version} in {name}; read it with "
            "the version of Attar that wrote it"
        )
    return Header(window_bits, digest)


def read_chunks(data: bytes | mmap, *, window_bits: int) -> Iterator[Chunk | End]:
    """The chunks that are there, in order, and the end, if it is.

    Where no chunk begins, the next one is looked for, so that what is lost shows as a jump of
    `index`; a file that was cut off yields no `End`.
    """
    at = _HEADER.size + _CRC.size
    while at < len(data):
        if (fields := _opened(data, at, _END)) is not None:
            yield End(*fields[1:], after=len(data) - at - _END.size - _CRC.size)
            return
        if (fields := _opened(data, at, _CHUNK)) is None:
            places = [data.find(magic, at + 1) for magic in (_CHUNK_MAGIC, _END_MAGIC)]
            at = min((place for place in places if place > 0), default=len(data))
            continue
        _, index, windows, size, crc, text_crc = fields
        at += _CHUNK.size + _CRC.size
        length = -(-windows * window_bits // 8)
        payload = bytes(data[at : at + length])
        intact = len(payload) == length and zlib.crc32(payload) == crc
        there = min(windows, len(payload) * 8 // window_bits)
        yield Chunk(index, there, size, text_crc, payload, intact)
        at += length if intact else 0  # bytes may be missing: the next chunk may begin early


def _sealed(head: bytes) -> bytes:
    return head + _CRC.pack(zlib.crc32(head))


def _opened(data: bytes | mmap, at: int, layout: struct.Struct) -> tuple | None:
    """The fields that begin here, if they are of this kind and their checksum holds."""
    magic = {_HEADER: _MAGIC, _CHUNK: _CHUNK_MAGIC, _END: _END_MAGIC}[layout]
    raw = data[at : at + layout.size + _CRC.size]
    if len(raw) < layout.size + _CRC.size or raw[:4] != magic:
        return None
    (crc,) = _CRC.unpack_from(raw, layout.size)
    return layout.unpack(raw[: layout.size]) if zlib.crc32(raw[: layout.size]) == crc else None
