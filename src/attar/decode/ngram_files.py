"""The files of a store of n-grams: what they hold, and whether they are whole."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import ConfigError, require

FORMAT = "attar-ngrams-1"
META = "meta.json"
TOKENS, POSITIONS, STARTS = "tokens.bin", "pos.bin", "starts.bin"
FOLLOWING = "csr_{n}.bin"
"""What follows the contexts of one token (2) and of two (3) that are frequent."""
TOKENIZER = "tokenizer"
"""The folder of the tokenizer in a store."""
FREQUENT = 2048
"""Occurrences from which on a short context is listed: to count fewer takes microseconds."""
_BLOCK, _BLOCKS = 4096, 1024  # of a file, in bytes, that its checksum reads

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Following:
    """What follows the frequent contexts of one length.

    Attributes:
        starts: where the range of each context begins, rising, `(R,)`.
        offsets: where its row begins and the next one's, `(R + 1,)`.
        tokens: rows of tokens, the most frequent one first, `(E,)`.
        counts: how often each of them follows, `(E,)`.
    """

    starts: NDArray[np.uint32]
    offsets: NDArray[np.uint32]
    tokens: NDArray[np.uint32]
    counts: NDArray[np.uint32]

    @classmethod
    def of(cls, array: NDArray[np.uint32], *, contexts: int) -> "Following":
        """The parts of what one file holds."""
        starts, offsets, rows = np.split(array, [contexts, 2 * contexts + 1])
        return cls(starts, offsets, *np.split(rows, 2))

    def row(self, start: int) -> tuple[Integers, Integers]:
        """Tokens and counts after the context whose range begins there."""
        at = int(np.searchsorted(self.starts[:-1], start))
        row = slice(int(self.offsets[at]), int(self.offsets[at + 1]))
        return self.tokens[row].astype(np.int64), self.counts[row].astype(np.int64)


def by_count(tokens: NDArray[Any], separator: int) -> tuple[Integers, Integers]:
    """The different tokens among some, without the separator, and how often each occurs, the most
    frequent one first; of equally frequent ones the one with the smaller id."""
    found, counts = np.unique(tokens, return_counts=True)
    kept = found != separator
    found, counts = found[kept].astype(np.int64), counts[kept]
    order = np.argsort(-counts, kind="stable")
    return found[order], counts[order].astype(np.int64)


def require_order(order: int) -> None:
    """Refuse n-grams that are too short or too long.

    Raises:
        ConfigError: they are.
    """
    require(isinstance(order, int) and 2 <= order <= 8, "order", order, "2 to 8")


def checksum(file: Path) -> int:
    """CRC-32 of a file's size and of 4 MB spread over it: of a small file that is all of it."""
    size = file.stat().st_size
    blocks = -(-size // _BLOCK)
    total = zlib.crc32(str(size).encode())
    with file.open("rb") as raw:
        for i in range(min(blocks, _BLOCKS)):
            raw.seek(i * blocks // min(blocks, _BLOCKS) * _BLOCK)
            total = zlib.crc32(raw.read(_BLOCK), total)
    return total


def damage_of(folder: Path, meta: Any) -> str:
    """What is wrong with the files of a store, as part of a sentence; empty where nothing is."""
    try:
        if meta["format"] != FORMAT:
            return f"{META} names the format {meta['format']!r}, expected {FORMAT!r}"
        require_order(meta["order"])
        if meta["dtype"] not in ("uint16", "uint32"):
            return f"{META} names tokens of the type {meta['dtype']!r}"
        names = {TOKENS, POSITIONS, STARTS, *(FOLLOWING.format(n=n) for n in meta["frequent"])}
        sizes = {name: meta["files"][name]["bytes"] for name in names}
        length = sizes[TOKENS] // np.dtype(meta["dtype"]).itemsize
        if sizes[POSITIONS] != 4 * length or sizes[STARTS] != 4 * (meta["vocab_size"] + 1):
            return f"the sizes in {META} contradict each other"
        for n, contexts in meta["frequent"].items():
            if (sizes[FOLLOWING.format(n=n)] // 4 - 2 * contexts - 1) % 2:
                return f"the sizes in {META} contradict each other"
        for name in sorted(names):
            file = folder / name
            found = file.stat().st_size if file.is_file() else 0
            if found != sizes[name]:
                return f"{name} has {found:,} bytes, expected {sizes[name]:,}"
            if checksum(file) != meta["files"][name]["crc32"]:
                return f"the checksum of {name} is another"
    except (KeyError, TypeError, ValueError, ConfigError, AttributeError):
        return f"{META} lacks what a store has"
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""
