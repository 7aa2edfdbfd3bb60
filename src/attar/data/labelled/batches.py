"""Labelled examples as a source of training batches: held in memory as flat arrays, padded late.

Reading rows from a data set one by one would take longer than a step of a small student.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from attar.data.labelled.items import items, labelled
from attar.data.labelled.task import Task
from attar.data.sources import Batch
from attar.errors import DataError

_RAGGED = ("input_ids", "token_type_ids", "word_starts")


class Examples:
    """Encoded examples; a batch is as wide as its longest one.

    Args:
        encoded: what `encode` gave. A column `source` says which example a row came from, where
            rows are augmented copies of others; without it every row is its own.
        task: what is to be learnt.
        tokenizer: whose padding is used.
        copies: every row is followed by this many others in its batch: with N originals, row i by
            rows i + N, i + 2N and so on. 0: all rows stand for themselves.

    Attributes:
        largest: the largest of all token ids.
    """

    def __init__(
        self,
        encoded: Dataset,
        *,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        copies: int = 0,
    ) -> None:
        if len(encoded) == 0:
            raise DataError("expected examples to train on, found none; give more rows")
        self.task, self._copies = task, copies
        lengths = [len(row) for row in encoded["input_ids"]]
        self._ends = np.cumsum([0, *lengths])
        present = [name for name in _RAGGED if name in encoded.column_names]
        self._flat = {name: _flatten(encoded[name], np.int64) for name in present}
        self.largest = int(self._flat["input_ids"].max(initial=0))
        pad: Any = tokenizer.pad_token_id
        # A model may lack a padding token that was added to its tokenizer; it is masked anyway.
        self._pad = int(pad) if pad is not None and pad <= self.largest else 0
        self._dense: dict[str, np.ndarray] = {}
        for name in ("labels", "start_positions", "end_positions"):
            if name not in encoded.column_names:
                continue
            if task.kind == "token_classification":
                self._flat[name] = _flatten(encoded[name], np.int64)
            else:
                values = np.asarray(encoded[name])
                floats = np.issubdtype(values.dtype, np.floating)
                self._dense[name] = values.astype(np.float32) if floats else values
        named = "source" in encoded.column_names
        self._dense["source"] = np.asarray(encoded["source"] if named else range(len(encoded)))
        self.tokens_per_row = float(np.mean(lengths)) * (1 + copies)

    def __len__(self) -> int:
        """Rows, or groups of a row and its copies."""
        return (len(self._ends) - 1) // (1 + self._copies)

    def length(self, row: int) -> int:
        """Tokens of a row."""
        return int(self._ends[row + 1] - self._ends[row])

    def batch(self, rows: Sequence[int]) -> Batch:
        """`input_ids`, `attention_mask` and what the task needs, `(B, T)`; `labels`; and `rows` and
        `source`, `(B,)`."""
        step = len(self)
        rows = [row + step * k for row in rows for k in range(1 + self._copies)]
        spans = [(self._ends[row], self._ends[row + 1]) for row in rows]
        width = max(end - start for start, end in spans)
        columns = {name: np.full((len(rows), width), self._filler(name)) for name in self._flat}
        columns["attention_mask"] = np.zeros((len(rows), width), dtype=np.int64)
        for line, (start, end) in enumerate(spans):
            columns["attention_mask"][line, : end - start] = 1
            for name, values in self._flat.items():
                columns[name][line, : end - start] = values[start:end]
        tensors = {name: torch.from_numpy(value) for name, value in columns.items()}
        dense = {name: torch.from_numpy(values[rows]) for name, values in self._dense.items()}
        return tensors | dense | {"rows": torch.tensor(rows)}

    def _filler(self, name: str) -> int:
        return {"input_ids": self._pad, "labels": -100}.get(name, 0)

    def counts(self, batch: Batch) -> dict[str, float]:
        """`rows`; `tokens` without padding; `items` that are predicted; those that are
        `labelled`."""

        def count(mask: Tensor) -> float:
            return float(mask.sum())

        return {
            "rows": float(len(batch["rows"])),
            "tokens": count(batch["attention_mask"]),
            "items": count(items(batch, self.task)),
            "labelled": count(labelled(batch, self.task)),
        }

    def fingerprint(self) -> str:
        """Of all ids, labels and sources."""
        digest = hashlib.sha256(self._ends.tobytes())
        for name, values in sorted((self._flat | self._dense).items()):
            digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def _flatten(rows: Sequence[Sequence[int]], kind: type) -> np.ndarray:
    return np.concatenate([np.asarray(row, dtype=kind) for row in rows])
