"""Packing: several conversations in a row of fixed length, none of which sees another.

Positions restart with each conversation. transformers detects that in `position_ids` and keeps
attention within each one; where a class does not, every conversation gets a row of its own.
"""

import hashlib
import logging
from bisect import bisect_left
from collections.abc import Sequence
from copy import copy
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from attar.data.chats import ANSWERED
from attar.data.sources import Batch
from attar.errors import DataError
from attar.models import inference

logger = logging.getLogger(__name__)


class Conversations:
    """A source of rows (see `attar.data.sources.Source`) in which the tokens of the assistant are
    the targets.

    A conversation that is longer than a row is truncated, and left out if no answer is left.

    Args:
        rows: what `attar.data.chats.load_documents` gives.
        context: tokens in a row, at most.
        packed: put several conversations into a row; every model that reads the rows must keep
            them apart (`keeps_apart`).

    Raises:
        DataError: no answer begins within a row.
    """

    def __init__(self, rows: Dataset, *, context: int, packed: bool) -> None:
        self._ids, self._answered = (_column(rows, name) for name in ("input_ids", ANSWERED))
        self._context, self._packed = context, packed
        lengths = [min(len(row), context) for row in self._ids]
        kept = [i for i, row in enumerate(self._answered) if row[1:context].any()]
        _warn(lengths, [len(row) for row in self._ids], kept=len(kept), context=context)
        self._rows = fill_rows(kept, lengths, room=context) if packed else [[i] for i in kept]
        self.conversations = len(kept)
        self.width = max(sum(lengths[i] for i in row) for row in self._rows)
        self.tokens_per_row = sum(lengths[i] for i in kept) / len(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def select(self, rows: Sequence[int]) -> "Conversations":
        """Some of the rows."""
        chosen = copy(self)
        chosen._rows = [self._rows[row] for row in rows]
        return chosen

    def batch(self, rows: Sequence[int]) -> Batch:
        """`input_ids` (B, T), `mask` (B, T), true for the targets, `rows` (B,), and for packed rows
        `position_ids` (B, T)."""
        ids = torch.zeros(len(rows), self.width, dtype=torch.long)
        mask = torch.zeros(len(rows), self.width, dtype=torch.bool)
        positions = torch.arange(self.width).repeat(len(rows), 1)
        for at, row in enumerate(rows):
            start = 0
            for number in self._rows[row]:
                own = torch.from_numpy(self._ids[number][: self._context].astype(np.int64))
                end = start + len(own)
                ids[at, start:end] = own
                mask[at, start:end] = torch.from_numpy(self._answered[number][: self._context])
                mask[at, start] = False  # what comes before it is another conversation
                positions[at, start:] = torch.arange(self.width - start)
                start = end
            positions[at, start:] = torch.arange(self.width - start)
        batch = {"input_ids": ids, "mask": mask, "rows": torch.tensor(rows)}
        return batch | ({"position_ids": positions} if self._packed else {})

    def counts(self, batch: Batch) -> dict[str, float]:
        """The tokens of the assistant."""
        return {"tokens": float(batch["mask"][:, 1:].sum())}

    def fingerprint(self) -> str:
        """Of all ids and targets, row by row."""
        digest = hashlib.sha256(repr((self.width, self._packed)).encode())
        for row in range(len(self)):
            batch = self.batch([row])
            digest.update(batch["input_ids"].numpy().tobytes())
            digest.update(batch["mask"].numpy().tobytes())
        return digest.hexdigest()


def keeps_apart(model: PreTrainedModel) -> bool:
    """Whether this model keeps conversations in a packed row apart: other ids in the first do not
    change the logits of the second."""
    half = min(8, _vocabulary(model) - 1)
    ids = torch.arange(2 * half).remainder(_vocabulary(model)).repeat(2, 1)
    ids[1, :half] = ids[1, :half].flip(0)
    positions = torch.arange(half).repeat(2, 2)
    try:
        with inference(model):
            logits = model(
                input_ids=ids.to(model.device),
                position_ids=positions.to(model.device),
                use_cache=False,
            ).logits[:, half:]
    except TypeError:  # a class that takes no position_ids
        return False
    one, other = logits.float()
    return bool((one - other).abs().max() <= 1e-3 * one.std())


def _vocabulary(model: PreTrainedModel) -> int:
    return next(model.get_input_embeddings().parameters()).shape[0]


def _column(rows: Dataset, name: str) -> list[np.ndarray]:
    """The lists of a column, without a copy of their contents."""
    table = rows.with_format("arrow")[:]
    column: pa.ChunkedArray = table[name]
    return [
        array.flatten().to_numpy(zero_copy_only=False)[start - first : end - first]
        for array in column.chunks
        for first in [array.offsets[0].as_py()]
        for start, end in pairwise(array.offsets.to_numpy())
    ]


def fill_rows(numbers: Sequence[int], lengths: Sequence[int], *, room: int) -> list[list[int]]:
    """Rows of conversations by best fit, the longest first."""
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # by the room that is left
    rooms: list[int] = []
    for number in sorted(numbers, key=lambda i: -lengths[i]):
        at = bisect_left(rooms, lengths[number])
        if at == len(rooms):
            row, left = len(rows), room
            rows.append([])
        else:
            left = rooms[at]
            row = open_rows[left].pop()
            if not open_rows[left]:
                del open_rows[left], rooms[at]
        rows[row].append(number)
        left -= lengths[number]
        if left not in open_rows:
            rooms.insert(bisect_left(rooms, left), left)
        open_rows.setdefault(left, []).append(row)
    return rows


def _warn(lengths: Sequence[int], whole: Sequence[int], *, kept: int, context: int) -> None:
    """Warn of conversations that are truncated or left out.

    Raises:
        DataError: nothing is left.
    """
    truncated = sum(a < b for a, b in zip(lengths, whole, strict=True))
    if not kept:
        raise DataError(
            f"expected answers within {context} tokens, found only conversations whose first "
            "answer begins later; raise context"
        )
    if truncated:
        logger.warning(
            "%d of %d conversations are longer than %d tokens and are truncated, and %d of them "
            "are left out, as no answer begins within these; raise context to keep them",
            *(truncated, len(whole), context, len(whole) - kept),
        )
