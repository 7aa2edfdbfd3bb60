"""Several levels of a filter bank along one axis as one matrix that slides over the samples.

J levels of a wavelet packet give, for every block of 2^J samples, 2^J coefficients that depend on
one window of samples around the block. So one product with a small matrix, or one convolution with
a stride, does them all, and takes hardly longer than one level, which is bound by memory. The way
back, and the gradient of either, have the same form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv1d

#: rows that the matrix of a product has at least
ROWS = 16


@dataclass(frozen=True, eq=False)
class Stage:
    """A circulant matrix of blocks: block `k` of the result, `size` values, is `matrix` times the
    `width` samples from `k * size - before` on.

    Attributes:
        matrix: (size, width), float64.
        before: samples of the window ahead of the block.
    """

    matrix: NDArray[np.float64]
    before: int

    @property
    def size(self) -> int:
        """Values of a block."""
        return self.matrix.shape[0]

    @property
    def width(self) -> int:
        """Samples of a window."""
        return self.matrix.shape[1]

    @cached_property
    def adjoint(self) -> "Stage":
        """The transpose of the whole matrix. Its windows are whole blocks."""
        size, width = self.matrix.shape
        first = (size - 1 - self.before - width) // size + 1
        shifts = range(first, (size - 1 + self.before) // size + 1)
        blocks = np.zeros((size, len(shifts), size))
        for place, shift in enumerate(shifts):
            for sample in range(size):
                # where this sample lies in the window of the block `shift` blocks further on
                column = sample + self.before - size * shift
                if 0 <= column < width:
                    blocks[sample, place] = self.matrix[:, column]
        return Stage(blocks.reshape(size, -1), -first * size)


def split_stage(low: Sequence[float], high: Sequence[float], *, levels: int) -> Stage:
    """All bands of so many levels of a filter bank; the bit of the first level is the highest.

    One level is `sum_r taps[r] x[2k - (n/2 - 1) + r]` of n taps, an even number.
    """
    taps = np.array([low, high])
    edge = taps.shape[1] // 2 - 1
    matrix, before = np.ones((1, 1)), 0
    for step in (2**level for level in range(levels)):
        rows, width = matrix.shape
        wider = np.zeros((rows, 2, width + step * (taps.shape[1] - 1)))
        for tap in range(taps.shape[1]):
            wider[:, :, step * tap : step * tap + width] += (
                matrix[:, None] * taps[None, :, tap, None]
            )
        matrix, before = wider.reshape(2 * rows, -1), before + step * edge
    used = np.flatnonzero(matrix.any(0))
    return Stage(matrix[:, used[0] : used[-1] + 1], before - int(used[0]))


@dataclass(frozen=True)
class Plan:
    """How a run of blocks is joined.

    Attributes:
        cuts: of each stage, which part of what it gives the stage before it uses.
        ahead: positions of the coefficients ahead of the run from which on they are needed.
        span: positions in all.
    """

    cuts: tuple[slice, ...]
    ahead: int
    span: int

    def back(self, stages: Sequence[Stage]) -> list[tuple[Stage, slice]]:
        """The stages in the order in which they are undone."""
        return list(zip(stages, self.cuts, strict=True))[::-1]


def plan_join(stages: Sequence[Stage], blocks: int) -> Plan:
    """For a run of so many blocks of all stages together."""
    cuts = []
    low, high = 0, blocks * block_size(stages)
    for stage in stages:
        start, stop = low // stage.size, -(-high // stage.size)
        cuts.append(slice(low - start * stage.size, high - start * stage.size))
        low = start - stage.before // stage.size
        high = stop - 1 + (stage.width - stage.before) // stage.size
    return Plan(tuple(cuts), -low, high - low)


def slide(values: Tensor, stage: Stage) -> Tensor:
    """A stage along the first axis of (samples, Z), as far as the samples reach: (K, size, Z)."""
    inner, size = values.shape[1], stage.size
    blocks = (len(values) - stage.width) // size + 1
    out = values.new_empty(blocks, size, inner)
    done = 0
    # several blocks at once, so that the matrix has enough rows; then what is left
    for tile in (max(1, ROWS // size), 1):
        if count := (blocks - done) // tile:
            matrix = sliding_matrix(stage, values, tile=tile)
            windows = values[done * size :].as_strided(
                (count, matrix.shape[1], inner), (tile * size * inner, inner, 1)
            )
            target = out[done : done + count * tile].view(count, tile * size, inner)
            torch.bmm(matrix.expand(count, -1, -1), windows, out=target)
            done += count * tile
    return out


def split(values: Tensor, stages: Sequence[Stage]) -> Tensor:
    """All stages along the last axis of (N, samples): (N * S, K)."""
    for stage in stages:
        kernel = sliding_matrix(stage, values)[:, None]
        values = conv1d(values[:, None], kernel, stride=stage.size).flatten(0, 1)
    return values


def join(values: Tensor, stages: Sequence[Stage], *, plan: Plan) -> Tensor:
    """All stages, the last one first, along the last axis of (N * S, positions): (N, K, size), the
    samples of the blocks of the first stage.
    """
    *later, (first, _) = plan.back(stages)
    for stage, cut in later:
        values = _join_one(values, stage).flatten(1)[:, cut]
    return _join_one(values, first)


def _join_one(values: Tensor, stage: Stage) -> Tensor:
    # the values of a block are channels here, and a window is whole blocks
    kernel = sliding_matrix(stage, values).unflatten(1, (-1, stage.size)).transpose(1, 2)
    return conv1d(values.unflatten(0, (-1, stage.size)), kernel).transpose(1, 2)


def sliding_matrix(stage: Stage, like: Tensor, *, tile: int = 1) -> Tensor:
    """The matrix of so many neighbouring blocks at once: (tile * size, their window)."""
    return torch.from_numpy(_tiled(stage, tile, like.dtype == torch.float32)).to(like.device)


@cache
def _tiled(stage: Stage, tile: int, single: bool) -> NDArray[np.floating]:
    size, width = stage.matrix.shape
    matrix = np.zeros((tile, size, (tile - 1) * size + width), np.float32 if single else np.float64)
    for block in range(tile):
        matrix[block, :, block * size : block * size + width] = stage.matrix
    return matrix.reshape(tile * size, -1)


def block_size(stages: Sequence[Stage]) -> int:
    """S: samples of a block of all stages together."""
    return prod(stage.size for stage in stages)


def window(stages: Sequence[Stage], blocks: int) -> tuple[int, int]:
    """How many samples ahead of a run of blocks the window of its coefficients starts, and the
    samples of that window.
    """
    before, span = 0, blocks
    for stage in reversed(stages):
        before = before * stage.size + stage.before
        span = (span - 1) * stage.size + stage.width
    return before, span
