"""Packed windows of token ids, and the order in which a run sees them."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor

from attar.errors import ConfigError

Batch = dict[str, Tensor]
"""`input_ids` (B, T) and `rows` (B,), the position of each window in the packed data set."""


class Windows(torch.utils.data.Dataset[Batch]):
    """The rows that a whole run sees, in order.

    Each pass over the data is a fresh permutation drawn from `seed`.

    Args:
        data: a packed data set (column `input_ids`) or a tensor (N, T).
        length: rows that the run needs; passes over the data repeat until they are enough.
    """

    def __init__(self, data: Dataset | Tensor, *, length: int, seed: int) -> None:
        if len(data) == 0:
            raise ConfigError(
                "Training needs at least one window of text, but there is none; give more text."
            )
        self.data = data
        rng = np.random.default_rng(seed)
        passes = [rng.permutation(len(data)) for _ in range(-(-length // len(data)))]
        self.order = np.concatenate(passes)[:length]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        row = int(self.order[index])
        return {"input_ids": window(self.data, row), "rows": torch.tensor(row)}


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


def source_name(source: str | Path | Dataset | DatasetDict) -> str:
    """How a data source is named in records: its name or path, or how many rows a data set in
    memory has."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Dataset):
        return f"a data set of {len(source)} rows"
    return (
        f"a data set of {', '.join(f'{len(rows)} {split}' for split, rows in source.items())} rows"
    )
