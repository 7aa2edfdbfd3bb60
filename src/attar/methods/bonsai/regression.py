"""From switched-off sets and their utilities to one value per piece: closed-form ridge on paired
masks (section 2.6).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: candidates for lambda, in units of trace(K) / n
GRID = np.logspace(-3, 3, 13)


@dataclass(frozen=True)
class Fit:
    """A fitted utility.

    Attributes:
        beta: value of keeping each piece, `(pieces,)`.
        penalty: the lambda that held-out pairs chose.
        tau: Kendall rank correlation between utilities and their held-out predictions.
        unusable: evaluations whose utility was not finite; they were ranked worst.
    """

    beta: Array
    penalty: float
    tau: float
    unusable: int


def fit_values(masks: Array, utilities: Array) -> Fit:
    """Ridge regression of utilities on keep-vectors.

    beta = X^T (K + lambda I)^-1 y with X centred, K = X X^T. lambda minimises the
    leave-one-*pair*-out error: rows 2r and 2r+1 are a mask and its complement, and leaving out only
    one of them would leak the other.

    Args:
        masks: `(n, pieces)`, 1 where a piece was kept; consecutive rows are complements on the
            pool.
        utilities: `(n,)`, larger is better; not-finite ones count as worse than the worst.
    """
    y, unusable = _finite(utilities)
    x = masks - masks.mean(0)
    centred = y - y.mean()
    n = len(y)
    kernel = x @ x.T
    scale = np.trace(kernel) / n or 1.0
    values, vectors = np.linalg.eigh(kernel)
    values = values.clip(0)
    errors, predictions = [], []
    for factor in GRID:
        shrink = values / (values + factor * scale)
        # the hat matrix of ridge with a free intercept
        hat = (vectors * shrink) @ vectors.T + 1 / n
        held_out = _leave_pair_out(hat, centred)
        predictions.append(centred - held_out)
        errors.append(float(np.square(held_out).mean()))
    best = int(np.argmin(errors))
    penalty = float(GRID[best] * scale)
    beta = x.T @ (vectors @ ((vectors.T @ centred) / (values + penalty)))
    return Fit(beta, penalty, kendall_tau(centred, predictions[best]), unusable)


def _finite(utilities: Array) -> tuple[Array, int]:
    """Replace what is not finite by a value below the worst finite one, so that neither side of a
    pair is dropped.
    """
    y = np.asarray(utilities, dtype=np.float64).copy()
    bad = ~np.isfinite(y)
    if bad.any():
        good = y[~bad]
        y[bad] = good.min() - max(1.0, float(np.ptp(good))) if len(good) else 0.0
    return y, int(bad.sum())


def _leave_pair_out(hat: Array, y: Array) -> Array:
    """Residuals of every pair under the fit without it: (I - H_SS)^-1 r_S."""
    residual = y - (hat - 1 / len(y)) @ y
    pairs = np.arange(len(y)).reshape(-1, 2)
    blocks = np.eye(2) - hat[pairs[:, :, None], pairs[:, None, :]]
    solved = np.linalg.solve(blocks + 1e-12 * np.eye(2), residual[pairs][..., None])
    return np.asarray(solved.reshape(-1), dtype=np.float64)


def kendall_tau(a: Array, b: Array) -> float:
    """Kendall's tau-b of two equally long vectors; 0 when either is constant."""
    upper = np.triu_indices(len(a), 1)
    da = np.sign(a[:, None] - a[None, :])[upper]
    db = np.sign(b[:, None] - b[None, :])[upper]
    norm = np.sqrt(np.square(da).sum() * np.square(db).sum())
    return float((da * db).sum() / norm) if norm else 0.0
