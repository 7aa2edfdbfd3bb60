"""What makes a batch more than the sum of its sentences: diversity, density and chance.

Candidates come in the order of their hash keys, which decides between equals.

- `badge`: k-means++ seeding (Arthur & Vassilvitskii 2007) on the gradients that the predicted
  labels would have, Ash et al. 2020, arXiv 1906.03671: unsure and unlike what is in the batch.
- `k_centre`: the greedy 2-approximation of the k-centre problem, Sener & Savarese 2018 (CoreSet),
  arXiv 1708.00489: far from all that is labelled.
- `densities`: how typical a sentence is of the pool; a score times density^beta is the information
  density of Settles & Craven 2008.
- `perturbed`: Gumbel-top-k on beta log(score), Kirsch et al. 2023, arXiv 2106.12059, which draws
  without replacement in proportion to score^beta; the only strategy whose probabilities are known.

Deviations (paper; here; why):
- BADGE's gradients are those of a network's last layer; here the gradient with respect to the
  weights of a linear model on the segmenter's features without a dictionary, for every kind of
  segmenter, hashed into 256 numbers with signs, which keeps inner products in expectation
  (Weinberger et al. 2009, arXiv 0902.2206).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.methods.active_segmentation.arms import keys
from attar.methods.active_segmentation.beliefs import Beliefs
from attar.methods.active_segmentation.features import features, lay_out
from attar.methods.active_segmentation.ngrams import ngram_vectors

Array = NDArray[np.float64]

#: texts whose n-grams are in memory at once before they are hashed
_TEXTS = 5000


def gradients(texts: Sequence[str], beliefs: Sequence[Beliefs], *, bits: int = 8) -> Array:
    """g = (1/n) sum_t (p_t - y_t) phi_t of each text, where y_t is 1 at the predicted cuts and
    phi_t the features of position t.

    Args:
        texts: N of them.
        beliefs: a segmenter's, of each.
        bits: of the number of columns.

    Returns:
        `(N, 2^bits)`.
    """
    layout = lay_out(texts)
    residuals = np.zeros(layout.rows)
    for start, text, belief in zip(layout.starts.tolist(), texts, beliefs, strict=True):
        row = residuals[start : start + len(text)]
        row[1:] = belief.cut_probabilities
        row[list(belief.cuts)] -= 1
        row /= len(text)
    # Only doubtful positions add something, and many are certain.
    rows = np.flatnonzero(residuals)
    residuals = residuals[rows]
    cells = (np.searchsorted(layout.starts, rows, side="right") - 1) << bits
    flat = np.zeros(len(texts) << bits)
    for values in features(layout, dictionary=None, bits=bits + 1):
        found = values[rows].astype(np.int64)
        signed = np.where(found & 1, residuals, -residuals)
        flat += np.bincount(cells + (found >> 1), weights=signed, minlength=len(flat))
    return flat.reshape(len(texts), 1 << bits)


def badge(gradients: NDArray[Any], *, generator: np.random.Generator) -> Iterator[int]:
    """All rows in the order of k-means++ seeding: the longest first, then each with a probability
    in proportion to its squared distance from the nearest that was taken.

    Args:
        gradients: `(N, D)`.
        generator: of the draws.

    Yields:
        Indices of rows, each once.
    """
    points = _Points(gradients)
    nearest = np.full(len(gradients), np.inf)
    taken = np.zeros(len(gradients), np.bool_)
    for place in range(len(gradients)):
        if place == 0:
            index = int(points.squares.argmax())
        else:
            reach = np.cumsum(nearest)
            if reach[-1] > 0:
                index = int(np.searchsorted(reach, generator.random() * reach[-1], side="right"))
            else:
                index = int(taken.argmin())
        taken[index] = True
        yield index
        np.minimum(nearest, points.distances(gradients[index]), out=nearest)
        nearest[taken] = 0


def k_centre(points: NDArray[Any], *, centres: NDArray[Any] | None = None) -> Iterator[int]:
    """All rows, each time the one that is farthest from its nearest centre; those taken become
    centres.

    Args:
        points: `(N, D)`.
        centres: `(M, D)`, what is labelled; None: nothing, and the first row comes first.

    Yields:
        Indices of rows, each once.
    """
    compared = _Points(points)
    nearest = np.full(len(points), np.inf)
    for centre in () if centres is None else centres:
        np.minimum(nearest, compared.distances(centre), out=nearest)
    for _ in range(len(points)):
        index = int(nearest.argmax())
        yield index
        np.minimum(nearest, compared.distances(points[index]), out=nearest)
        nearest[index] = -np.inf


def densities(texts: Sequence[str]) -> Array:
    """Mean cosine similarity of each text with all of them, `(N,)`, between 0 and 1, on counts of
    character 2- to 5-grams: the mean of cosines is one product with the mean vector.
    """
    if not texts:
        return np.zeros(0)
    parts = [ngram_vectors(texts[start : start + _TEXTS]) for start in range(0, len(texts), _TEXTS)]
    total = sum(part.sum(axis=0, dtype=np.float64) for part in parts)
    return np.concatenate([part @ (total / len(texts)) for part in parts])


def perturbed(scores: Array, uids: Sequence[str], *, beta: float, salt: str) -> Array:
    """beta log(score) plus Gumbel noise, `(N,)`: the largest are the draw.

    The noise is the sentence's own, by its hash, so that it does not depend on what else is in the
    pool.

    Args:
        scores: `(N,)`, not negative.
        uids: of the sentences.
        beta: 0 draws uniformly, infinity the largest scores.
        salt: of the draw.
    """
    uniform = keys(uids, salt) + 2.0**-54
    return _sharpened(scores, beta) - np.log(-np.log(uniform))


def inclusion(scores: Array, threshold: float, *, beta: float) -> Array:
    """The probability that `perturbed` of a score is above a threshold, `(N,)`: given what was left
    out first, that of being drawn (as in priority sampling, Duffield, Lund & Thorup 2007).
    """
    return -np.expm1(-np.exp(_sharpened(scores, beta) - threshold))


def _sharpened(scores: Array, beta: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scores > 0, beta * np.log(scores), -np.inf if beta else 0.0)


class _Points:
    """Rows that distances are taken from, in single precision: half the memory to go through."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows = np.ascontiguousarray(rows, np.float32)
        self.squares = np.einsum("nd,nd->n", self.rows, self.rows)

    def distances(self, point: NDArray[Any]) -> Array:
        """Squared Euclidean distances of all rows from a point, `(N,)`."""
        point = point.astype(np.float32)
        return np.maximum(self.squares - 2 * (self.rows @ point) + point @ point, 0)
