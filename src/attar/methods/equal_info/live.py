"""Windows too long to list: their strings are worked out as they come, by a model of integers."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.methods.equal_info.ngram import NgramModel
from attar.methods.equal_info.windows import StopCoder


class LiveWindows(StopCoder):
    """What `attar.equal_info_windows.WindowDictionary` is for short windows, for long ones.

    Args:
        model: counts of n-grams; it travels with the tokenizer.
        window_bits: up to 32.
    """

    def __init__(self, model: NgramModel, *, window_bits: int) -> None:
        super().__init__(model, window_bits=window_bits)
        self._counts = model

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the window's bits and all counts."""
        found = hashlib.sha256(f"live windows 1 {self.window_bits}\n".encode())
        found.update(np.asarray([self.model.alphabet, self.model.precision], "<i8").tobytes())
        for keys, counts in zip(self._counts.keys, self._counts.counts, strict=True):
            found.update(keys.astype("<i8").tobytes() + counts.astype("<i8").tobytes())
        return found.digest()

    def sizes(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Symbols of the string of each code."""
        return np.asarray([len(self._string(int(code))) for code in codes], np.int64)

    def save(self, file: str | Path) -> None:
        """Write the counts."""
        self._counts.save(Path(file))

    @classmethod
    def load(cls, file: str | Path, *, window_bits: int) -> "LiveWindows":
        """Read what `save` wrote."""
        return cls(NgramModel.load(Path(file)), window_bits=window_bits)
