"""What both linear segmenters are fitted by: sums over the features of rows, and L-BFGS."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from attar.compiled import compiled
from attar.data.segments.cuts import Segmented
from attar.data.segments.legal import illegal
from attar.methods.active_segmentation.chain import BEGIN, EITHER, INSIDE, Bytes, Floats
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.features import REACH, Layout

Indices = NDArray[np.int32]
Loss = Callable[[Floats], tuple[float, Floats]]


def permitted(layout: Layout, *, legal: bool) -> Bytes:
    """The states that a segmentation may have at each row, `(R,)`: a text begins with a word, and
    with `legal` no word begins at an illegal position, nor between texts."""
    edges = np.bincount(layout.starts, minlength=layout.rows + 1)
    edges -= np.bincount(layout.stops, minlength=layout.rows + 1)
    allowed = np.where(np.cumsum(edges[:-1]) > 0, EITHER, INSIDE).astype(np.uint8)
    if legal:  # characters of a gap join no cluster
        allowed[illegal(layout.text)[REACH - 1 :][: layout.rows]] = INSIDE
    allowed[layout.starts[layout.starts < layout.stops]] = BEGIN
    return allowed


def constrained(rows: Sequence[Segmented], layout: Layout, *, allowed: Bytes) -> Bytes:
    """The states that agree with the labels, `(R,)`. A cut where `allowed` has none is left out:
    else the text would be impossible."""
    agreeing = allowed.copy()
    for row, start in zip(rows, layout.starts.tolist(), strict=True):
        here = agreeing[start : start + len(row.text)]
        label = np.full(len(here), INSIDE if row.decided is None else EITHER, np.uint8)
        if row.decided is not None:
            label[list(row.decided)] = INSIDE
            label[[cut for cut in row.cuts if cut in {*row.decided}]] = BEGIN
        else:
            label[list(row.cuts)] = BEGIN
        undecided = here == EITHER
        here[undecided] = label[undecided]
    return agreeing


def tags_of(rows: Sequence[Segmented], config: SegmenterConfig) -> list[str] | None:
    """The guideline of each row, where they are told apart; one without is of the present one."""
    if config.tag is None:
        return None
    return [str(row.meta.get("guideline", config.tag)) for row in rows]


def compact(matrix: Indices, *, bits: int) -> NDArray[np.int64]:
    """Number the features from 0 by those that occur, frequent ones first, in place; returns what
    each was before. Neighbours in memory are then used together."""
    counts = np.zeros(2**bits, np.int64)
    for column in range(matrix.shape[1]):
        counts += np.bincount(matrix[:, column], minlength=2**bits)
    used = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    numbers = np.zeros(2**bits, np.int32)
    numbers[used] = np.arange(len(used), dtype=np.int32)
    for column in range(matrix.shape[1]):
        matrix[:, column] = numbers[matrix[:, column]]
    return used


def minimum(loss: Loss, *, size: int, iterations: int) -> Floats:
    """The `(size,)` values after so many iterations of L-BFGS from zero at most."""
    options = {"maxiter": iterations, "maxcor": 6, "maxfun": 4 * iterations + 20}
    return minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", options=options).x


@compiled
def add_up(matrix, values):
    """The sum of the values of each row's features, `(R,)`."""
    sums = np.empty(len(matrix))
    for row in range(len(matrix)):
        total = 0.0
        for column in range(matrix.shape[1]):
            total += values[matrix[row, column]]
        sums[row] = total
    return sums


@compiled
def spread(errors, matrix, gradient):
    """Add each row's error to the gradient of each of its features."""
    for row in range(len(matrix)):
        error = errors[row]
        if error != 0.0:
            for column in range(matrix.shape[1]):
                gradient[matrix[row, column]] += error
