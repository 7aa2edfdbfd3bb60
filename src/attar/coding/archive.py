"""Any file as windows, and back to the byte: every chunk and every window can be read alone.

`compress_file` writes the chunks that `attar.coding.bitstream` describes, and reads each one back
before it is written; `decompress_file` tells what is damaged, and can go on behind it.
"""

import mmap
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from attar.artefacts import new_file
from attar.coding.bitstream import Chunk, End, Header, read_chunks, read_header
from attar.errors import DataError
from attar.portable.equal_info_windows import bytes_among, regroup
from attar.portable.tokenization_equal_info import EqualInfoTokenizer
from attar.runtime import Bar

CHUNK = 2**20
"""Bytes of the original in a chunk."""


@dataclass(frozen=True)
class Restored:
    """What came back of a file: bytes written, and one sentence for each thing that is wrong."""

    bytes: int
    damage: tuple[str, ...]


def compress_file(
    source: str | Path, *, tokenizer: EqualInfoTokenizer, output_file: str | Path
) -> tuple[int, int]:
    """Write a file as windows; each chunk is read back and compared before it is written.

    Args:
        source: any file.
        tokenizer: its dictionary is needed to read the file again.
        output_file: appears when it is complete.

    Returns:
        Bytes before and after.

    Raises:
        DataError: the source cannot be read, the disk is full, or a chunk did not come back, which
            would be a fault of Attar.
        ConfigError: the output file exists.
    """
    dictionary, bits = tokenizer.dictionary, tokenizer.window_bits
    before, index = 0, 0
    with _reading(source) as data, new_file(output_file) as out:
        out.write(Header(bits, dictionary.digest).to_bytes())
        size = os.fstat(data.fileno()).st_size
        progress = Bar(total=size, desc="compressing", unit="byte", unit_scale=True)
        while text := data.read(CHUNK):
            codes = dictionary.encode(np.frombuffer(text, np.uint8))
            payload = regroup(codes, bits=bits, to_bits=8).astype(np.uint8).tobytes()
            chunk = Chunk(index, len(codes), len(text), zlib.crc32(text), payload)
            if _text(chunk, tokenizer) != text:
                raise DataError(
                    f"chunk {index} of {source} did not come back as it was; nothing was written, "
                    "please report this"
                )
            out.write(chunk.to_bytes())
            before, index = before + len(text), index + 1
            progress.update(len(text))
        progress.close()
        out.write(End(index, before).to_bytes())
        after = out.tell()
    return before, after


def decompress_file(
    source: str | Path,
    *,
    tokenizer: EqualInfoTokenizer,
    output_file: str | Path,
    recover: bool = False,
) -> Restored:
    """Write the file that `compress_file` was given.

    Args:
        source: a file that `compress_file` wrote.
        tokenizer: the one it was written with.
        output_file: appears when it is complete.
        recover: of a damaged file write all that can be read. A flipped bit changes one window, a
            chunk with a broken head is left out.

    Raises:
        DataError: the file is damaged and `recover` is false; it is of another kind or tokenizer;
            the disk is full.
        ConfigError: the output file exists.
    """
    with _reading(source) as file, new_file(output_file) as out:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            data = b""
        header = read_header(data, name=str(source))
        if header.digest != tokenizer.dictionary.digest:
            raise DataError(
                f"expected the tokenizer that {source} was written with, whose hash begins with "
                f"{header.digest.hex()[:16]}, found {tokenizer.dictionary.digest.hex()[:16]}; give "
                "the folder of that tokenizer"
            )
        damage = []
        for text, wrong in _restore(data, tokenizer):
            out.write(text)
            damage += [wrong] if wrong else []
            if damage and not recover:
                raise DataError(
                    f"{source} is damaged: {damage[0]}; recover (--recover) writes what can be read"
                )
        size = out.tell()
    return Restored(size, tuple(damage))


def _restore(
    data: bytes | mmap.mmap, tokenizer: EqualInfoTokenizer
) -> Iterator[tuple[bytes, str | None]]:
    """The text of each chunk, and what is wrong there."""
    before, size, ended, whole = -1, 0, False, True
    for part in read_chunks(data, window_bits=tokenizer.window_bits):
        if isinstance(part, End):
            ended = True
            if part.chunks != before + 1:
                yield b"", f"it says that it has {part.chunks} chunks, the last is {before}"
            elif whole and part.size != size:
                yield b"", f"it says that it has {part.size} bytes, there are {size}"
            if part.after:
                yield b"", f"{part.after} bytes come after its end, which were not read"
            continue
        if part.index > before + 1:
            yield b"", f"chunks {before + 1} to {part.index - 1} are missing"
        if part.index <= before:
            yield b"", f"chunk {part.index} comes again or late"
        text = _text(part, tokenizer)
        wrong = None
        if not part.intact or zlib.crc32(text) != part.text_crc:
            whole = False
            wrong = (
                f"chunk {part.index}, bytes {size} to {size + len(text) - 1} of what is written, "
                f"holds changed windows ({part.size} bytes were written)"
            )
        yield text, wrong
        before, size = part.index, size + len(text)
    if not ended:
        yield b"", f"the file was cut off after chunk {before}"


def _text(chunk: Chunk, tokenizer: EqualInfoTokenizer) -> bytes:
    """What the windows of a chunk say, damaged ones among them."""
    codes = regroup(np.frombuffer(chunk.payload, np.uint8), bits=8, to_bits=tokenizer.window_bits)
    return bytes_among(tokenizer.dictionary.decode(codes[: chunk.windows]))


@contextmanager
def _reading(source: str | Path) -> Iterator[BinaryIO]:
    path = Path(source)
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise DataError(f"expected a file that you may read, found none at {str(source)!r}")
    with path.open("rb") as file:
        yield file
