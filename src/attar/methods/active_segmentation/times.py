"""How long each annotator takes, by what there was to do: a regression of seconds on characters and
corrections. Sentences that a model picks are longer or shorter and need more corrections, so the
mean time of an answer says as much about the arm as about the person.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from attar.methods.active_segmentation.labels import Label

#: answers for each number of the regression, at least
_EACH = 5
#: times that the errors are weighed anew by the times that were fitted
_ROUNDS = 5


@dataclass(frozen=True)
class Pace:
    """What one annotator's answers take, in seconds; none is below 0.

    What the answers do not tell is None: corrections where there were none or always as many,
    positions where none were asked about, characters where no whole sentence was.
    """

    answers: int
    each: float
    """Of any answer, whatever its size."""
    character: float | None
    """Of each character of a whole sentence."""
    correction: float | None
    """Of each offset changed in it."""
    position: float | None
    """Of each position that was asked about, where that is not the whole sentence."""
    spread: float
    """Standard deviation of the times, as a share of those that the numbers above give."""

    def sentence(self, *, characters: float, corrections: float) -> float | None:
        """Seconds that a whole sentence takes; None: that is not known."""
        if self.character is None or (corrections and self.correction is None):
            return None
        return self.each + self.character * characters + (self.correction or 0.0) * corrections


def paces(labels: Iterable[Label], *, texts: Mapping[str, str]) -> dict[str, Pace]:
    """The pace of each annotator with enough answers to tell.

    Args:
        labels: answers that stand, see `labels.answers`; those without a time are passed over.
        texts: of the sentences by `uid`; answers to others are passed over.
    """
    of_each: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        if _timed(label, texts):
            of_each[label.annotator].append(label)
    found = {name: _pace(rows, texts) for name, rows in sorted(of_each.items())}
    return {name: pace for name, pace in found.items() if pace is not None}


def typical(labels: Iterable[Label], *, texts: Mapping[str, str]) -> tuple[float, float]:
    """Characters and corrections of the mean sentence that was answered as a whole; 0 if none. Of
    answers without a time nobody knows what was corrected; they are passed over, as in `paces`."""
    whole = [row for row in labels if _timed(row, texts) and row.decided is None]
    sizes = [_sizes(row, texts)[1:3] for row in whole]
    characters, corrections = np.mean(sizes, axis=0).tolist() if sizes else (0.0, 0.0)
    return characters, corrections


def _timed(label: Label, texts: Mapping[str, str]) -> bool:
    return bool(label.seconds) and label.uid in texts and label.status == "submitted"


def _pace(rows: Sequence[Label], texts: Mapping[str, str]) -> Pace | None:
    """By least squares of relative errors, as long answers vary more than short ones."""
    sizes = np.array([_sizes(row, texts) for row in rows], float)
    seconds = np.array([row.seconds for row in rows], float)
    there = list[int]()  # what varies by itself
    for column in range(sizes.shape[1]):
        if np.linalg.matrix_rank(sizes[:, [*there, column]]) > len(there):
            there.append(column)
    used = sizes[:, there]
    if len(rows) < _EACH * len(there) or len(there) < 2:
        return None
    fitted = np.full(len(rows), seconds.mean())
    parts: NDArray[np.float64] = np.zeros(len(there))
    for _ in range(_ROUNDS):
        parts = nnls(used / fitted[:, None], seconds / fitted)[0]
        fitted = np.maximum(used @ parts, 1e-3)
    known = dict(zip(there, parts.tolist(), strict=True))
    return Pace(
        answers=len(rows),
        each=known[0],
        character=known.get(1),
        correction=known.get(2),
        position=known.get(3),
        spread=float(np.sqrt(np.mean((seconds / fitted - 1) ** 2))),
    )


def _sizes(label: Label, texts: Mapping[str, str]) -> tuple[float, float, float, float]:
    """1, characters, corrections and positions of an answer. Where no cuts were shown, all that
    were made count as corrections.
    """
    if label.decided is not None:
        return 1, 0, 0, len(label.decided)
    changed = len(label.cuts) if label.corrections is None else label.corrections
    return 1, len(texts[label.uid]), changed, 0
