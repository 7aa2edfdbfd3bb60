"""Batches of latents: which rows, where they are cropped, and their integers in one array."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import ClassLabel, Dataset, Value
from numpy.typing import NDArray

from attar.codec.compressing import LATENTS
from attar.coding.latent_file import from_bytes
from attar.coding.latents import Latents
from attar.errors import DataError

Batch = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Rows (B,), and where they are cropped (B, axes): 0 at the first place that there is, 1 at the
last."""


def batches_of(
    grids: NDArray[np.int64], *, size: int, seed: Sequence[int] | None, drop_last: bool
) -> list[Batch]:
    """The batches of a pass, each of one grid.

    Args:
        grids: of each row, (N, axes).
        size: rows of a batch.
        seed: of order and places; None: rows in order, cropped in the middle.
        drop_last: leave out the last batch of a grid, if it is not full.
    """
    rng = None if seed is None else np.random.default_rng(seed)
    count, axes = grids.shape
    order = np.arange(count) if rng is None else rng.permutation(count)
    places = np.full((count, axes), 0.5) if rng is None else rng.random((count, axes))
    _, group = np.unique(grids[order], axis=0, return_inverse=True)
    sorted_rows = order[np.argsort(group.reshape(-1), kind="stable")]
    ends = np.cumsum(np.bincount(group.reshape(-1))).tolist()
    batches = list[Batch]()
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        last = end - (end - start) % size if drop_last else end
        for at in range(start, last, size):
            rows = sorted_rows[at : min(at + size, last)]
            batches.append((rows, places[rows]))
    if rng is None:
        return batches
    return [batches[i] for i in rng.permutation(len(batches))]


def numeric_columns(rows: Dataset) -> list[str]:
    """The columns of numbers, one a row, and of classes."""
    plain = ("int", "uint", "float", "bool", "double")
    return [
        name
        for name, kind in rows.features.items()
        if isinstance(kind, ClassLabel)
        or (isinstance(kind, Value) and kind.dtype.startswith(plain))
    ]


@dataclass(frozen=True)
class Rows:
    """Rows as `torch.utils.data.DataLoader` reads them, a batch at a time.

    Attributes:
        table: with the column of latents.
        columns: others that are read.
        crop: positions along each axis; None: rows of a batch have one grid.
        whole: give the whole grid all the same: the crop comes after decoding.
        fingerprint: of the codec.
        shape: stages and channels of its latents.
    """

    table: Dataset
    columns: Sequence[str]
    crop: tuple[int, ...] | None
    whole: bool
    fingerprint: str
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.table)

    def __getitems__(self, batch: Batch) -> dict[str, Any]:
        """`latents` int16 (B, stages, c, *grid), `places`, `grid`, `sizes` and `before` (B, axes),
        and the columns.

        Raises:
            DataError: a file is damaged, or of another codec.
        """
        rows, shares = batch
        names = [*self.columns, LATENTS]
        table: Any = self.table.select_columns(names).with_format("arrow")[rows.tolist()]
        facts = {name: list[tuple[int, ...]]() for name in ("places", "grid", "sizes", "before")}
        integers: NDArray[np.int16] | None = None
        # each is copied as soon as it is read, so that the next one takes its memory
        for number, (file, row, share) in enumerate(
            zip(table[LATENTS].to_pylist(), rows.tolist(), shares, strict=True)
        ):
            one = self._read(file, row)
            grid = one.stages[0].shape[1:]
            crop = grid if self.crop is None else self.crop
            room = np.maximum(np.subtract(grid, crop), 0)
            place = tuple((share * (room + 1)).astype(int).tolist())
            given = grid if self.whole else crop
            if integers is None:
                integers = np.zeros((len(rows), *self.shape, *given), np.int16)
            if integers.shape[3:] != tuple(given):
                raise DataError(
                    f"expected a grid of {integers.shape[3:]} in row {row}, as its "
                    f"size is that of others, found {grid}; encode the data again"
                )
            start = (0,) * len(grid) if self.whole else place
            for depth, stage in enumerate(one.stages):
                read = (slice(at, at + side) for at, side in zip(start, given, strict=True))
                part = stage[(slice(None), *read)]
                integers[(number, depth, *(slice(side) for side in part.shape))] = part
            positions = tuple(map(min, grid, crop))
            for name, fact in zip(facts, (place, positions, one.size, one.before), strict=True):
                facts[name].append(fact)
        found = {name: _values(table[name], name, rows) for name in self.columns}
        found |= {name: torch.tensor(values) for name, values in facts.items()}
        assert integers is not None  # a batch has rows
        return found | {LATENTS: torch.from_numpy(integers)}

    def _read(self, file: bytes, row: int) -> Latents:
        name = f"row {row}"
        latents = from_bytes(file, name=name)
        latents.require_codec(self.fingerprint, name=name)
        stages, channels = self.shape
        if len(latents.stages) != stages or latents.stages[0].shape[0] != channels:
            raise DataError(
                f"expected {stages} stages of {channels} channels in {name}, found "
                f"{len(latents.stages)} of {latents.stages[0].shape[0]}; encode the data again"
            )
        return latents


def _values(column: pa.ChunkedArray, name: str, rows: NDArray[np.int64]) -> Any:
    """A column as a tensor if it holds numbers, else as a list.

    Raises:
        DataError: a number is not there.
    """
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return column.to_pylist()
    if column.null_count:
        bare = rows[column.is_null().to_numpy()][0]
        raise DataError(
            f"expected a number in column {name!r} of row {bare}, found nothing; leave such rows "
            "out, or name other columns"
        )
    return torch.from_numpy(np.array(column.to_numpy()))
