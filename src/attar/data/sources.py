"""What a run trains on, row by row: packed windows of text, and the order in which rows come.

`attar.data.packing` has rows of conversations.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from attar.errors import ConfigError

Batch = dict[str, Tensor]
"""Tensors of one forward pass, such as `input_ids` (B, T) and `rows` (B,), the place of each row in
the data."""


class Source(Protocol):
    """Rows to train on."""

    tokens_per_row: float
    """How much a row holds, on average; for the log."""

    def __len__(self) -> int:
        """Rows there are."""
        ...

    def batch(self, rows: Sequence[int]) -> Batch:
        """These rows as one batch."""
        ...

    def counts(self, batch: Batch) -> dict[str, float]:
        """How many of each unit (`tokens`, `items`) a batch holds; the parts of the loss are
        divided by their sum over the whole step."""
        ...

    def fingerprint(self) -> str:
        """The same for the same rows only."""
        ...


def inputs_of(batch: Batch) -> Batch:
    """What a causal language model is given of a batch."""
    return {name: batch[name] for name in ("input_ids", "position_ids") if name in batch}


def on_targets(values: Tensor, batch: Batch) -> Tensor:
    """Values of every token but the first, (B, T - 1), with 0 for those that are no targets: a
    batch without `mask` has none of these."""
    return torch.where(batch["mask"][:, 1:], values, 0.0) if "mask" in batch else values


class Windows:
    """Packed text: every token of a window but the first is a target.

    Args:
        data: a packed data set (column `input_ids`) or a tensor (N, T).
    """

    def __init__(self, data: Dataset | Tensor) -> None:
        if len(data) == 0:
            raise ConfigError(
                "Training needs at least one window of text, but there is none; give more text."
            )
        self.data = data
        self.tokens_per_row = float(len(window(data, 0)))

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, rows: Sequence[int]) -> Batch:
        """`input_ids` (B, T) and `rows` (B,)."""
        ids = torch.stack([window(self.data, row) for row in rows])
        return {"input_ids": ids, "rows": torch.tensor(rows)}

    def select(self, rows: Sequence[int]) -> "Windows":
        """Some of the rows."""
        chosen = self.data.select(rows) if isinstance(self.data, Dataset) else self.data[list(rows)]
        return Windows(chosen)

    def counts(self, batch: Batch) -> dict[str, float]:
        """The target tokens."""
        return {"tokens": batch["input_ids"][:, 1:].numel()}

    def fingerprint(self) -> str:
        """Of all token ids."""
        return fingerprint(self.data)


class Order(Sequence[int]):
    """The rows that a whole run of `length` rows sees: fresh permutations drawn from a seed.

    A long run has a billion of them: they take 4 bytes each, or 8 from 2**31 rows on.

    Args:
        rows: there are.
        length: of the run.
        seed: of all draws.
    """

    def __init__(self, rows: int, *, length: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._rows = np.empty(length, np.int32 if rows < 2**31 else np.int64)
        for start in range(0, length, rows):
            part = self._rows[start : start + rows]
            one = part if len(part) == rows else np.empty(rows, part.dtype)
            one[:] = np.arange(rows, dtype=part.dtype)
            rng.shuffle(one)
            part[:] = one[: len(part)]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        return self._rows[index].tolist()


def window(data: Dataset | Tensor, row: int) -> Tensor:
    """Token ids (T,) of one row of a packed data set."""
    ids = data[row] if isinstance(data, Tensor) else data[row]["input_ids"]
    return torch.as_tensor(ids, dtype=torch.long)


def fingerprint(data: Dataset | Tensor) -> str:
    """SHA-256 of all token ids of a packed data set, the same for a data set and a tensor."""
    digest = hashlib.sha256()
    for start in range(0, len(data), 1024):
        rows = data[start : start + 1024]
        ids = rows if isinstance(rows, Tensor) else rows["input_ids"]
        digest.update(np.ascontiguousarray(np.asarray(ids, dtype="<i8")).tobytes())
    return digest.hexdigest()
